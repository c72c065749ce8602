"""The trained model that a student learns from."""

import logging
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.errors import UserError
from vitral.objectives.entry import BuildContext, Teacher
from vitral.weights.flags import flags_of_teacher
from vitral.weights.load import load_with_report

__all__ = ["load_teacher"]

LOG = logging.getLogger("vitral")
RESIZE_MODES = {"bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "bicubic"}
"""PyTorch's mode for each filter of a preprocessing."""


def load_teacher(path: Path, context: BuildContext, **reading: Any) -> Teacher:
    """A trained model that gives logits for batches made for another model.

    Values, channels and size are converted to the teacher's own. A teacher with the same classes in another order gives
    its logits in the student's order.

    Args:
        path: see `load_with_report`.
        context: the student's preprocessing and classes, and where to compute.
        reading: how another project's file is read, as in `load_with_report`.

    Raises:
        UserError: there is no such model, it has another number of classes, or it takes grey images only.
    """
    try:
        model, report = load_with_report(path, device=context.device, **reading)
    except UserError as error:
        raise UserError(flags_of_teacher(str(error))) from None
    for note in report.notes if report else ():
        LOG.warning("%s: %s", path, flags_of_teacher(note))
    model.requires_grad_(False)
    assert model.card is not None
    student, classes = context.preprocessing, context.classes
    own, own_classes = model.card.preprocessing, model.card.classes
    own.check_one_size(f"the teacher {path}")
    count = model.config.num_classes
    if not own_classes:
        raise UserError(f"the teacher {path} has no trained head: choose another, or fine-tune it first")
    if model.card.target != "class":
        raise UserError(f"the teacher {path} predicts {model.card.target}, not one class an image: choose another")
    if count != len(classes):
        raise UserError(f"the teacher {path} has {count} classes, and the images {len(classes)}: choose another")
    if own.channels < student.channels:
        raise UserError(f"the teacher {path} takes grey images, and the student colour: choose another teacher")
    same = set(own_classes) == set(classes)
    order = torch.tensor([own_classes.index(name) for name in classes] if same else range(count), device=context.device)
    forward: nn.Module = torch.compile(model) if context.compiled else model  # pyright: ignore[reportAssignmentType]

    def logits(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        images = student.to_unit_range(images).expand(-1, own.channels, -1, -1)
        if images.shape[2:] != own.image_size:
            mode = RESIZE_MODES[own.interpolation]
            images = F.interpolate(images, own.image_size, mode=mode, antialias=True).clamp(0, 1)
        return forward(own.from_unit_range(images))[:, order]

    return logits
