"""AugReg and "Better plain ViT baselines" have the settings of big_vision's files and their papers."""

import pytest

from vitral.recipes import RECIPES

LEVELS = {
    # RandAugment's layers and magnitude, mixup's alpha
    "none": (0, 0, 0.0),
    "light1": (2, 0, 0.0),
    "light2": (2, 10, 0.2),
    "medium1": (2, 15, 0.2),
    "medium2": (2, 15, 0.5),
    "strong1": (2, 20, 0.5),
    "strong2": (2, 20, 0.8),
}


@pytest.mark.parametrize("level", LEVELS)
def test_levels_of_augreg(level: str) -> None:
    config = RECIPES[f"augreg-{level}"]("ViT-S/16")
    layers, magnitude, mixup = LEVELS[level]
    assert config.augment.randaugment == ("big_vision" if layers else "none")
    assert not layers or (config.augment.randaugment_layers, config.augment.randaugment_magnitude) == (
        layers,
        magnitude,
    )
    assert (config.augment.mixup, config.augment.mix_per) == (mixup, "batch")
    assert (config.objective.loss, config.model.architecture.head_bias) == ("sigmoid", -6.9)
    assert (config.train.epochs, config.train.batch_size, config.optim.lr) == (300, 4096, 1e-3)
    assert (config.optim.weight_decay, config.optim.decay_form) == (0.1, "times_lr")
    assert (config.model.architecture.pool, config.model.architecture.representation_size) == ("cls", None)


@pytest.mark.parametrize("epochs", [90, 150, 300])
def test_better_plain_baselines(epochs: int) -> None:
    config = RECIPES[f"vit-s16-imagenet1k-{epochs}ep"]()
    assert (config.train.epochs, config.train.batch_size, config.optim.lr) == (epochs, 1024, 1e-3)
    assert (config.optim.weight_decay, config.optim.decay_form) == (1e-4, "absolute")
    assert (config.augment.randaugment, config.augment.randaugment_layers) == ("big_vision", 2)
    assert (config.augment.randaugment_magnitude, config.augment.mixup, config.augment.mix_per) == (10, 0.2, "batch")
    assert (config.objective.loss, config.objective.label_smoothing) == ("softmax", 0.0)
    architecture = config.model.architecture
    assert (architecture.pool, architecture.position, architecture.representation_size) == ("gap", "sincos_2d", None)
    assert (architecture.dropout, architecture.drop_path, architecture.width) == (0.0, 0.0, 384)


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith(("augreg-", "vit-s16-"))])
def test_their_common_settings(name: str) -> None:
    """They train on 99 % of the training images, validate on the rest, and test on the official validation images."""
    config = RECIPES[name]()
    assert (config.data.source, config.data.val_fraction) == ("imagenet1k", 0.01)
    assert (config.optim.name, config.optim.betas, config.optim.clip) == ("adamw", (0.9, 0.999), 1.0)
    assert config.optim.momentum_dtype == "bfloat16"
    assert (config.schedule.decay, config.schedule.end, config.schedule.warmup) == ("cosine", 0.0, "10000steps")
    assert (config.augment.crop, config.augment.crop_area, config.augment.flip) == ("inception_tf", (0.05, 1.0), True)
    assert (config.preprocessing.resize, config.preprocessing.crop_ratio) == ("crop", 0.875)


@pytest.mark.parametrize("name", ["deit3-imagenet1k", "mae-scratch-imagenet1k", "paper-imagenet"])
def test_others_train_on_all_images(name: str) -> None:
    assert RECIPES[name]().data.val_fraction is None
