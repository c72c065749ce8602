"""How much does self-supervised pre-training improve accuracy on Fashion-MNIST with 1,000 labels?

Each objective pre-trains on 60,000 images for the same number of steps, then all models are fine-tuned for the same
number of steps. Baselines are two models from scratch (with the same settings, and with those that are best from
scratch), and probes of random weights and raw pixels.

    python benchmarks/self_supervision.py --out runs/self-supervision
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.datasets.opening import open_data
from vitral.evals.features import extract_features
from vitral.evals.probe import Probe, probe
from vitral.models import build
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.train.evaluation import MAX_PROBE_IMAGES, evenly_spaced

PRETRAINED = {
    "masked patch, mean colour": ["fashion-mnist-masked-patch", "--objective.target", "mean_colour"],
    "masked patch, 4x4 colours": ["fashion-mnist-masked-patch"],
    "masked patch, pixels": ["fashion-mnist-masked-patch", "--objective.target", "pixels"],
    "MAE": ["fashion-mnist-mae"],
    "DINO": ["fashion-mnist-dino"],
}
FINETUNED = ["--optim.name", "adamw", "--optim.lr", "3e-3", "--optim.layer-decay", "0.75"]
SCRATCH = {"from scratch, the same settings": FINETUNED[:4], "from scratch, its own settings": []}


def main() -> None:
    """Prints a Markdown table; existing runs are read, not repeated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/self-supervision"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain", type=int, default=2000, help="steps without labels (default: 2000)")
    parser.add_argument("--finetune", type=int, default=500, help="steps on 1,000 labels (default: 500)")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        for name, recipe in PRETRAINED.items():
            before = options.out / f"{slug(name)}-{seed}"
            frozen = train(before, recipe, seed, options.pretrain)
            after = finetune(before.with_name(f"{before.name}-finetuned"), seed, options.finetune, before, FINETUNED)
            rows.setdefault(name, []).append({**frozen, **after})
        for name, settings in SCRATCH.items():
            out = options.out / f"{slug(name)}-{seed}"
            rows.setdefault(name, []).append(finetune(out, seed, options.finetune, None, settings))
        for name, encode in baselines(seed).items():
            rows.setdefault(name, []).append({f"test/{key}": value for key, value in evaluate_probes(encode).metrics()})
    print("| pre-training | 1,000 labels, fine-tuned | frozen, kNN | frozen, linear |\n|---|---|---|---|")
    for name, metrics in rows.items():
        cells = [
            format_percent([row[key] for row in metrics if key in row])
            for key in ("test/top1", "test/knn", "test/linear")
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def train(out: Path, recipe: list[str], seed: int, steps: int) -> dict[str, float]:
    """The final metrics of a run."""
    words = [*recipe, "--seed", str(seed), "--train.steps", str(steps), "--train.evaluate", f"{steps}steps"]
    command = [sys.executable, "-m", "vitral", "train", *words, "--out", str(out), "--or-resume", "--json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {key: value for key, value in json.loads(output).items() if key != "run"}


def finetune(out: Path, seed: int, steps: int, weights: Path | None, settings: list[str]) -> dict[str, float]:
    """The final metrics of a run on 1,000 labels."""
    start = [] if weights is None else ["--model.weights", str(weights)]
    return train(out, ["fashion-mnist", "--data.limit", "1000", *settings, *start], seed, steps)


def baselines(seed: int) -> dict[str, Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]]]:
    """Features without training, by name."""
    config = fashion_mnist()
    torch.manual_seed(seed)
    model = build(config.model.architecture).eval()

    def random(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
        return model.features(config.preprocessing.normalise(images)).pooled

    return {"random weights": random, "raw pixels": lambda images: images.flatten(1).float()}


def evaluate_probes(encode: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]]) -> Probe:
    """kNN and linear probe, with as many labels as in the evaluation of runs."""
    config = fashion_mnist()
    data = open_data(config.data)
    train_features, test_features = (
        extract_features(encode, source, preprocessing=config.preprocessing, data=config.data)
        for source in (evenly_spaced(data["train"], MAX_PROBE_IMAGES), data["test"])
    )
    return probe(train_features, test_features, num_classes=10)


def format_percent(values: list[float]) -> str:
    """Mean and standard deviation in percent; a dash if there are no values."""
    if not values:
        return "-"
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f}" if len(values) > 1 else f"{100 * values[0]:.2f}"


def slug(name: str) -> str:
    """A name as the name of a folder."""
    return name.replace(",", "").replace(" ", "-").lower()


if __name__ == "__main__":
    main()
