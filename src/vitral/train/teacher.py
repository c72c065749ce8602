"""The model that a student learns from."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.weights.load import load

__all__ = ["read_teacher"]

RESIZES = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "bicubic"}
"""What PyTorch has for a filter."""


def read_teacher(
    where: Path | None, *, preprocessing: Preprocessing, classes: tuple[str, ...], device: torch.device, compiled: bool
) -> Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]]:
    """What tells a trained model's logits of batches that were made for another model.

    Args:
        where: see `vitral.load`.
        preprocessing: what the batches were made by; values, channels and size are changed to the teacher's own.
        classes: that the student is to tell; a teacher with the same in another order is heard in this order.
        device: that computes.
        compiled: whether torch.compile makes it faster.

    Raises:
        UserError: there is no such model, or it tells another number of classes, or sees grey images only.
    """
    if where is None:
        raise UserError("distillation needs a trained model to learn from: name one with --objective.teacher")
    model = load(where, device=device).requires_grad_(False)
    assert model.card is not None
    own, told = model.card.preprocessing, model.card.classes
    count = model.config.num_classes
    if count != len(classes):
        raise UserError(f"the teacher {where} tells {count} classes, not the images' {len(classes)}: choose another")
    if own.channels < preprocessing.channels:
        raise UserError(f"the teacher {where} sees grey images, and the student colours: choose another teacher")
    same = set(told) == set(classes)
    order = torch.tensor([told.index(name) for name in classes] if same else range(count), device=device)
    forward: nn.Module = torch.compile(model) if compiled else model  # pyright: ignore[reportAssignmentType]

    def logits(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        shares = preprocessing.shares(images).expand(-1, own.channels, -1, -1)
        if shares.shape[2:] != own.image_size:
            shares = F.interpolate(shares, own.image_size, mode=RESIZES[own.interpolation], antialias=True).clamp(0, 1)
        return forward(own.scaled(shares))[:, order]

    return logits
