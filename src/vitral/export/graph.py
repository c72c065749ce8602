"""A model as one graph of PyTorch's operations, for every batch and, if wished, every image size."""

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT

__all__ = ["FeatureModel", "check_dynamic", "trace", "trace_pixels"]

EXAMPLES = 2
"""Images in the example batch: one would be taken for the only batch size."""


class FeatureModel(nn.Module):
    """A model whose output is the input of its head."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Features (b e) of images (b c h w)."""
        return self.model.features(images).pooled


def check_dynamic(model: Model) -> None:
    """Checks that a model takes images of other sizes.

    Raises:
        UserError: its positions were interpolated already.
    """
    if isinstance(model, ViT) and model.positions.learned and model.positions.resampled_from is not None:
        a, b = model.positions.resampled_from
        raise UserError(
            f"this model's positions were interpolated from {a}x{b} patches, and interpolating them again would give "
            "other numbers than the trained model: export it with --image-size fixed, or before it is resized"
        )


def trace(network: nn.Module, model: Model, *, dynamic: bool) -> ExportedProgram:
    """The graph from normalised images (b c h w) to logits.

    Args:
        network: what is traced: the model, or a part of it.
        model: whose images it takes.
        dynamic: whether it takes images of any size. A graph depends on the example's size, so the example has another
            than the model's own: positions are interpolated for that too, and their interpolation to their own grid
            changes nothing.
    """
    (h, w), (p, q) = model.config.image_hw, model.config.patch_hw if isinstance(model, ViT) else (1, 1)
    shapes = {0: Dim("batch")}
    if dynamic:
        if isinstance(model, ViT):
            shapes |= {2: _multiple(p, "rows"), 3: _multiple(q, "columns")}
        else:  # a last map of one pixel would be another graph
            least = 4 * 2 ** (len(model.config.stages) - 1) + 1
            shapes |= {2: Dim("height", min=least), 3: Dim("width", min=least)}
        h, w = h + 2 * p, w + 3 * q
    return _export(network, torch.zeros(EXAMPLES, model.config.channels, h, w), shapes)


def trace_pixels(network: nn.Module, *, channels: int, image_hw: tuple[int, int]) -> ExportedProgram:
    """The graph from uint8 pixels (b h w c) of any size to logits."""
    h, w = image_hw
    pixels = torch.zeros(EXAMPLES, h + 13, w + 22, channels, dtype=torch.uint8)
    return _export(network, pixels, {0: Dim("batch"), 1: Dim("height"), 2: Dim("width")})


def _multiple(patch: int, name: str) -> Dim:
    return Dim(name) if patch == 1 else patch * Dim(name)


def _export(network: nn.Module, example: Tensor, shapes: dict[int, Dim]) -> ExportedProgram:
    with torch.no_grad():
        return torch.export.export(network.eval(), (example,), dynamic_shapes=(shapes,))
