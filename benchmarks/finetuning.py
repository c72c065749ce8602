"""What is a model worth that was trained on another data set, where labels are few?

Digits, enlarged to 28x28, with 100 labels: from a model of Fashion-MNIST, and from scratch. Either start gets the
optimiser and the rate that do best for it on validation images, tried with one seed; then three seeds are trained with
these on the same labels and measured on the test images.

    vitral train fashion-mnist --train.epochs 4 --out runs/fashion
    python benchmarks/finetuning.py runs/fashion

prints a Markdown table of all that was tried. Runs that are there already are read, not repeated.
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
    parser = argparse.ArgumentParser(description="Fine-tuning beside training from scratch on few labels.")
    parser.add_argument("weights", type=Path, help="a run of fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"), help="folder of the runs")
    parser.add_argument("--labels", type=int, default=100, help="images to learn from (default: 100)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    print("| start | optimiser | rate | validation | test |\n|---|---|---|---|---|")
    for start, weights in (("fine-tuned", options.weights), ("from scratch", None)):
        tried = {setting: figures(options, start, weights, setting, seed=0)["val/top1"] for setting in SETTINGS}
        best = max(tried, key=lambda setting: tried[setting])
        tests = [100 * figures(options, start, weights, best, seed=seed)["test/top1"] for seed in options.seeds]
        for (optimiser, lr), accuracy in tried.items():
            test = f"**{mean(tests):.2f} ± {stdev(tests):.2f} %**" if (optimiser, lr) == best else ""
            print(f"| {start} | {optimiser} | {lr} | {accuracy:.2%} | {test} |", flush=True)


def figures(
    options: argparse.Namespace, start: str, weights: Path | None, setting: tuple[str, str], *, seed: int
) -> dict[str, float]:
    """The final figures of one run, validation's too."""
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
    said = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    measured = [line["val/top1"] for line in lines if "val/top1" in line]
    return {"val/top1": measured[-1], "test/top1": json.loads(said)["test/top1"]}


if __name__ == "__main__":
    main()
