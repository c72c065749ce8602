"""How to train your ViT (arXiv 2106.10270): regularisation and augmentation against the number of images."""

from dataclasses import replace
from itertools import product

from vitral.data.augment.config import AugmentConfig
from vitral.studies.base import base, train_for, with_model
from vitral.studies.findings import Ordering, Side
from vitral.studies.study import TOP1, Arm, Finding, Study, side_of

__all__ = ["AUGREG"]

COUNTS = (1_000, 6_000, 60_000)
NONE, REGULARISED, AUGMENTED, BOTH = "neither", "regularised", "augmented", "both"
AUGMENT = AugmentConfig(flip=True, shift=2, mixup=0.2)
DROP = dict(dropout=0.1, drop_path=0.1)


def arms() -> list[Arm]:
    """Dropout and stochastic depth, augmentation with mixup, both and neither, on three numbers of images."""
    run = with_model(base("mini"), patch_size=7)
    plain = AugmentConfig()
    kinds = {NONE: (plain, {}), REGULARISED: (plain, DROP), AUGMENTED: (AUGMENT, {}), BOTH: (AUGMENT, DROP)}
    found = []
    for (line, (augment, drop)), count in product(kinds.items(), COUNTS):
        config = train_for(replace(run, augment=augment), steps=1000, limit=count if count < max(COUNTS) else None)
        found.append(
            Arm(name=f"{line}, {count:,} images", config=with_model(config, **drop), x=float(count), line=line)
        )
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """Augmentation helps on few images, and more than regularisation."""

    def at(line: str, count: int) -> Side:
        return side_of(arms, f"{line}, {count:,} images")

    fewest, most = min(COUNTS), max(COUNTS)
    return [
        Ordering(claim="augmentation helps on few images", better=at(AUGMENTED, fewest), worse=at(NONE, fewest)),
        Ordering(
            claim="augmentation helps more than regularisation",
            better=at(AUGMENTED, fewest),
            worse=at(REGULARISED, fewest),
        ),
        Ordering(
            claim="with the same steps, regularisation hurts on many images",
            better=at(NONE, most),
            worse=at(REGULARISED, most),
        ),
    ]


AUGREG = Study(
    name="augreg",
    title="Augmentation and regularisation against the number of images",
    source="arXiv 2106.10270",
    sentence="on few images augmentation and regularisation help as much as ten times the data, augmentation more than "
    "regularisation; on many images and short runs they hurt.",
    metrics=(TOP1,),
    arms={"mini": arms},
    findings=findings,
    x_label="training images",
    log_x=True,
    note="A follow-up by some of the paper's authors.",
)
