"""What learning without labels is worth on Fashion-MNIST: pre-trained on 60,000 images, fine-tuned on 1,000 labels.

Each objective pre-trains for the same steps, is fine-tuned for the same steps as two models from scratch (with the same
settings, and with those that are best from scratch), and is probed frozen beside random weights and raw pixels.

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
from vitral.evals.evaluate import represented
from vitral.evals.probe import Probe, probe
from vitral.models import build
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.train.evaluation import KNOWN, evenly

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
    """Prints a Markdown table; runs that are there already are read, not repeated."""
    parser = argparse.ArgumentParser(description="What learning without labels is worth on Fashion-MNIST.")
    parser.add_argument("--out", type=Path, default=Path("runs/self-supervision"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pretrain", type=int, default=2000, help="steps without labels (default: 2000)")
    parser.add_argument("--finetune", type=int, default=500, help="steps on 1,000 labels (default: 500)")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        for name, recipe in PRETRAINED.items():
            before = options.out / f"{slug(name)}-{seed}"
            frozen = trained(before, recipe, seed, options.pretrain)
            after = finetuned(before.with_name(f"{before.name}-finetuned"), seed, options.finetune, before, FINETUNED)
            rows.setdefault(name, []).append({**frozen, **after})
        for name, settings in SCRATCH.items():
            out = options.out / f"{slug(name)}-{seed}"
            rows.setdefault(name, []).append(finetuned(out, seed, options.finetune, None, settings))
        for name, encode in baselines(seed).items():
            rows.setdefault(name, []).append({f"test/{key}": value for key, value in probed(encode).metrics()})
    print("| learned from | 1,000 labels, fine-tuned | frozen, kNN | frozen, linear |\n|---|---|---|---|")
    for name, figures in rows.items():
        cells = [told([row[key] for row in figures if key in row]) for key in ("test/top1", "test/knn", "test/linear")]
        print(f"| {name} | {' | '.join(cells)} |")


def trained(out: Path, recipe: list[str], seed: int, steps: int) -> dict[str, float]:
    """The final figures of a run."""
    words = [*recipe, "--seed", str(seed), "--train.steps", str(steps), "--train.evaluate", f"{steps}steps"]
    command = [sys.executable, "-m", "vitral", "train", *words, "--out", str(out), "--or-resume", "--json"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {key: value for key, value in json.loads(said).items() if key != "run"}


def finetuned(out: Path, seed: int, steps: int, weights: Path | None, settings: list[str]) -> dict[str, float]:
    """The final figures of a run on 1,000 labels."""
    start = [] if weights is None else ["--model.weights", str(weights)]
    return trained(out, ["fashion-mnist", "--data.limit", "1000", *settings, *start], seed, steps)


def baselines(seed: int) -> dict[str, Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]]]:
    """What did not learn."""
    config = fashion_mnist()
    torch.manual_seed(seed)
    model = build(config.model.architecture).eval()

    def random(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
        return model.features(config.preprocessing.normalise(images)).pooled

    return {"random weights": random, "raw pixels": lambda images: images.flatten(1).float()}


def probed(encode: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]]) -> Probe:
    """kNN and linear probe, from as many labels as runs probe themselves with."""
    config = fashion_mnist()
    data = open_data(config.data)
    known, asked = (
        represented(encode, source, preprocessing=config.preprocessing, data=config.data)
        for source in (evenly(data["train"], KNOWN), data["test"])
    )
    return probe(known, asked, num_classes=10)


def told(values: list[float]) -> str:
    """Mean and deviation in percent; a dash where nothing was measured."""
    if not values:
        return "-"
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f}" if len(values) > 1 else f"{100 * values[0]:.2f}"


def slug(name: str) -> str:
    """A folder's name."""
    return name.replace(",", "").replace(" ", "-").lower()


if __name__ == "__main__":
    main()
