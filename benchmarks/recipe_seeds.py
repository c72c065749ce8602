"""How accurate is a recipe, how much do seeds differ, and how long does it take?

    python benchmarks/recipe_seeds.py digits --seeds 0 1 2 3 4
    python benchmarks/recipe_seeds.py fashion-mnist --seeds 0 1 2

Runs `vitral train RECIPE` once for each seed, one after another in separate processes, and prints a Markdown table.
The time is that of the whole command: start, training, evaluation, plots.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time

import torch


def main() -> None:
    """Runs and prints; further settings of the recipe come after `--`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options, settings = parser.parse_known_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}\n")
    print("| seed | test accuracy | test loss | ECE | seconds |\n|---|---|---|---|---|")
    accuracies = []
    for seed in options.seeds:
        metrics, seconds = train(options.recipe, seed, settings)
        accuracies.append(100 * metrics["test/top1"])
        loss, ece = metrics["test/loss"], 100 * metrics["test/ece"]
        print(f"| {seed} | {accuracies[-1]:.2f} % | {loss:.4f} | {ece:.2f} % | {seconds:.0f} |", flush=True)
    spread = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    print(f"\nMean {statistics.mean(accuracies):.2f}{spread} % (standard deviation over seeds)")


def train(recipe: str, seed: int, settings: list[str]) -> tuple[dict[str, float], float]:
    """Final metrics of one run, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vitral", "train", recipe, "--seed", str(seed), "--json"]
        start = time.perf_counter()
        output = subprocess.run(
            [*command, "--out", f"{folder}/run", *settings],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        return json.loads(output), time.perf_counter() - start


if __name__ == "__main__":
    main()
