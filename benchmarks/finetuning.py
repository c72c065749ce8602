"""How much does pre-training on another data set improve accuracy with few labels?

Digits, resized to 28x28, with 100 labels: from a model of Fashion-MNIST, and from scratch. For each, one seed selects
the optimiser and the learning rate on validation images; then three seeds are trained with these on the same labels and
evaluated on the test images.

    vitral train fashion-mnist --train.epochs 4 --out runs/fashion
    python benchmarks/finetuning.py runs/fashion

prints a Markdown table of all settings. Existing runs are read, not repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

STEPS, BATCH, VALIDATION = 300, 50, 0.2
SETTINGS = [("sgd", lr) for lr in ("0.003", "0.01", "0.03", "0.1")] + [("muon", lr) for lr in ("0.003", "0.01", "0.03")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="a run of fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"), help="folder of the runs")
    parser.add_argument("--labels", type=int, default=100, help="images to learn from (default: 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    print("| start | optimiser | rate | validation | test |\n|---|---|---|---|---|")
    for start, weights in (("fine-tuned", options.weights), ("from scratch", None)):
        trials = {setting: final_metrics(options, start, weights, setting, seed=0)["val/top1"] for setting in SETTINGS}
        best = max(trials, key=lambda setting: trials[setting])
        tests = [100 * final_metrics(options, start, weights, best, seed=seed)["test/top1"] for seed in options.seeds]
        for (optimiser, lr), accuracy in trials.items():
            test = f"**{mean(tests):.2f} ± {stdev(tests):.2f} %**" if (optimiser, lr) == best else ""
            print(f"| {start} | {optimiser} | {lr} | {accuracy:.2%} | {test} |", flush=True)


def final_metrics(
    options: argparse.Namespace, start: str, weights: Path | None, setting: tuple[str, str], *, seed: int
) -> dict[str, float]:
    """The final test accuracy and validation accuracy of one run."""
    optimiser, lr = setting
    out = options.out / f"{start.replace(' ', '-')}-{options.labels}-{optimiser}-{lr}-{seed}"
    command = [
        *(sys.executable, "-m", "vitral", "train", "fashion-mnist", "--out", out, "--or-resume", "--json"),
        *("--data.source", "digits", "--data.root", "None", "--data.val-fraction", VALIDATION),
        *("--data.limit", options.labels, "--data.workers", 0, "--augment.no-flip", "--augment.shift", 2),
        *("--optim.name", optimiser, "--optim.lr", lr, "--train.batch-size", BATCH, "--train.steps", STEPS),
        *("--train.evaluate", f"{STEPS}steps", "--train.track", "none", "--seed", seed),
        *(() if weights is None else ("--model.weights", weights)),
    ]
    output = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    accuracies = [line["val/top1"] for line in lines if "val/top1" in line]
    return {"val/top1": accuracies[-1], "test/top1": json.loads(output)["test/top1"]}


if __name__ == "__main__":
    main()
