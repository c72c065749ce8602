"""What a training step learns from: images in the model's range with their labels, after augmentation."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

__all__ = ["UNREADABLE", "Examples"]

UNREADABLE = -100
"""Label of an image that could not be read: losses and metrics leave it out, and nothing is mixed with it."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Images and labels of one step, or of a part of it; where images are mixed, each has two labels."""

    images: Float[Tensor, "b c h w"]
    labels: Int64[Tensor, " b"]
    """Class of each image, or UNREADABLE."""
    partners: Int64[Tensor, " b"] | None = None
    """Class of the image that was mixed into each; None where nothing was mixed."""
    shares: Float32[Tensor, " b"] | None = None
    """How much of each is its own image: the weight of its label, the rest is the partner's."""

    def __post_init__(self) -> None:
        assert (self.partners is None) == (self.shares is None), "partners come with shares"

    @property
    def counted(self) -> Bool[Tensor, " b"]:
        """Which images could be read."""
        return self.labels != UNREADABLE

    def chunk(self, parts: int) -> "list[Examples]":
        """As many even parts, one after another."""
        assert len(self.labels) % parts == 0, (len(self.labels), parts)
        cut = zip(self.images.chunk(parts), self.labels.chunk(parts), strict=True)
        if self.partners is None or self.shares is None:
            return [Examples(images=images, labels=labels) for images, labels in cut]
        mixed = zip(cut, self.partners.chunk(parts), self.shares.chunk(parts), strict=True)
        return [
            Examples(images=images, labels=labels, partners=partners, shares=shares)
            for (images, labels), partners, shares in mixed
        ]
