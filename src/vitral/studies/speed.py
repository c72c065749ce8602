"""Figure 12: speed of inference and largest batch against the input size, for ViTs and BiT ResNets."""

import math
from itertools import product

from vitral.models import architecture
from vitral.studies.base import base, with_model
from vitral.studies.findings import Equivalence
from vitral.studies.study import LARGEST_BATCH, SPEED, Arm, Finding, Size, Study, side_of

__all__ = ["SPEED_STUDY"]

MODELS: dict[Size, tuple[str, ...]] = {
    "mini": ("ViT-S/32", "ViT-S/16", "BiT-R50x1"),
    "small": ("ViT-B/32", "ViT-B/16", "BiT-R50x1", "BiT-R50x2"),
    "paper": (
        *("ViT-B/32", "ViT-B/16", "ViT-L/32", "ViT-L/16", "ViT-H/14"),
        *("BiT-R50x1", "BiT-R50x2", "BiT-R152x4"),
    ),
}

SIDES: dict[Size, tuple[int, ...]] = {
    "mini": (64, 128, 224),
    "small": (64, 128, 224, 384),
    "paper": (64, 128, 224, 384, 512),
}

SIMILAR: dict[Size, tuple[str, str]] = {
    "mini": ("ViT-S/16", "BiT-R50x1"),
    "small": ("ViT-B/16", "BiT-R50x2"),
    "paper": ("ViT-B/16", "BiT-R50x2"),
}
"""Models of about the same arithmetic: 4.6 and 4.1, and 17.6 and 16 billion multiply-accumulates at 224 pixels."""

COMPARED = (64, 224)
"""Sides at which they are compared."""


def arms(size: Size) -> list[Arm]:
    """Every model at every input size; patches of 14 pixels take the nearest multiple of 14."""
    run = base(size)
    found = []
    for model, side in product(MODELS[size], SIDES[size]):
        nearest = side if not model.endswith("/14") else round(side / 14) * 14
        config = with_model(run, architecture(model, image_size=nearest))
        found.append(Arm(name=f"{model}, {nearest} pixels", config=config, x=float(nearest), line=model))
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """A ViT is about as fast as a ResNet of similar arithmetic."""
    names = {arm.line for arm in arms}
    vit, bit = next(pair for pair in SIMILAR.values() if set(pair) <= names)
    return [
        Equivalence(
            claim=f"at {side} pixels {vit} is about as fast as {bit}",
            first=side_of(arms, f"{vit}, {side} pixels"),
            second=side_of(arms, f"{bit}, {side} pixels"),
            margin=math.log(2),
            ratio=True,
        )
        for side in COMPARED
    ]


SPEED_STUDY = Study(
    name="speed",
    title="Speed and memory against the input size",
    source="Figure 12, appendix D.5",
    sentence="ViTs are about as fast as similar ResNets, their cost per image grows faster than the number of pixels "
    "only for the largest models at the largest sizes, and large ViTs need less memory.",
    metrics=(SPEED, LARGEST_BATCH),
    arms={"mini": lambda: arms("mini"), "small": lambda: arms("small"), "paper": lambda: arms("paper")},
    findings=findings,
    x_label="image side in pixels",
    log_x=True,
    note="Speed is that of inference on the machine at hand, at the best batch size; load on it shows in the spread. "
    "The largest batch is counted for training on one H100. The paper measures on a TPUv3 and publishes no table.",
)
