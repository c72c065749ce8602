"""Picture of what a self-supervised model has learned: images beside its outputs."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from vitral.files import write_atomically
from vitral.objectives.objective import Panel

__all__ = ["PANELS", "draw_panels"]

PANELS = "panels.png"
"""Name of the file in a run's folder."""


def draw_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draws a row for each panel and a column for each image; nothing if there are no panels or images."""
    if not panels or not len(panels[0].images):
        return
    # imported here because Matplotlib takes a second, and only the end of a run needs it
    from matplotlib.figure import Figure

    count = len(panels[0].images)
    figure = Figure(figsize=(1.5 * count, 1.6 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), count, squeeze=False)
    for panel, row in zip(panels, grid, strict=True):
        for image, axes in zip(panel.images.numpy(), row, strict=True):
            shown = image if image.shape[2] == 3 else image.mean(2)  # of images that are no pictures, the mean
            axes.imshow(shown, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(panel.title, fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
