"""One task of a suite that measures what a model transfers to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitral.data.sources.source import Source

__all__ = ["TransferTask"]


@dataclass(frozen=True, kw_only=True)
class TransferTask:
    """One task of a suite: a few labelled images to learn from, a test set, and where they come from."""

    name: str
    """What commands and files call it, such as `dsprites-location`."""
    title: str
    """What tables call it, such as `dSpr-Loc`."""
    group: Literal["natural", "specialized", "structured"]
    num_classes: int
    open: Callable[[Path | None], dict[str, Source]]
    """From the folder of the data (None where the task needs none) to its splits: train (800 images), val (200), test.

    A UserError says in one sentence what is missing and where it comes from.
    """
    crop: bool = True
    """Whether parts of a training image have its class."""
    flip: bool = True
    """Whether the mirror image of a training image has its class."""
