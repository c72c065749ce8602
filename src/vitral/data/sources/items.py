"""A list of images of any kind as a source: paths, contents of files, PIL images and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.data.sources.source import Labels

__all__ = ["ItemSource"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemSource:
    """Images in a list."""

    items: Sequence[str | Path | bytes | Image.Image | np.ndarray]
    """Arrays are uint8, of shape (h w), (h w 1) or (h w 3)."""
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)

    def stored(self, index: int) -> Path | bytes | Image.Image:
        """See `Source`."""
        item = self.items[index]
        if isinstance(item, np.ndarray):
            return Image.fromarray(item[:, :, 0] if item.ndim == 3 and item.shape[2] == 1 else item)
        return Path(item) if isinstance(item, str) else item

    def name(self, index: int) -> str:
        """See `Source`."""
        item = self.items[index]
        return str(item) if isinstance(item, str | Path) else f"images[{index}]"
