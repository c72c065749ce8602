"""How much time does reading images add to the extraction of features?

The model alone, on batches in memory, and the feature extraction of `vitral eval` from a packed copy of the images and
from the folder of JPEGs. The three alternate; the table has medians of the rounds, and ratios to the model alone in the
same round.

    taskset -c 0 python benchmarks/extraction_cpu.py
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import loader_cpu
import torch

import vitral
from vitral.card import ModelCard
from vitral.data.batches import EvaluationBatches
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.data.tools.pack import PackConfig, pack
from vitral.datasets.opening import open_stored
from vitral.evals.features import extract_features
from vitral.evals.loop import BATCH_SIZE
from vitral.serve.predictor import Predictor


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-Ti/16")
    parser.add_argument("--images", type=int, default=256, help="500x375 pixels each (default: 256)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = vitral.create(options.model)
    preprocessing = Preprocessing(image_size=(224, 224), channels=3, resize="crop")
    model.card = ModelCard(preprocessing=preprocessing, classes=tuple(map(str, range(model.config.num_classes))))
    predictor = Predictor(model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photographs"
        loader_cpu.write_photographs(root, (500, 375), count=options.images)
        seconds = time_rounds(candidates(predictor, root), rounds=options.rounds)
    print(f"{options.model}, {options.images} images of 500x375 pixels\n")
    print("| | images/s | time, relative to the model alone |\n|---|---|---|")
    for name, times in seconds.items():
        ratios = [mine / alone for mine, alone in zip(times, seconds["model alone"], strict=True)]
        ratio = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"| {name} | {options.images / median(times):,.1f} | {ratio} |")


def candidates(predictor: Predictor, root: Path) -> dict[str, Callable[[], object]]:
    """Functions that process all images once, by name."""
    data = DataConfig(source="folder", root=root)
    packed = root.with_name("packed")
    pack(open_stored(data), packed, PackConfig(short_side=256), root=root, threads=1, advance=lambda _: None)
    sources = {
        "packed at 256": open_stored(DataConfig(source="hub", root=packed))["train"],
        "folder": open_stored(data)["train"],
    }
    preprocessing = predictor.card.preprocessing
    source = sources["packed at 256"]
    batches = EvaluationBatches(source=source, preprocessing=preprocessing, batch_size=BATCH_SIZE)
    ready = [batches[number].images for number in range(len(batches))]

    def extraction(name: str) -> Callable[[], object]:
        return lambda: extract_features(
            predictor.extract_features, sources[name], preprocessing=preprocessing, data=data
        )

    return {
        "model alone": lambda: [predictor.extract_features(images) for images in ready],
        **{f"extraction, {name}": extraction(name) for name in sources},
    }


def time_rounds(work: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each function in each round; the first round is a warmup."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, once in work.items():
            start = time.perf_counter()
            once()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
