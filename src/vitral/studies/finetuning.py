"""Fine-tuning on a few images, as on VTAB's tasks: the rate is chosen on some of them, then all are trained on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.sources import Joined, Source
from vitral.recipes.finetune import finetune
from vitral.studies.transfer import Score
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.evaluation import evaluate
from vitral.train.loop import Plan, training_batches
from vitral.train.session import Session

__all__ = ["OWN_IMAGES", "PROTOCOLS", "Protocol", "configured", "finetuned", "finetuning_score", "varied_as"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is fine-tuned on any task; SGD with momentum, cosine decay, no weight decay, clipping at 1."""

    rates: tuple[float, ...]
    """Learning rates to choose from."""
    steps: int
    batch_size: int
    image_size: int | None
    """Pixels of the sides; None: the model's own."""
    varied: bool
    """Whether training images are cut and mirrored, in tasks whose classes allow it."""


PROTOCOLS = {
    "light": Protocol(rates=(0.01, 0.03, 0.1, 0.3), steps=150, batch_size=64, image_size=None, varied=False),
    "paper": Protocol(rates=(0.01,), steps=2500, batch_size=512, image_size=384, varied=True),
}
"""One for small machines and models, which take larger rates; and the paper's for VTAB (Table 4, appendix B.1.1)."""


OWN_IMAGES = {
    **PROTOCOLS,
    "paper": Protocol(rates=(0.001, 0.003, 0.01, 0.03), steps=500, batch_size=512, image_size=384, varied=True),
}
"""The same for images of one's own, where the paper's is that of Pets and Flowers, with their rates (Table 4)."""


def configured(weights: Path, protocol: Protocol, *, fresh: bool, data: DataConfig, device: str) -> RunConfig:
    """The run that all tasks share, but for data, rate and seed.

    Images are not varied here, see `varied_as`, and tested whole, as they are trained on.

    Args:
        weights: the model, as `vitral.load` takes it.
        protocol: how to fine-tune it.
        fresh: begin with random weights of the same architecture instead.
        data: how images are read.
        device: as in `TrainConfig`.
    """
    base = finetune(weights)
    architecture = base.model.architecture
    if protocol.image_size is not None:
        architecture = replace(architecture, image_size=protocol.image_size)
    return replace(
        base,
        model=ModelSetup(weights=None if fresh else weights, architecture=architecture),
        data=DataConfig(source="folder", workers=data.workers, on_error=data.on_error),
        preprocessing=replace(base.preprocessing, resize="squash"),
        augment=AugmentConfig(),
        train=TrainConfig(batch_size=protocol.batch_size, steps=protocol.steps, device=device, track="none"),
    )


def varied_as(config: RunConfig, *, crop: bool, flip: bool) -> RunConfig:
    """The run with BiT's variation, as far as a task's classes allow it."""
    return replace(config, augment=AugmentConfig(crop="square" if crop else "none", flip=flip))


def finetuned(config: RunConfig, source: Source) -> Session:
    """Trains on a source from the configuration's weights, without a folder for the run."""
    config = config.resolved(num_classes=len(source.classes))
    session = Session(config, classes=source.classes)
    session.initialise()
    plan = Plan.of(config, samples=len(source))
    for batch in training_batches(session, source, plan.total):
        if batch.broken and config.data.on_error == "stop":
            raise ValueError(f"{batch.broken[0]}; remove it, or skip such files with --data.on-error skip")
        session.train_step(batch, lr=plan.learning_rate(session.step), progress=(session.step + 1) / plan.total)
    return session


def finetuning_score(
    config: RunConfig, splits: Mapping[str, Source], *, rates: Sequence[float], seeds: Sequence[int]
) -> Score:
    """The accuracy on the test images, for each seed, of models trained on the images of train and val together.

    Args:
        config: of `configured`.
        splits: train, val and test.
        rates: learning rates; which is best after training on train alone, is chosen on val with the first seed.
        seeds: one final training each.
    """
    start = time.perf_counter()
    best = rates[0]
    if len(rates) > 1:
        first = replace(config, seed=seeds[0])
        accuracies = {rate: _accuracy(_at(first, rate), splits["train"], splits["val"])[0] for rate in rates}
        best = max(rates, key=lambda rate: accuracies[rate])
    both = Joined(first=splits["train"], second=splits["val"])
    found = [_accuracy(replace(_at(config, best), seed=seed), both, splits["test"]) for seed in seeds]
    return Score(
        method="fine-tuned",
        values=[accuracy for accuracy, _ in found],
        num_images=found[0][1],
        seconds=time.perf_counter() - start,
    )


def _at(config: RunConfig, rate: float) -> RunConfig:
    return replace(config, optim=replace(config.optim, lr=rate))


def _accuracy(config: RunConfig, known: Source, asked: Source) -> tuple[float, int]:
    """Of a model trained on some images the accuracy on others, and their number."""
    session = finetuned(config, known)
    result = evaluate(session.predict, asked, preprocessing=session.preprocessing, data=config.data)
    return result.top1, result.num_images
