"""A folder of images, from scratch."""

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.objectives.classification import ClassificationConfig
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["folder"]


def folder() -> RunConfig:
    """A small ViT from scratch on your own images, one folder per class; for use without pretrained weights.

    Each image is 64 patches of 16x16 pixels. Strong crops and a long schedule make up for little data. Images of at
    most 32 pixels become 64 patches of 8x8 pixels, and are shifted, rotated and scaled instead of cropped and flipped.
    The length is what fits into `--minutes`, at most 300 epochs.

    Command: vitral train folder --data.root photos
    Expect: after 40 epochs 88 % on crops of six photographs with 38 training images per class (one run, no spread);
        guessing gives 17 %
    Time: 10 minutes, or as --minutes says; 40 epochs of 1,000 images took 11 minutes on one core of an Intel Xeon
    Source: measured here; the recipe is from no paper
    """
    return RunConfig(
        recipe="folder",
        model=ModelSetup(
            architecture=ViTConfig(
                image_size=96,
                patch_size=16,
                stem_stages=(1, 1),
                stem_width=32,
                width=128,
                depth=3,
                num_heads=4,
                mlp_dim=256,
                pool="gap",
                drop_path=0.1,
            )
        ),
        data=DataConfig(source="folder", workers=2),
        augment=AugmentConfig(crop="inception", crop_area=(0.25, 1.0), flip=True),
        objective=ClassificationConfig(label_smoothing=0.1),
        optim=OptimConfig(name="muon", lr=3e-3, weight_decay=0.1),
        schedule=ScheduleConfig(warmup="10percent"),
        train=TrainConfig(batch_size=64, epochs=40.0, ema=0.99, evaluate="10percent"),
    )
