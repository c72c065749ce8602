"""Reading images, for code written when `vitral.data.images.decode` was here."""

from vitral.data.images.decode import UnreadableImage, read_image

__all__ = ["UnreadableImage", "read_image"]
