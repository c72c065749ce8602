"""The settings that studies of one size share. Equal settings make equal runs, which are then trained once."""

from dataclasses import replace
from typing import Any

from vitral.data.augment.config import AugmentConfig
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.recipes.imagenet1k import better_vit
from vitral.recipes.paper import paper_jft
from vitral.studies.study import Size
from vitral.train.checkpointing.checkpoint import CheckpointConfig
from vitral.train.config import ModelSetup, RunConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.vit_config import ViTConfig

__all__ = ["base", "fine_tuned", "train_for", "with_model"]

ADAMW = OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05)
"""The optimiser of `mini`: the paper's, at a rate for small models and short runs."""


def base(size: Size) -> RunConfig:
    """The run that the arms of a size are derived from.

    mini: a ViT with a class token on Fashion-MNIST, 49 patches of 4x4 pixels. small: ViT-S/16 on ImageNet at 64 pixels,
    16 patches. paper: ViT-B/16 pre-trained on images of yours, such as ImageNet-21k, with the settings for JFT.
    """
    if size == "mini":
        recipe = fashion_mnist()
        model = ViTConfig(
            image_size=28, patch_size=4, channels=1, width=64, depth=4, num_heads=4, mlp_dim=256, num_classes=10
        )
        run = train_for(replace(recipe, optim=ADAMW, augment=AugmentConfig(flip=True, shift=1)), steps=500)
        return with_model(run, model)
    if size == "small":
        recipe = better_vit(epochs=90)
        architecture = replace(
            recipe.model.architecture, image_size=64, patch_size=8, pool="cls", position="learned_1d"
        )
        return with_model(train_for(recipe, steps=20_000), architecture)
    return quiet(paper_jft("ViT-B/16"))


def quiet(run: RunConfig) -> RunConfig:
    """A run that evaluates at its end only, and tracks nothing."""
    train = replace(run.train, evaluate="100percent", track="none")
    return replace(run, train=train, checkpoint=CheckpointConfig(every="2min", keep=1))


def train_for(run: RunConfig, *, steps: int, limit: int | None = None) -> RunConfig:
    """The run with another length, on `limit` training images."""
    run = quiet(run)
    return replace(run, train=replace(run.train, steps=steps), data=replace(run.data, limit=limit))


def with_model(run: RunConfig, architecture: Any = None, **changes: Any) -> RunConfig:
    """The run with another architecture, or with changes to its own."""
    architecture = replace(architecture or run.model.architecture, **changes)
    return replace(run, model=ModelSetup(architecture=architecture))


def fine_tuned(run: RunConfig, *, steps: int, lr: float, **changes: Any) -> RunConfig:
    """The paper's fine-tuning of a run's model: momentum, cosine decay, no weight decay (Table 4).

    Args:
        run: the pre-training, whose architecture and preprocessing stay.
        steps: its length.
        lr: learning rate.
        changes: fields of the configuration, such as `data`.
    """
    tuned = train_for(run, steps=steps)
    return replace(
        tuned,
        optim=OptimConfig(name="sgd", lr=lr, weight_decay=0.0, momentum=0.9, clip=1.0),
        schedule=replace(tuned.schedule, decay="cosine", warmup="5percent"),
        **changes,
    )
