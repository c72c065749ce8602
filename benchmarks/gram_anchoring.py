"""How much less do similarities of patches drift with Gram anchoring?

DINO with iBOT's loss trains on Fashion-MNIST in 49 patches, with the same seed without and with the Gram loss, which
begins halfway. Reported are the Gram loss between the teacher halfway and the teacher at each later time, on test
images, and the probes of the teacher at the end.

    python benchmarks/gram_anchoring.py
"""

import argparse
from copy import deepcopy
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.data.batches import EvaluationBatches
from vitral.datasets.opening import open_data
from vitral.objectives.dino import DINOConfig, DINOLearner
from vitral.objectives.gram import gram_loss
from vitral.recipes.dino import fashion_mnist_dino
from vitral.train.config import RunConfig
from vitral.train.evaluation import evaluate_split, evenly_spaced
from vitral.train.plan import Plan
from vitral.train.session import Session
from vitral.train.steps import train_steps
from vitral.vit import ViT

IMAGES, TIMES = 256, (0.625, 0.75, 0.875, 1.0)
"""Test images on which similarities are compared, and when, as fractions of the run."""


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 2.0])
    options = parser.parse_args()
    times = " | ".join(f"{time:.1%}" for time in TIMES)
    print(f"| seed | gram_weight | {times} | kNN | linear |\n|{'---|' * (len(TIMES) + 4)}")
    for seed in options.seeds:
        for weight in options.weights:
            config = with_gram(weight, seed=seed, steps=options.steps, batch_size=options.batch_size)
            print(f"| {seed} | {weight:g} | {measure(config)} |", flush=True)


def with_gram(weight: float, *, seed: int, steps: int, batch_size: int) -> RunConfig:
    """The recipe with iBOT's loss, smaller patches, and one copy of the teacher halfway."""
    recipe = fashion_mnist_dino()
    assert isinstance(recipe.objective, DINOConfig)
    local = replace(recipe.objective.crops, local_size=12)
    objective = replace(recipe.objective, crops=local, patch_weight=1.0, gram_weight=weight, gram_refresh=0.0)
    return replace(
        recipe,
        seed=seed,
        model=replace(recipe.model, architecture=replace(recipe.model.architecture, patch_size=4)),
        objective=objective,
        train=replace(recipe.train, steps=steps, batch_size=batch_size, track="none"),
    )


def measure(config: RunConfig) -> str:
    """Trains, and returns the cells of a row."""
    data = open_data(config.data)
    data["test"] = evenly_spaced(data["test"], 2000)
    config = config.resolved(num_classes=len(data["train"].classes))
    session = Session(config, classes=data["train"].classes)
    learner = session.model
    assert isinstance(learner, DINOLearner)
    some = EvaluationBatches(
        source=evenly_spaced(data["test"], IMAGES), preprocessing=session.preprocessing, batch_size=IMAGES
    )[0]
    images, plan = session.preprocessing.normalise(some.images), Plan.of(config, samples=len(data["train"]))
    halfway, drifts = None, {}
    for step in train_steps(session, data["train"], plan):
        if step.number == plan.total // 2:
            halfway = patches(learner.teacher, images)
        if halfway is not None and step.number in {round(time * plan.total) for time in TIMES}:
            drifts[step.number] = gram_loss(patches(learner.teacher, images), halfway).mean().item()
    metrics = dict(evaluate_split(session, data, "test").result.metrics())
    return " | ".join([*(f"{value:.2g}" for value in drifts.values()), *(f"{value:.1%}" for value in metrics.values())])


@torch.no_grad()
def patches(teacher: ViT, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
    """Final patch tokens."""
    return deepcopy(teacher).eval().features(images).patches


if __name__ == "__main__":
    main()
