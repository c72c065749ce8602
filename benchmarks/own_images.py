"""How good is `vitral train folder` at its defaults, beside simple methods and models of timm from scratch?

Trains each folder with each seed, and on the same split timm's `vit_tiny_patch16_224` and `resnet18` with timm's
defaults (SGD, learning rate 0.05, cosine, random crops and flips at 224 pixels), for as much CPU time as that run took.
Each result is one line of a JSON Lines file, which a second call continues; at the end all are printed as a table.

    python benchmarks/own_images.py FOLDER... --minutes 10 --seeds 0 1 2 --out own_images.jsonl
    OMP_NUM_THREADS=1 python benchmarks/own_images.py FOLDER... --methods resnet18  # CPU time, so beside other work

Give one folder of classes for each data set, without splits in it; `own_images_data.py` makes some.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader, Dataset

from vitral.data.config import DataConfig
from vitral.data.sources.source import Source, read_from
from vitral.datasets.opening import open_data

PEERS = ("vit_tiny_patch16_224", "resnet18")

SIMPLE = ("majority_class", "nearest_neighbour", "logistic_regression")

WARM_UP = 2
"""Steps that are not timed."""


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Images of a source under a transform of timm."""

    def __init__(self, source: Source, *, training: bool) -> None:
        self.source = source
        self.transform: Any = create_transform(224, is_training=training)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(read_from(self.source, index, channels=3)), int(self.source.labels[index])


def children_seconds() -> float:
    """CPU time of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def train_vitral(folder: Path, *, minutes: float, seed: int) -> dict[str, Any]:
    """The figures of a default run, with the announced and the taken time."""
    with tempfile.TemporaryDirectory() as out:
        command = ["train", "folder", "--data.root", str(folder), "--minutes", str(minutes), "--seed", str(seed)]
        start, start_cpu = time.perf_counter(), children_seconds()
        done = subprocess.run(
            [sys.executable, "-m", "vitral", *command, "--out", f"{out}/run", "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        figures = json.loads(done.stdout)
        announced = next(line for line in done.stderr.splitlines() if line.startswith("length: "))
    return {
        "accuracy": figures["test/top1"],
        "baselines": figures["assessment"]["baselines"],
        "announced": announced,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": children_seconds() - start_cpu,
    }


def train_peer(name: str, folder: Path, *, seconds: float, seed: int) -> dict[str, Any]:
    """The test accuracy of a model of timm from scratch, after about so many seconds of the process's CPU time."""
    torch.manual_seed(seed)
    data = open_data(DataConfig(source="folder", root=folder))
    model = timm.create_model(name, num_classes=len(data["train"].classes))
    loader = DataLoader(Images(data["train"], training=True), batch_size=64, shuffle=True, drop_last=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=2e-5, nesterov=True)
    schedule, taken, total, start = None, 0, 0, time.process_time()
    while not total or taken < total:
        for images, labels in loader:
            F.cross_entropy(model.train()(images), labels).backward()
            optimiser.step()
            optimiser.zero_grad()
            taken += 1
            if taken == WARM_UP:
                start = time.process_time()
            if taken == 3 * WARM_UP:
                total = max(int(seconds / ((time.process_time() - start) / (2 * WARM_UP))), taken)
                schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
            if schedule:
                schedule.step()
            if total and taken >= total:
                break
    return {"accuracy": accuracy(model, data["test"]), "steps": taken, "cpu_seconds": time.process_time() - start}


@torch.no_grad()
def accuracy(model: torch.nn.Module, source: Source) -> float:
    """The fraction of the images that a model classifies correctly."""
    loader = DataLoader(Images(source, training=False), batch_size=64)
    return sum(int((model.eval()(images).argmax(1) == labels).sum()) for images, labels in loader) / len(source)


def read_results(out: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Each result by folder, method and seed."""
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return {(line["folder"], line["method"], line["seed"]): line for line in lines}


def table(results: dict[tuple[str, str, int], dict[str, Any]]) -> str:
    """Mean accuracy over seeds, the best simple method, and the time taken."""
    rows = ["| images | method | seeds | accuracy | best simple method | minutes | CPU minutes |", "|" + "---|" * 7]
    for folder, method in dict.fromkeys(key[:2] for key in results):
        of = [line for key, line in results.items() if key[:2] == (folder, method)]
        values = [100 * line["accuracy"] for line in of]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        simple = [100 * max(line["baselines"][name] for name in SIMPLE) for line in of if "baselines" in line]
        minutes, cpu = ([line[name] / 60 for line in of if name in line] for name in ("seconds", "cpu_seconds"))
        cells = (f"{statistics.fmean(some):.1f}" if some else "" for some in (simple, minutes, cpu))
        accuracy = f"{statistics.fmean(values):.1f}{spread}"
        rows.append(f"| {folder} | {method} | {len(of)} | {accuracy} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    """Runs what the file of results does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["vitral", *PEERS], choices=["vitral", *PEERS])
    parser.add_argument("--out", type=Path, default=Path("own_images.jsonl"))
    options = parser.parse_args()
    for seed in options.seeds:
        for folder in options.folders:
            for method in options.methods:
                done = read_results(options.out)
                if (folder.name, method, seed) in done:
                    continue
                if method == "vitral":
                    result = train_vitral(folder, minutes=options.minutes, seed=seed)
                elif (ours := done.get((folder.name, "vitral", seed))) is None:
                    continue  # its CPU time is not known yet
                else:
                    result = train_peer(method, folder, seconds=ours["cpu_seconds"], seed=seed)
                line = {"folder": folder.name, "method": method, "seed": seed, "minutes": options.minutes, **result}
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(folder.name, method, seed, f"{result['accuracy']:.1%}", flush=True)
    print(table(read_results(options.out)))


if __name__ == "__main__":
    main()
