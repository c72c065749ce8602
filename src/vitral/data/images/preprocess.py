"""Preprocessing from an image to a model's input, the same in training, evaluation, export and serving."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
import tyro
from einops import rearrange
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from vitral.data.images.bands import MAX_CHANNELS, BandImage, read_bands, to_picture
from vitral.data.images.decode import MODES, read_image
from vitral.data.images.patch_rows import MAX_PATCHES, PLACE, Images, fit_grid, to_patch_rows
from vitral.errors import UserError

__all__ = ["AnyImage", "PixelBatch", "Pixels", "Preprocessing"]

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

MARGIN = 4
"""Pixels of reflection padding around a simple random crop."""

DEVIATIONS = 3
"""Standard deviations around the mean of a channel that the range 0 to 1 covers, for images of any channels."""

LEAST_CROP = 0.01
"""Smallest fraction of an image that a centre crop leaves."""
MOST_VALUE = 1e15
"""Largest mean, and largest and smallest scale: the quotient of two such numbers still fits into float32."""
ROUNDING = 1e-6
"""Pixels that are added before rounding down: a ratio such as 224 / 248 gives 248 pixels in spite of its rounding."""

Box = tuple[float, float, float, float]

AnyImage: TypeAlias = Image.Image | BandImage
"""An image as it is read."""

Pixels: TypeAlias = UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"]
"""An image at the model's size: bytes of pictures, values of images of any channels."""

