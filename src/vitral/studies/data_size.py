"""Figure 4: few-shot accuracy against the number of training images, for ViTs and a BiT ResNet."""

from itertools import product

from vitral.models import architecture
from vitral.studies.base import base, train_for, with_model
from vitral.studies.findings import Ordering, Side
from vitral.studies.study import FEW_SHOT, TOP1, Arm, Finding, Study, side_of
from vitral.train.config import RunConfig

__all__ = ["DATA_SIZE"]

COUNTS = (1_000, 3_000, 10_000, 60_000)
"""Training images."""

STEPS = 1000
BIT, SMALL, LARGE = "BiT ResNet", "small ViT", "large ViT"


def models() -> dict[str, RunConfig]:
    """The three models; the small ViT and the ResNet cost about the same arithmetic."""
    run = base("mini")
    bit = architecture("BiT-R50x1", image_size=28, channels=1, stages=(2, 2, 1), root_width=32, num_classes=10)
    return {
        SMALL: with_model(run, patch_size=7, width=64, mlp_dim=256, depth=4),
        LARGE: with_model(run, patch_size=7, width=128, mlp_dim=512, depth=6),
        BIT: with_model(run, bit),
    }


def arms() -> list[Arm]:
    """Every model on every number of images, with the same number of steps."""
    return [
        Arm(
            name=f"{name}, {count:,} images",
            config=train_for(run, steps=STEPS, limit=count if count < max(COUNTS) else None),
            x=float(count),
            line=name,
        )
        for (name, run), count in product(models().items(), COUNTS)
    ]


def findings(arms: list[Arm]) -> list[Finding]:
    """The ResNet leads on few images, and the ViTs gain more from many."""

    def at(line: str, count: int) -> Side:
        return side_of(arms, f"{line}, {count:,} images")

    fewest, most = min(COUNTS), max(COUNTS)
    return [
        Ordering(claim="the ResNet is better on the fewest images", better=at(BIT, fewest), worse=at(LARGE, fewest)),
        Ordering(claim="the ViT is better on the most images", better=at(LARGE, most), worse=at(BIT, most)),
        Ordering(
            claim="the large ViT is better than the small one on the most images",
            better=at(LARGE, most),
            worse=at(SMALL, most),
        ),
    ]


DATA_SIZE = Study(
    name="data-size",
    title="Accuracy against the number of training images",
    source="Figure 4, section 4.3",
    sentence="ResNets are better after pre-training on small data sets and plateau sooner than ViTs, which are better "
    "on large ones; the larger the ViT, the more images it needs.",
    metrics=(FEW_SHOT, TOP1),
    arms={"mini": arms},
    findings=findings,
    x_label="training images",
    log_x=True,
    note="The paper's smallest subset has 9 million images; here the largest has 60,000, and all runs take the same "
    "number of steps.",
)
