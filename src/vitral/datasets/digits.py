"""scikit-learn's handwritten digits: 1797 grey images of 8x8 pixels that need no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from vitral.data.config import DataConfig
from vitral.data.sources.source import ArraySource, Source
from vitral.errors import UserError

__all__ = ["digits", "open_digits"]


def digits() -> tuple[UInt8[np.ndarray, "n 8 8"], Int64[np.ndarray, " n"]]:
    """Images and labels; the original 17 shades, 0 to 16, spread over 0 to 255.

    Its file is read without importing scikit-learn, which takes longer than all else before the first step.
    """
    package = find_spec("sklearn")
    assert package is not None, "scikit-learn is installed with Vitral"
    assert package.origin is not None
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    values, labels = table[:, :-1], table[:, -1]
    return np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, 8, 8), labels.astype(np.int64)


def open_digits(config: DataConfig) -> dict[str, Source]:
    """scikit-learn's digits."""
    if config.root is not None:
        raise UserError(
            "--data.source digits comes with its images: "
            "leave out --data.root, or choose --data.source folder or --data.source idx"
        )
    images, labels = digits()
    classes = config.class_names or tuple(map(str, range(10)))
    if len(classes) != 10:
        raise UserError(f"--data.class-names needs 10 names for the digits, not {len(classes)}")
    return {"train": ArraySource(title="digits", images=images, labels=labels, classes=classes)}