PixelBatch: TypeAlias = UInt8[Tensor, "b h w c"] | Float32[Tensor, "b h w c"]
"""Images at the model's size, of the same kind."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a model's input; saved with the model's weights.

    Raises:
        UserError: a value is out of range.
    """

    image_size: tyro.conf.Suppress[tuple[int, int]]
    """Height and width of the input, in pixels; set from the model, so it has no flag."""
    channels: tyro.conf.Suppress[int]
    """1 for grey, 3 for colour; set from the model like the size."""
    bands: tyro.conf.Suppress[bool] = False
    """Whether images are no pictures but have any number of channels, whose values are kept: see `--data.channels`."""
    resize: Literal["squash", "crop", "squash_crop", "native_aspect"] = "squash"
    """`squash`: the whole image is resized to the input's size. `crop`: centre crop that preserves the aspect ratio.
    `squash_crop`: centre crop of the squashed image. `native_aspect`: the whole image keeps its aspect ratio, at the
    size at which it has at most `max_patches` patches; shorter sequences are padded (NaFlex).
    """
    max_patches: int | None = None
    """With native_aspect: patches of an image at most; None: those of the model's image size."""
    patch_size: tyro.conf.Suppress[tuple[int, int] | None] = None
    """With native_aspect: height and width of a patch; set from the model."""
    crop_ratio: float = 0.875
    """With a crop: the input's fraction of the resized short side; 0.875 crops 224 of 256 pixels."""
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    """Filter of the resize, antialiased."""
    mean: tuple[float, ...] = (0.5,)
    """Subtracted from values in 0..1: one number, or one per channel. With --data.channels, subtracted from the values
    in the files; without numbers, the mean of each channel of the training images.
    """
    std: tuple[float, ...] = (0.5,)
    """Divides the result: one number, or one per channel; without numbers, the standard deviation, like the mean."""

    def __post_init__(self) -> None:
        if min(self.image_size) < 1:
            raise UserError(f"image_size must be at least 1x1 pixels, not {self.image_size}")
        if self.bands and not 1 <= self.channels <= MAX_CHANNELS:
            raise UserError(f"--data.channels must be from 1 to {MAX_CHANNELS}, not {self.channels}")
        if not self.bands and self.channels not in MODES:
            raise UserError(
                f"channels must be 1 (grey) or 3 (colour), not {self.channels}: for images that are no pictures, give "
                "--data.channels"
            )
        if self.max_patches is not None and not 1 <= self.max_patches <= MAX_PATCHES:
            raise UserError(f"--preprocessing.max-patches must be from 1 to {MAX_PATCHES}, not {self.max_patches}")
        if not 0 < self.crop_ratio <= 1:
            raise UserError(f"crop_ratio must be above 0 and at most 1, not {self.crop_ratio}")
        if self.crop_ratio < LEAST_CROP:
            raise UserError(f"crop_ratio must be at least {LEAST_CROP}, not {self.crop_ratio}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels) and not (self.bands and not values):
                raise UserError(f"{name} takes one number or one for each of {self.channels} channels, not {values}")
            if not all(math.isfinite(value) for value in values):
                raise UserError(f"{name} must be finite, not {values}")
        if bool(self.mean) != bool(self.std):
            raise UserError("mean and std go together: give both --preprocessing.mean and --preprocessing.std")
        if min(self.std, default=1) <= 0:
            raise UserError(f"std must be above 0, not {self.std}")
        fit = all(1 / MOST_VALUE <= value <= MOST_VALUE for value in self.std)
        if max(map(abs, self.mean), default=0) > MOST_VALUE or not fit:
            raise UserError(
                f"mean must be at most {MOST_VALUE:g}, and std from {1 / MOST_VALUE:g} to that, because float32 holds "
                f"no images normalised with mean {self.mean} and std {self.std}"
            )

    def with_input(
        self, *, image_size: tuple[int, int], channels: int, patch_size: tuple[int, int] | None = None
    ) -> "Preprocessing":
        """The same preprocessing for another input; if the channels change, mean and std are averaged over channels.

        Args:
            image_size: of the model.
            channels: of the model.
            patch_size: of the model; None if it has no patches.

        Raises:
            UserError: pictures cannot have this number of channels, or the mean of the new channels is not known.
        """
        if self.bands and channels != self.channels:
            raise UserError(f"the images have {self.channels} channels, not {channels}: change --data.channels")
        same = replace(self, image_size=image_size, patch_size=patch_size if self.keeps_aspect else None)
        if self.bands:
            return same
        mean, std = (
            values if len(values) in (1, channels) else (sum(values) / len(values),) for values in (self.mean, self.std)
        )
        return replace(same, channels=channels, mean=mean, std=std)

    def with_bands(self, channels: int) -> "Preprocessing":
        """For images of any number of channels; mean and deviation become empty, unless they are such images' already.

        Raises:
            UserError: the number is not supported.
        """
        if self.bands and self.channels == channels:
            return self
        return replace(self, bands=True, channels=channels, mean=(), std=())

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width that an image is resized to, or with `crop` to cover, before the crop; rounded down as in
        timm, in pixels.
        """
        height, width = (math.floor(side / self.crop_ratio + ROUNDING) for side in self.image_size)
        return height, width

    @property
    def keeps_aspect(self) -> bool:
        """Whether images keep their aspect ratio and become rows of patches."""
        return self.resize == "native_aspect"

    @property
    def patch_hw(self) -> tuple[int, int]:
        """Height and width of a patch, of images that keep their aspect ratio."""
        assert self.patch_size is not None, "with_input sets it"
        return self.patch_size

    @property
    def num_patches(self) -> int:
        """Rows of patches of each image, of images that keep their aspect ratio."""
        return self.max_patches or math.prod(self.image_size) // math.prod(self.patch_hw)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of `pixels`."""
        if self.keeps_aspect:
            return self.num_patches, PLACE + math.prod(self.patch_hw), self.channels
        return *self.image_size, self.channels

    @property
    def whole(self) -> "Preprocessing":
        """The same without a crop."""
        return self if self.keeps_aspect else replace(self, resize="squash")

    def check_one_size(self, what: str) -> None:
        """Raises UserError if images keep their aspect ratio, for `what` needs all of one size."""
        if self.keeps_aspect:
            raise UserError(
                f"{what} needs images of one size, and this model takes each at its own aspect ratio "
                "(--preprocessing.resize native_aspect)"
            )

    @property
    def dtype(self) -> type[np.uint8] | type[np.float32]:
        """Type of `pixels`."""
        return np.float32 if self.bands else np.uint8

    def read(
        self, stored: Path | bytes | BytesIO | BufferedReader | Image.Image | np.ndarray, *, name: str | None
    ) -> AnyImage:
        """Reads an image for `pixels` and the crops.

        Args:
            stored: as a `Source` stores it, or an open file.
            name: the image's name in errors.

        Raises:
            UnreadableImage: it cannot be read, or has another number of channels.
            UserError: mean and deviation of its channels are not known.
        """
        if self.bands:
            if not self.mean:
                raise UserError(
                    f"the mean and deviation of the model's {self.channels} channels are not known: train it with "
                    f"--data.channels {self.channels}"
                )
            return read_bands(stored, channels=self.channels, name=name).filled(self.mean)
        return read_image(stored, channels=self.channels, name=name)  # pyright: ignore[reportArgumentType]

    def picture(self, image: AnyImage) -> Image.Image:
        """What people are shown: a picture as it is; of other images the mean of their normalised channels, in grey."""
        if isinstance(image, Image.Image):
            return image
        mean, std = (np.array(values, np.float32) for values in (self.mean, self.std))
        return Image.fromarray(to_picture((np.asarray(image.values, np.float32) - mean) / std))

    def pixels(self, image: AnyImage) -> Pixels:
        """Resizes for evaluation: squash, centre crop, or rows of patches.

        Args:
            image: as `read` returns it.
        """
        if self.resize == "squash" or self.keeps_aspect:
            return self.crop(image, (0.0, 0.0, 1.0, 1.0))
        return self.crop(image, self._centre(*self._whole(image)))

    def crop(self, image: AnyImage, box: Box) -> Pixels:
        """Resizes for training: the crop inside `box`, at the input's size, or as rows of patches.

        Args:
            image: as `read` returns it.
            box: left, top, right, bottom, as fractions of the image's width and height.
        """
        left, top, right, bottom = box
        assert 0 <= left < right <= 1, box
        assert 0 <= top < bottom <= 1, box
        kind = image.mode if isinstance(image, Image.Image) else "bands"
        assert kind == ("bands" if self.bands else MODES[self.channels]), f"{kind} for {self.channels} channels"
        part = left * image.width, top * image.height, right * image.width, bottom * image.height
        height, width = self.crop_hw(box, image.size)
        if image.size != (width, height) or part != (0, 0, width, height):
            image = image.resize((width, height), FILTERS[self.interpolation], part)
        return self.arrange(np.array(image).reshape(height, width, self.channels))

    def crop_hw(self, box: Box, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that a crop is resized to.

        Args:
            box: as in `crop`.
            size: width and height of the whole image.
        """
        if not self.keeps_aspect:
            return self.image_size
        left, top, right, bottom = box
        part = max(1, round((bottom - top) * size[1])), max(1, round((right - left) * size[0]))
        grid = fit_grid(part, patch_hw=self.patch_hw, max_patches=self.num_patches)
        return grid[0] * self.patch_hw[0], grid[1] * self.patch_hw[1]

    def arrange(self, pixels: Pixels) -> UInt8[np.ndarray, "n v c"] | Float32[np.ndarray, "n v c"]:
        """An image of the size of `crop_hw` in the shape that the model takes."""
        if not self.keeps_aspect:
            return pixels
        return to_patch_rows(pixels, patch_hw=self.patch_hw, max_patches=self.num_patches)

    def simple_crop(self, image: AnyImage, offset: tuple[float, float]) -> Pixels:
        """Simple random crop of DeiT III (arXiv 2204.07118, section 3): the image is resized to cover the input, padded
        by reflection, and cropped to the input's size.

        Args:
            image: as `read` returns it.
            offset: position among all crops that fit, in [0, 1), horizontally and vertically.
        """
        size = np.array([self.image_size[1], self.image_size[0]])
        original = np.array(image.size)
        # fractional sizes are rounded down, as in torchvision
        scale = max(Fraction(int(of), int(have)) for of, have in zip(size, original, strict=True))
        whole = np.array([int(have * scale) for have in original.tolist()])
        start = (np.array(offset) * (whole - size + 2 * MARGIN + 1)).astype(int) - MARGIN
        first, last = start.clip(0), (start + size).clip(max=whole)
        box = tuple(float(edge) for edge in np.concatenate([first, last]) * np.tile(original / whole, 2))
        width, height = (last - first).tolist()
        part = np.array(image.resize((width, height), FILTERS[self.interpolation], box))  # pyright: ignore[reportArgumentType]
        before, after = first - start, start + size - last
        missing = [(int(before[axis]), int(after[axis])) for axis in (1, 0)]
        return np.pad(part.reshape(height, width, self.channels), [*missing, (0, 0)], mode="reflect")

    def normalise(self, batch: PixelBatch) -> Images:
        """Pixels to the model's range, on the batch's device: (value / 255 - mean) / std; values are not divided."""
        if self.keeps_aspect:
            return self._normalise_rows(batch)
        # a copy, also of floats: what follows changes it
        images = rearrange(batch, "b h w c -> b c h w").to(
            torch.float32, memory_format=torch.contiguous_format, copy=True
        )
        mean, std = self._mean_and_std(batch)
        return images.sub_(mean).div_(std)

    def _normalise_rows(self, batch: PixelBatch) -> Float32[Tensor, "b n v"]:
        """The same for rows of patches, whose row and column stay as they are."""
        pixels = rearrange(batch[:, :, PLACE:], "b n pixels c -> b n c pixels")
        rows = torch.empty(
            (*batch.shape[:2], PLACE + pixels.shape[2] * pixels.shape[3]), dtype=torch.float32, device=batch.device
        )
        rows[:, :, :PLACE] = batch[:, :, :PLACE, 0]
        mean, std = (planes[..., 0] for planes in self._mean_and_std(batch))
        rows[:, :, PLACE:].unflatten(2, pixels.shape[2:]).copy_(pixels).sub_(mean).div_(std)
        return rows

    def _mean_and_std(self, like: Tensor) -> tuple[Float32[Tensor, "c 1 1"], ...]:
        """Mean and deviation of the values of `pixels`."""
        scale = 1 if self.bands else 255
        return tuple(_planes([scale * value for value in values], like) for values in (self.mean, self.std))

    def to_unit_range(self, images: Float32[Tensor, "*b c h w"]) -> Float32[Tensor, "*b c h w"]:
        """From the model's range back to 0..1; of images of any channels, mean ± `DEVIATIONS` becomes 0..1."""
        if self.bands:
            return (images / (2 * DEVIATIONS) + 0.5).clamp(0, 1)
        return (images * _planes(self.std, images) + _planes(self.mean, images)).clamp(0, 1)

    def from_unit_range(self, images: Float32[Tensor, "*b c h w"]) -> Float32[Tensor, "*b c h w"]:
        """From 0..1 to the model's range, of pictures."""
        assert not self.bands, "the range 0..1 does not hold all values"
        return (images - _planes(self.mean, images)) / _planes(self.std, images)

    def _whole(self, image: AnyImage) -> tuple[int, int]:
        """Height and width of the resized image that a crop is taken from."""
        height, width = self.resized_hw
        if self.resize == "squash_crop":
            return height, width
        if height * image.width >= width * image.height:
            return height, height * image.width // image.height
        return width * image.height // image.width, width

    def _centre(self, height: int, width: int) -> Box:
        """The centre of an image that was resized to this size.

        Only the centre is computed, so an extremely wide image costs no more than any other.
        """
        top, left = round((height - self.image_size[0]) / 2), round((width - self.image_size[1]) / 2)
        return left / width, top / height, (left + self.image_size[1]) / width, (top + self.image_size[0]) / height


def _planes(values: Sequence[float], like: Tensor) -> Float32[Tensor, "c 1 1"]:
    """A plane for each value, created on the device: a copy from the host would synchronise."""
    return torch.stack([torch.full((1, 1), value, device=like.device) for value in values])
