"""Handwritten digits, from scratch in about a minute."""

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["digits"]


def digits() -> RunConfig:
    """A small ViT on scikit-learn's 1,797 digits of 8x8 pixels, a digit being worth 4x4 words of 2x2 pixels.

    Pixels are shifted and scaled by the data's own mean and deviation: most of a digit is black.

    Command: vitral train digits
    Expect: 99.1 % ± 0.2 of 359 test images (mean and standard deviation of seeds 0 to 4)
    Time: 66 to 102 seconds on two cores of an Intel Xeon
    Source: measured here, benchmarks/recipes_2-core-xeon_2026-11-23.md
    """
    return RunConfig(
        recipe="digits",
        model=ModelSetup(
            architecture=ViTConfig(
                image_size=8,
                patch_size=2,
                channels=1,
                width=64,
                depth=4,
                num_heads=4,
                mlp_dim=256,
                num_classes=10,
                pool="gap",
            )
        ),
        data=DataConfig(source="digits"),
        preprocessing=Preprocessing(image_size=(8, 8), channels=1, mean=(0.305,), std=(0.376,)),
        augment=AugmentConfig(shift=1, rotate=10.0, scale=0.1),
        optim=OptimConfig(name="muon", lr=1e-2, weight_decay=0.05),
        schedule=ScheduleConfig(warmup="5percent"),
        train=TrainConfig(batch_size=128, epochs=100.0, ema=0.99, evaluate="20epochs"),
    )
