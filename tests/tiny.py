"""A training run small enough for a unit test: a ViT of a few thousand weights on the digits."""

from pathlib import Path

import numpy as np
import torch

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.order import random_bits
from vitral.objectives.classification import ClassificationConfig
from vitral.train.checkpointing.checkpoint import CheckpointConfig
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["ARCHITECTURE", "keys", "tiny_run"]

ARCHITECTURE = ViTConfig(
    image_size=8, patch_size=4, channels=1, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=10, dropout=0.1
)


def tiny_run(out: Path | None = None, *, optimiser: str = "adamw", **train: object) -> RunConfig:
    """A run of twelve steps with everything that has a state or draws at random.

    Args:
        out: the run's folder.
        optimiser: its name.
        train: changes to the configuration's `train`.
    """
    lr = {"adamw": 1e-2, "sgd": 0.3, "muon": 2e-2, "lamb": 1e-2, "lars": 1.0, "adafactor": 1e-3}[optimiser]
    return RunConfig(
        recipe="tiny",
        out=out,
        seed=5,
        model=ModelSetup(architecture=ARCHITECTURE),
        data=DataConfig(source="digits"),
        augment=AugmentConfig(flip=True, shift=1, rotate=10.0, scale=0.1),
        objective=ClassificationConfig(label_smoothing=0.1),
        optim=OptimConfig(name=optimiser, lr=lr),
        schedule=ScheduleConfig(warmup="2steps"),
        train=TrainConfig(**{"batch_size": 64, "steps": 12, "ema": 0.9, "log": "1step", "device": "cpu", **train}),
        checkpoint=CheckpointConfig(every="4steps"),
    )


def keys(count: int) -> torch.Tensor:
    """What the random numbers of `count` images are drawn by."""
    return torch.from_numpy((random_bits(1, np.arange(count)) >> np.uint64(1)).astype(np.int64))
