"""scikit-learn's handwritten digits: 1797 grey images of 8x8 pixels that need no download."""

import numpy as np
from jaxtyping import Int64, UInt8

__all__ = ["digits"]


def digits() -> tuple[UInt8[np.ndarray, "n 8 8"], Int64[np.ndarray, " n"]]:
    """Images and labels; the original 17 shades, 0 to 16, spread over 0 to 255."""
    # imported here because scikit-learn takes a second, and only this data needs it
    from sklearn.datasets import load_digits

    values, labels = map(np.asarray, load_digits(return_X_y=True))
    return np.rint(values * 255 / 16).astype(np.uint8).reshape(-1, 8, 8), labels.astype(np.int64)
