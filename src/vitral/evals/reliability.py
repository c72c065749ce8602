"""Reliability diagram of a classifier's calibration."""

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from vitral.evals.calibration import Calibration
from vitral.files import write_atomically

__all__ = ["draw_reliability"]

BLUE, RED, GREY = "#3b75af", "#c44e52", "#999999"


def draw_reliability(result: Calibration, path: Path) -> None:
    """Draws the accuracy and the gap to the confidence of each bin, and a histogram of the confidences, into a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    bins, total = len(result.counts), int(result.counts.sum())
    lefts = [number / bins for number in range(bins)]
    figure = Figure(figsize=(5.4, 6.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    accuracy, confidence = result.accuracy.nan_to_num().numpy(), result.confidence.nan_to_num().numpy()
    bars = dict(width=1 / bins, align="edge", linewidth=0.8)
    above.bar(lefts, accuracy, color=BLUE, edgecolor="white", label="accuracy", **bars)
    above.bar(
        lefts,
        confidence - accuracy,
        bottom=accuracy,
        color=RED,
        alpha=0.35,
        edgecolor=RED,
        label="gap to the confidence",
        **bars,
    )
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    above.set_ylim(0, 1)
    above.set_ylabel("accuracy")
    above.set_title(f"expected calibration error {result.error:.4f}, {total:,} images", loc="left", fontsize=11)
    above.legend(frameon=False, loc="upper left")
    below.bar(lefts, (result.counts / total).numpy(), color=GREY, edgecolor="white", **bars)
    below.set_ylabel("fraction of images")
    below.set_xlabel("confidence: probability of the predicted class")
    below.set_xlim(0, 1)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(lambda fraction, _: f"{fraction:.0%}")
        axes.xaxis.set_major_formatter(lambda fraction, _: f"{fraction:.0%}")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
