"""Gram anchoring: patches keep the similarities that they had for an earlier teacher (DINOv3, arXiv 2508.10104, section
4.2). In long training the features of patches otherwise lose what distinguishes places of an image.
"""

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.vit import ViT

__all__ = ["GramAnchor", "gram_loss", "gram_matrix"]


class GramAnchor(nn.Module):
    """A copy of the teacher, made at a fraction of the run and renewed at intervals.

    Args:
        model: the teacher.
        start: fraction of the run after which the first copy is made.
        refresh: fraction of the run between copies; 0: there is one copy only.
    """

    def __init__(self, model: ViT, *, start: float, refresh: float) -> None:
        super().__init__()
        self.model = deepcopy(model).requires_grad_(False)
        self.start, self.refresh = start, refresh
        self.copies = nn.Buffer(torch.zeros((), dtype=torch.int64))
        """Copies made so far."""
        self.made: int | None = None
        """The same as a number; None: not yet read. It is read once, because reading makes the host wait for a GPU."""
        self.active = False
        """Whether there is a copy."""

    def train(self, mode: bool = True) -> "GramAnchor":
        """As for any module, but the copy drops nothing. The first call follows a checkpoint's loading, if one is."""
        super().train(mode)
        self.model.eval()
        if mode and self.made is None:
            self.made = int(self.copies.item())
            self.active = self.made > 0
        return self

    def loss(self, images: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b t d"]) -> Float[Tensor, " b"]:
        """The Gram loss of the student's final tokens for images; 0 before the first copy."""
        if not self.active:
            return tokens.new_zeros(len(tokens), dtype=torch.float32)
        prefix = self.model.config.num_prefix_tokens
        with torch.no_grad():
            own = self.model.encode(*self.model.embed(images))
        return gram_loss(tokens[:, prefix:], own[:, prefix:])

    @torch.no_grad()
    def update(self, teacher: ViT, *, progress: float) -> None:
        """Copies the teacher after a step if it is time; `progress` is 1 at the run's last step."""
        due = 0
        if progress >= self.start:
            # rounding errors must not delay a copy by a step
            due = 1 + (math.floor((progress - self.start) / self.refresh + 1e-9) if self.refresh else 0)
        if due > (self.made or 0):
            for copy, weight in zip(self.model.parameters(), teacher.parameters(), strict=True):
                copy.copy_(weight)
            self.copies.fill_(due)
            self.made, self.active = due, True


def gram_loss(student: Float[Tensor, "b n d"], anchor: Float[Tensor, "b n d"]) -> Float[Tensor, " b"]:
    """The mean squared difference of the Gram matrices of two models' patches for each image, as in the authors' code:
    the squared Frobenius norm of the paper, divided by the number of pairs.
    """
    return (gram_matrix(student) - gram_matrix(anchor)).square().mean((1, 2))


def gram_matrix(patches: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    """The cosine similarity of each pair of patches of an image, in float32 at least."""
    with torch.autocast(patches.device.type, enabled=False):
        precise = patches.float() if patches.dtype.itemsize < 4 else patches
        unit = F.normalize(precise, dim=2)
        return unit @ unit.transpose(1, 2)
