"""Draws train-step.png beside itself: images per second by model, from a table of benchmarks/."""

import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

TABLE = Path(__file__).parents[2] / "benchmarks" / "train_step_gpu_h100_2026-11-26.md"

COLOURS = {"timm": "#b9b9b9", "Vitral's own step": "#4c78a8"}

MODELS = ("S/16", "B/16", "L/16")


def rates() -> dict[tuple[str, str], int]:
    """Images per second by model and step, from the first table."""
    rows = re.findall(r"^\| (\S+) \| \d+ \| ([^|]+) \| ([\d,]+) \|", TABLE.read_text(), re.MULTILINE)
    return {(model, step): int(rate.replace(",", "")) for model, step, rate in rows}


def draw(path: Path) -> None:
    """Draws into a PNG."""
    figure = Figure(figsize=(6.4, 2.9), layout="constrained", dpi=100)
    axes, found = figure.add_subplot(), rates()
    for row, (step, colour) in enumerate(COLOURS.items()):
        for place, model in enumerate(MODELS):
            rate = found[model, step]
            y = place + 0.38 * row
            axes.barh(y, rate, height=0.36, color=colour, label=step if not place else None)
            ratio = "" if step == "timm" else f"  {rate / found[model, 'timm']:.2f} times"
            axes.text(rate, y, f" {rate:,}{ratio}", va="center", fontsize=9)
    axes.set_yticks([place + 0.19 for place in range(len(MODELS))], [f"ViT-{model}" for model in MODELS])
    axes.invert_yaxis()
    axes.set_xlim(right=1.3 * max(found.values()))
    axes.set_xlabel("training images per second on one H100, bfloat16, compiled, 224 pixels")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Software": ""})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("train-step.png"))
