"""Scatter plot of predicted numbers over true ones."""

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from vitral.evals.regression import evaluate_numbers
from vitral.evals.target_predictions import TargetPredictions
from vitral.files import font_fallback, printable, write_atomically

__all__ = ["draw_scatter"]

BLUE, GREY = "#3b75af", "#999999"

MAX_SOLID = 200
"""With more images, points are translucent."""


@font_fallback()
def draw_scatter(found: TargetPredictions, name: str, path: Path) -> None:
    """Draws a point for each image, and the line of perfect predictions, into a PNG.

    Args:
        found: predicted and true numbers.
        name: of what the numbers are.
        path: the file.

    Raises:
        OSError: the file cannot be written.
    """
    truth, predicted = found.truth[:, 0].numpy(), found.outputs[:, 0].numpy()
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    figure = Figure(figsize=(5.4, 5.6), layout="constrained")
    axes = figure.add_subplot()
    alpha = 0.8 if len(truth) <= MAX_SOLID else 0.35
    axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1)
    axes.scatter(truth, predicted, s=12, color=BLUE, alpha=alpha, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(f"{evaluate_numbers(found).headline()}, {len(truth):,} images", loc="left", fontsize=11)
    axes.set_xlabel(f"true {printable(name)}", parse_math=False)
    axes.set_ylabel(f"predicted {printable(name)}", parse_math=False)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
