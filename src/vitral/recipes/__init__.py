"""Recipes: functions that return a complete run configuration."""

from collections.abc import Callable

from vitral.recipes.digits import digits
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.recipes.finetune import finetune
from vitral.recipes.folder import folder
from vitral.train.config import RunConfig

__all__ = ["RECIPES"]

RECIPES: dict[str, Callable[..., RunConfig]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "folder": folder,
    "finetune": finetune,
}
"""Every recipe by the name that `vitral train` knows it by."""
