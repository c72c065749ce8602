"""How much accuracy does token merging cost, and how much speed does it give?

A trained model on its test images, if you name one, and ViT-S/16 with random weights, with so many pairs merged in each
block. One thread, whose CPU time counts; all contenders take turns, and the table has the median of the rounds.

    python benchmarks/token_merging.py runs/fashion-mnist
"""

import argparse
import copy
import os
import time
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import Tensor

import vitral
from vitral.datasets.opening import open_data
from vitral.runs.run import Run
from vitral.serve.predictor import Predictor
from vitral.token_merging import merge_tokens
from vitral.train.config import read_run_config
from vitral.vit import ViT

BATCH = {"trained": 64, "ViT-S/16": 2}


def main() -> None:
    """Prints two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="folder of a trained model")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 2, 4, 6, 8, 12], help="merged in every block")
    parser.add_argument("--images", type=int, default=10_000, help="test images at most (default: 10000)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.run is not None:
        print_accuracies(options)
    large = vitral.create("ViT-S/16", num_classes=1000).eval()
    assert isinstance(large, ViT)
    seconds = time_rounds(merged(large, [4, 8, 13, 16]), batch=BATCH["ViT-S/16"], rounds=options.rounds)
    print("\n| pairs | patches left, of 196 | images/s | speed |\n|--:|--:|--:|--:|")
    for pairs in seconds:
        print(row(large, pairs, seconds, batch=BATCH["ViT-S/16"]), flush=True)


def print_accuracies(options: argparse.Namespace) -> None:
    """The table of a trained model."""
    trained = vitral.load(options.run).eval()
    variants = merged(trained, options.pairs)
    seconds = time_rounds(variants, batch=BATCH["trained"], rounds=options.rounds)
    images, labels = test_images(options.run, count=options.images)
    rows, columns = trained.config.grid
    print(f"| pairs | patches left, of {rows * columns} | top-1 | images/s | speed |")
    print("|--:|--:|--:|--:|--:|")
    for pairs, model in variants.items():
        predictor = Predictor(model)
        found = torch.cat([predictor.logits(part).argmax(-1) for part in images.split(BATCH["trained"])])
        accuracy = f"{(found == labels).double().mean():.2%}"
        print(row(trained, pairs, seconds, batch=BATCH["trained"], accuracy=accuracy), flush=True)


def test_images(run: Path, *, count: int) -> tuple[Tensor, Tensor]:
    """The first test images of a run, as its model takes them, and their classes."""
    source = open_data(read_run_config(Run.open(run)).data)["test"]
    card = vitral.load(run).card
    assert card is not None
    count = min(count, len(source))
    stored = [card.preprocessing.read(source.stored(number), name=source.name(number)) for number in range(count)]
    pixels = np.stack([card.preprocessing.pixels(image) for image in stored])
    return torch.from_numpy(pixels), torch.from_numpy(source.labels[:count])


def merged(model: ViT, choices: list[int]) -> dict[int, ViT]:
    """The model as it is, under 0, and with each number of pairs merged in every block; all share the weights."""
    variants = {0: model}
    for pairs in choices:
        variants[pairs] = copy.copy(model)
        merge_tokens(variants[pairs], pairs)
    return variants


@torch.inference_mode()
def time_rounds(variants: dict[int, ViT], *, batch: int, rounds: int) -> dict[int, list[float]]:
    """CPU seconds of a batch, in each round; a first round is a warmup."""
    config = variants[0].config
    images = torch.randn(batch, config.channels, *config.image_hw)
    seconds: dict[int, list[float]] = {pairs: [] for pairs in variants}
    for number in range(rounds + 1):
        for pairs, model in variants.items():
            start = time.process_time()
            model(images)
            if number:
                seconds[pairs].append(time.process_time() - start)
    return seconds


def row(model: ViT, pairs: int, seconds: dict[int, list[float]], *, batch: int, accuracy: str = "") -> str:
    """A line of a table."""
    left = model.config.grid[0] * model.config.grid[1]
    for _ in range(model.config.depth if model.config.pool != "cls" else model.config.depth - 1):
        left -= min(pairs, left // 2)
    speed = median(plain / own for plain, own in zip(seconds[0], seconds[pairs], strict=True))
    cells = [str(pairs), str(left), accuracy, f"{batch / median(seconds[pairs]):,.1f}", f"{speed:.2f}"]
    return f"| {' | '.join(filter(None, cells))} |"


if __name__ == "__main__":
    main()
