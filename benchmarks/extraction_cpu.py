"""What reading images adds to the extraction of representations, in the same run.

A model alone, on batches that are ready in memory, beside `vitral eval`'s extraction of the same images from a packed
copy and from the folder of JPEGs. The three take turns; a figure is the median of the rounds, a ratio that to the model
alone in the same round.

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
from vitral.evals.evaluate import BATCH_SIZE, represented
from vitral.serve.predictor import Predictor


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description="What reading images adds to the extraction of representations.")
    parser.add_argument("--model", default="ViT-Ti/16")
    parser.add_argument("--images", type=int, default=256, help="500x375 pixels each (default: 256)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default: 5)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = vitral.create(options.model)
    preprocessing = Preprocessing(image_size=(224, 224), channels=3, resize="crop")
    model.card = ModelCard(preprocessing=preprocessing, classes=tuple(map(str, range(model.config.num_classes))))
    predictor = Predictor(model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photographs"
        loader_cpu.write_photographs(root, (500, 375), count=options.images)
        seconds = turns(contenders(predictor, root), rounds=options.rounds)
    print(f"{options.model}, {options.images} images of 500x375 pixels\n")
    print("| | images/s | time, of the model alone |\n|---|---|---|")
    for name, times in seconds.items():
        ratios = [mine / alone for mine, alone in zip(times, seconds["model alone"], strict=True)]
        told = f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"| {name} | {options.images / median(times):,.1f} | {told} |")


def contenders(predictor: Predictor, root: Path) -> dict[str, Callable[[], object]]:
    """What goes once through the images, by name."""
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
        return lambda: represented(predictor.extract_features, sources[name], preprocessing=preprocessing, data=data)

    return {
        "model alone": lambda: [predictor.extract_features(images) for images in ready],
        **{f"extraction, {name}": extraction(name) for name in sources},
    }


def turns(work: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each; the first turn of all is not counted."""
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
