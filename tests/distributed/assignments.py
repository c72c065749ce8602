"""DINO's assignments of outputs that the processes hold parts of, some of them of unreadable images."""

import torch
from torch import Tensor

from vitral.objectives.assignment import Centre, sinkhorn

__all__ = ["LOGITS", "READABLE", "assignments"]

LOGITS = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
"""The first process holds the first half."""
READABLE = torch.tensor([True, True, False, True, False, True, *[False] * 5, True])
"""The processes have different numbers of readable images."""


def assignments(logits: Tensor, readable: Tensor) -> dict[str, Tensor]:
    """Sinkhorn's probabilities of this process's rows, and the centre of all."""
    centre = Centre(logits.shape[1], momentum=0.5)
    centre.accumulate(logits, readable)
    centre.update()
    return {"sinkhorn": sinkhorn(logits, temperature=0.5, readable=readable), "centre": centre.mean}
