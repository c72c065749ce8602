"""The picture of what a model without labels has learned: images side by side with what was made of them."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from vitral.files import write_atomically
from vitral.objectives.objective import Panel

__all__ = ["PANELS", "draw_panels"]

PANELS = "panels.png"
"""The picture's name in a run's folder."""


def draw_panels(panels: Sequence[Panel], path: Path) -> None:
    """Draws a row for each image and a column for each panel; nothing where there is nothing to see."""
    if not panels or not len(panels[0].images):
        return
    # imported here because Matplotlib takes a second, and a run needs it only when it ends
    from matplotlib.figure import Figure

    rows = len(panels[0].images)
    figure = Figure(figsize=(1.5 * rows, 1.6 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), rows, squeeze=False)
    for panel, places in zip(panels, grid, strict=True):
        for image, axes in zip(panel.images.numpy(), places, strict=True):
            axes.imshow(image.squeeze(2) if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        places[0].set_ylabel(panel.title, fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
