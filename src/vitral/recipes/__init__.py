"""Recipes: functions that return a complete run configuration."""

from collections.abc import Callable

from vitral.recipes.digits import digits
from vitral.recipes.dino import dino, fashion_mnist_dino
from vitral.recipes.distillation import deit_distilled_imagenet1k, distill, fashion_mnist_distilled
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.recipes.finetune import finetune
from vitral.recipes.folder import folder
from vitral.recipes.imagenet1k import (
    AUGREG,
    BETTER,
    deit3_imagenet1k,
    mae_finetune_imagenet1k,
    mae_linear_imagenet1k,
    mae_scratch_imagenet1k,
)
from vitral.recipes.mae import fashion_mnist_mae, mae
from vitral.recipes.masked_patch import fashion_mnist_masked_patch, masked_patch
from vitral.recipes.paper import FINETUNING, paper_imagenet, paper_imagenet21k, paper_jft
from vitral.train.config import RunConfig

__all__ = ["RECIPES"]

RECIPES: dict[str, Callable[..., RunConfig]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "folder": folder,
    "finetune": finetune,
    "paper-jft": paper_jft,
    "paper-imagenet21k": paper_imagenet21k,
    "paper-imagenet": paper_imagenet,
    **FINETUNING,
    **AUGREG,
    **BETTER,
    "deit3-imagenet1k": deit3_imagenet1k,
    "masked-patch": masked_patch,
    "fashion-mnist-masked-patch": fashion_mnist_masked_patch,
    "mae": mae,
    "fashion-mnist-mae": fashion_mnist_mae,
    "dino": dino,
    "fashion-mnist-dino": fashion_mnist_dino,
    "distill": distill,
    "deit-distilled-imagenet1k": deit_distilled_imagenet1k,
    "fashion-mnist-distilled": fashion_mnist_distilled,
    "mae-finetune-imagenet1k": mae_finetune_imagenet1k,
    "mae-linear-imagenet1k": mae_linear_imagenet1k,
    "mae-scratch-imagenet1k": mae_scratch_imagenet1k,
}
"""Every recipe by the name that `vitral train` knows it by."""
