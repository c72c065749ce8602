"""Fashion-MNIST, from scratch on a CPU."""

from pathlib import Path

from vitral.data.augment import AugmentConfig
from vitral.data.sources import DataConfig
from vitral.objectives.classification import ClassificationConfig
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optim import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit import ViTConfig

__all__ = ["fashion_mnist"]

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def fashion_mnist() -> RunConfig:
    """A small plain ViT on Fashion-MNIST's 60,000 images of 28x28 pixels."""
    return RunConfig(
        recipe="fashion-mnist",
        model=ModelSetup(
            architecture=ViTConfig(
                image_size=28, patch_size=7, channels=1, width=96, depth=4, num_heads=4, mlp_dim=384, num_classes=10
            )
        ),
        data=DataConfig(source="idx", root=Path("/usr/share/datasets/fashion-mnist"), class_names=CLASSES),
        augment=AugmentConfig(flip=True, shift=2),
        objective=ClassificationConfig(label_smoothing=0.0),
        optim=OptimConfig(name="muon", lr=4e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup="2percent", decay="linear"),
        train=TrainConfig(batch_size=128, epochs=9.0),
    )
