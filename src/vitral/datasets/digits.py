"""scikit-learn's handwritten digits: 1797 grey images of 8x8 pixels that need no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from vitral.data.sources.source import ArraySource, Source

__all__ = ["digits", "open_digits"]


def digits() -> tuple[UInt8[np.ndarray, "n 8 8"], Int64[np.ndarray, " n"]]:
    """Images and labels. The original values 0 to 16 are scaled to 0 to 255.

    The file is read without importing scikit-learn, whose import takes longer than everything else before the first
    step.
    """
    package = find_spec("sklearn")
    assert package is not None, "scikit-learn is installed with Vitral"
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    values, labels = table[:, :-1], table[:, -1]
    return np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, 8, 8), labels.astype(np.int64)


def open_digits(root: None = None) -> dict[str, Source]:
    """All images as the training split; there is no folder to read."""
    images, labels = digits()
    return {"train": ArraySource(title="digits", images=images, labels=labels, classes=tuple("0123456789"))}
