"""scikit-learn's handwritten digits: 1797 grey images of 8x8 pixels that need no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

__all__ = ["digits"]


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
