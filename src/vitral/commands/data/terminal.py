"""Pictures in the terminal."""

import logging
import sys
from pathlib import Path

__all__ = ["show_in_terminal"]

MAX_COLUMNS = 120
"""Of a terminal, for the picture."""


def show_in_terminal(picture: Path) -> None:
    """Draws the picture by the terminal's image protocol or in half blocks, where textual-image is installed."""
    # the terminal says what it can draw as if it were typed
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return
    logging.getLogger("textual_image").addHandler(logging.NullHandler())  # of terminals that do not say their size
    try:
        from textual_image.renderable import Image
    except ImportError:
        return
    from rich.console import Console

    console = Console()
    console.print(Image(picture, width=min(console.width, MAX_COLUMNS), height="auto"))
