"""Figure 3 and Table 5: how much pre-training data each size of model needs."""

from dataclasses import replace
from itertools import product

from vitral.data.config import DataConfig
from vitral.studies.base import base, fine_tuned, train_for, with_model
from vitral.studies.findings import Ordering, Side
from vitral.studies.study import TOP1, Arm, Finding, Study, side_of

__all__ = ["PRETRAINING"]

COUNTS = (1_000, 6_000, 60_000)
SIZES = {
    "small": dict(width=32, mlp_dim=128, depth=2),
    "medium": dict(width=64, mlp_dim=256, depth=4),
    "large": dict(width=128, mlp_dim=512, depth=6),
}
DIGITS = 100


def arms() -> list[Arm]:
    """Three ViTs pre-trained on three numbers of images, then fine-tuned on 100 digits."""
    found = []
    for (size, shape), count in product(SIZES.items(), COUNTS):
        run = with_model(base("mini"), patch_size=7, **shape)
        start = train_for(run, steps=1000, limit=count if count < max(COUNTS) else None)
        digits = DataConfig(source="digits", limit=DIGITS)
        config = fine_tuned(start, steps=150, lr=0.03, data=digits, augment=replace(start.augment, flip=False))
        found.append(
            Arm(name=f"{size}, {count:,} images", config=config, start=start, x=float(count), line=f"{size} ViT")
        )
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """The large model is below the small one after little pre-training, and above it after much."""

    def at(size: str, count: int) -> Side:
        return side_of(arms, f"{size}, {count:,} images")

    fewest, most = min(COUNTS), max(COUNTS)
    return [
        Ordering(
            claim="after the least pre-training the small ViT beats the large one",
            better=at("small", fewest),
            worse=at("large", fewest),
        ),
        Ordering(
            claim="after the most pre-training the large ViT beats the small one",
            better=at("large", most),
            worse=at("small", most),
        ),
        Ordering(
            claim="the large ViT gains from more pre-training images",
            better=at("large", most),
            worse=at("large", fewest),
        ),
    ]


PRETRAINING = Study(
    name="pretraining",
    title="Accuracy after pre-training on few and many images",
    source="Figure 3 and Table 5, section 4.3",
    sentence="large ViTs are worse than ViT-B after pre-training on ImageNet, level with it after ImageNet-21k, and "
    "clearly better after JFT-300M.",
    metrics=(TOP1,),
    arms={"mini": arms},
    findings=findings,
    x_label="pre-training images",
    log_x=True,
    note="Pre-trained on Fashion-MNIST and fine-tuned on 100 digits.",
)
