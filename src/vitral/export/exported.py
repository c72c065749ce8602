"""An exported file as a model: the same images in, the same logits out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.errors import UserError
from vitral.export.metadata import ExportMetadata
from vitral.export.registry import BACKENDS

__all__ = ["ExportedModel", "is_exported", "load_exported"]


class ExportedModel(nn.Module):
    """A file that `vitral export` wrote. It computes on the CPU, wherever its images are, and cannot be trained."""

    def __init__(self, path: Path, compute: Callable[[Tensor], Tensor], metadata: ExportMetadata) -> None:
        super().__init__()
        self.path, self.compute, self.metadata = path, compute, metadata
        self.config, self.card = metadata.architecture, metadata.card

    @torch.no_grad()
    def forward(self, images: Tensor) -> Float[Tensor, "b *n outputs"]:
        """Logits of normalised images (b c h w), or of uint8 pixels (b h w c) if the file preprocesses them itself.

        Raises:
            UserError: a precision was chosen, which the file sets itself, or it takes pixels and gets images.
        """
        if self.metadata.with_preprocessing and images.is_floating_point():
            raise UserError(
                f"{self.path} resizes images itself, and here they would be resized twice: export the model without "
                "--with-preprocessing"
            )
        if torch.is_autocast_enabled("cpu"):
            raise UserError(f"{self.path} computes in {self.metadata.precision}: leave out --precision")
        return self.compute(images.cpu()).float().to(images.device)

    def features(self, images: Tensor) -> NoReturn:
        """Raises UserError: a file holds the way to its output only."""
        raise UserError(
            f"{self.path} computes {self.metadata.output} only: evaluate the model that it was exported from"
        )


def is_exported(path: str | Path) -> bool:
    """Whether a name is that of an exported file."""
    return Path(path).suffix.lower() in {backend.suffix for backend in BACKENDS.values()}


def load_exported(path: str | Path, *, image_size: int | None = None) -> ExportedModel:
    """Reads an exported file.

    Args:
        path: the file.
        image_size: height and width of images in pixels, if not the model's own.

    Raises:
        UserError: there is no such file, it is damaged or not Vitral's, or does not take images of this size.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file: name a file that vitral export wrote")
    backend = next(backend for backend in BACKENDS.values() if backend.suffix == path.suffix.lower())
    compute, metadata = backend.read(path)
    if image_size is not None and (image_size, image_size) != metadata.architecture.image_hw:
        metadata = _resized(path, metadata, (image_size, image_size))
    return ExportedModel(path, compute, metadata)


def _resized(path: Path, metadata: ExportMetadata, size: tuple[int, int]) -> ExportMetadata:
    if metadata.image_size == "fixed":
        h, w = metadata.architecture.image_hw
        raise UserError(f"{path} takes images of {h}x{w} pixels only: export it with --image-size dynamic")
    preprocessing = replace(metadata.card.preprocessing, image_size=size)
    architecture = replace(metadata.architecture, image_size=size)  # checks that whole patches fill it
    return replace(metadata, architecture=architecture, card=replace(metadata.card, preprocessing=preprocessing))
