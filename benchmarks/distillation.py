"""How much does distillation from a convolutional teacher improve a small ViT on Fashion-MNIST?

    python benchmarks/distillation.py --out runs/distillation

Trains a BiT ResNet, then the same small ViT with labels only and with several forms of distillation, for the same
number of steps and with each seed, and prints a Markdown table.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

TEACHER = [
    *("fashion-mnist", "--model.name", "BiT-R50x1", "--model.stages", "2", "2", "1", "--model.root-width", "32"),
    *("--optim.name", "adamw", "--optim.lr", "3e-3"),
]
ONE_HEAD = ["--model.no-distillation"]
STUDENTS = {
    "labels alone": ["fashion-mnist", "--model.pool", "cls"],
    "hard, with the token": ["fashion-mnist-distilled"],
    "hard, one head": ["fashion-mnist-distilled", *ONE_HEAD],
    "soft, one head, share 0.1, temperature 3": [
        *("fashion-mnist-distilled", *ONE_HEAD),
        *("--objective.form", "soft", "--objective.teacher-weight", "0.1"),
    ],
    "soft, one head, teacher alone, temperature 3": [
        *("fashion-mnist-distilled", *ONE_HEAD),
        *("--objective.form", "soft", "--objective.teacher-weight", "1.0"),
    ],
}


def main() -> None:
    """Trains and prints; existing runs are read, not repeated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/distillation"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=float, default=2.0, help="of each student (default: 2)")
    parser.add_argument("--teacher-epochs", type=float, default=3.0, help="of the teacher (default: 3)")
    options = parser.parse_args()
    teacher = options.out / "teacher"
    accuracy = train(teacher, TEACHER, seed=0, epochs=options.teacher_epochs)
    print(f"teacher: {100 * accuracy:.2f} %\n\n| training | each seed | mean |\n|---|---|---|", flush=True)
    for number, (name, words) in enumerate(STUDENTS.items()):
        distill = ["--objective.teacher", str(teacher)] if "fashion-mnist-distilled" in words else []
        accuracies = [
            100 * train(options.out / f"{number}-{seed}", [*words, *distill], seed=seed, epochs=options.epochs)
            for seed in options.seeds
        ]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
        each = ", ".join(f"{value:.2f}" for value in accuracies)
        print(f"| {name} | {each} | {statistics.mean(accuracies):.2f}{spread} % |", flush=True)


def train(out: Path, words: list[str], *, seed: int, epochs: float) -> float:
    """The test accuracy of one run."""
    settings = ["--seed", str(seed), "--train.epochs", str(epochs), "--train.evaluate", "100epochs"]
    command = [sys.executable, "-m", "vitral", "train", *words, *settings, "--out", str(out), "--or-resume", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["test/top1"]


if __name__ == "__main__":
    main()
