"""Preprocessing inside the graph: from uint8 pixels of any size to a model's input, as Pillow resizes them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitral.data.images.preprocess import Preprocessing

__all__ = ["WithPreprocessing"]

UNITS = 2.0**22
"""Units of a weight in 1, in Pillow's arithmetic of whole numbers."""

TALL = 100
"""An image that is more than so many times as high as wide gets its rows resized first, as Pillow does."""


class WithPreprocessing(nn.Module):
    """A network behind the evaluation's preprocessing: resize, centre crop, normalisation.

    An antialiased resize is a product with one matrix an axis, whose rows hold the filter around each new pixel. As in
    Pillow, columns come before rows unless the image is very tall, values are rounded to whole levels after each, and
    weights are multiples of 2^-22: float64 holds such products exactly, so the pixels are Pillow's.

    Args:
        network: takes normalised images.
        preprocessing: the model's.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        # not "mean" and "std", as a hybrid's stem has values of such names, and ONNX constants share one space of names
        self.pixel_mean, self.pixel_std = nn.Buffer(255 * mean), nn.Buffer(255 * std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of uint8 pixels (b h w c)."""
        return self.network((self.resize(pixels).float() - self.pixel_mean) / self.pixel_std)

    def resize(self, pixels: Tensor) -> Tensor:
        """Whole levels 0..255 (b c h w) at the network's size, in float64."""
        height, width = self.preprocessing.image_size
        images = pixels.permute(0, 3, 1, 2).double()
        h, w = (torch.zeros((), dtype=torch.float64).new_full((), n) for n in images.shape[2:])
        (top, bottom), (left, right) = self._box(h, w)
        across = self._weights(images.shape[3], width, left, right, dim=0)
        down = self._weights(images.shape[2], height, top, bottom, dim=1)
        # No branch: after one, OpenVINO 2026.4 computed the network from memory that was never written, and NNCF
        # failed. A very tall image has fewer columns than these; those that it lacks weigh nothing. There
        # are two at least, as a graph that is traced with one would take no more.
        number = torch.arange(images.shape[2] // TALL + 2)
        few = number.clamp(max=images.shape[3] - 1)
        across_few = across.index_select(0, few) * (number < images.shape[3]).reshape(-1, 1)
        columns_first = _levels(down @ _levels(images @ across))
        rows_first = _levels(_levels(down @ images.index_select(3, few)) @ across_few)
        return torch.where((h > TALL * w) & (h > height), rows_first, columns_first)

    def _box(self, h: Tensor, w: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The part of the image that becomes the input: first and last row, first and last column, in pixels."""
        p = self.preprocessing
        if p.resize == "squash":
            return (torch.zeros_like(h), h), (torch.zeros_like(w), w)
        height, width = p.image_size
        least = p.resized_hw
        by_height = least[0] * w >= least[1] * h
        whole_h = torch.where(by_height, torch.full_like(h, least[0]), (least[1] * h / w).floor())
        whole_w = torch.where(by_height, (least[0] * w / h).floor(), torch.full_like(w, least[1]))
        if p.resize == "squash_crop":
            whole_h, whole_w = torch.full_like(h, least[0]), torch.full_like(w, least[1])
        top, left = ((whole_h - height) / 2).round(), ((whole_w - width) / 2).round()
        rows = top / whole_h * h, (top + height) / whole_h * h
        columns = left / whole_w * w, (left + width) / whole_w * w
        return _single(*rows), _single(*columns)

    def _weights(self, old: int, new: int, first: Tensor, last: Tensor, *, dim: int) -> Tensor:
        """The matrix that resizes pixels `first` to `last` of a line of `old` pixels.

        It is built as (new old) for `dim` 1 and as (old new) for `dim` 0, without a transpose: ONNX Runtime before 1.30
        merges one with the product, which it cannot compute in float64.
        """
        support, kernel = KERNELS[self.preprocessing.interpolation]
        scale = (last.float() - first.float()).double() / new  # the difference is Pillow's too, in float32
        stretch = scale.clamp(min=1)
        centres = (first + (torch.arange(new, dtype=torch.float64) + 0.5) * scale).unsqueeze(dim)
        pixels = (torch.arange(old, dtype=torch.float64) + 0.5).unsqueeze(1 - dim)
        # Pillow takes the whole pixels around a centre that are nearer than the support
        start, stop = (centres - support * stretch + 0.5).floor(), (centres + support * stretch + 0.5).floor()
        inside = (pixels - 0.5 >= start) & (pixels - 0.5 < stop)
        weights = kernel((pixels - centres) * (1 / stretch)) * inside
        weights = weights / weights.sum(dim=dim, keepdim=True) * UNITS
        return weights.sign() * (weights.abs() + 0.5).floor() / UNITS


def _single(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """As Pillow gets them, in float32."""
    return first.float().double(), last.float().double()


def _levels(images: Tensor) -> Tensor:
    return (images + 0.5).floor().clamp(0, 255)


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, which Pillow has, and PyTorch's antialiased resize."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, _sinc(x) * _sinc(x / 3), torch.zeros_like(x))


def _sinc(x: Tensor) -> Tensor:
    angle = math.pi * torch.where(x == 0, torch.ones_like(x), x)
    return torch.where(x == 0, torch.ones_like(x), angle.sin() / angle)


KERNELS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "bilinear": (1, _bilinear),
    "bicubic": (2, _bicubic),
    "lanczos": (3, _lanczos),
}
"""Support in pixels and kernel of each filter."""
