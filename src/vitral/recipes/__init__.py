"""Recipes: functions that return a complete run configuration. Importing this registry does not import PyTorch."""

from vitral.recipes.families import AUGREG_LEVELS, BETTER_VIT, TASKS, augreg_facts, finetuning_facts
from vitral.recipes.recipe import Recipe

__all__ = ["GROUPS", "RECIPES", "Recipe"]

RECIPES: dict[str, Recipe] = {
    "digits": Recipe(function="digits:digits"),
    "fashion-mnist": Recipe(function="fashion_mnist:fashion_mnist"),
    "folder": Recipe(function="folder:folder"),
    "finetune": Recipe(function="finetune:finetune", takes="weights"),
    "paper-jft": Recipe(function="paper:paper_jft", takes="model"),
    "paper-imagenet21k": Recipe(function="paper:paper_imagenet21k", takes="model"),
    "paper-imagenet": Recipe(function="paper:paper_imagenet", takes="model"),
    **{
        f"paper-{task}": Recipe(
            function="paper:paper_finetuning", takes="weights", arguments={"task": task}, facts=finetuning_facts(task)
        )
        for task in TASKS
    },
    "paper-imagenet1k-512": Recipe(function="paper:paper_imagenet1k_512", takes="weights"),
    **{
        f"augreg-{level}": Recipe(
            function="imagenet1k:augreg", takes="model", arguments={"level": level}, facts=augreg_facts(level)
        )
        for level in AUGREG_LEVELS
    },
    **{
        f"vit-s16-imagenet1k-{epochs}ep": Recipe(
            function="imagenet1k:better_vit", takes="model", arguments={"epochs": epochs}, facts=facts
        )
        for epochs, facts in BETTER_VIT.items()
    },
    "deit3-imagenet1k": Recipe(function="imagenet1k:deit3_imagenet1k", takes="model"),
    "masked-patch": Recipe(function="masked_patch:masked_patch", takes="model"),
    "fashion-mnist-masked-patch": Recipe(function="masked_patch:fashion_mnist_masked_patch"),
    "simmim": Recipe(function="masked_patch:simmim", takes="model"),
    "mae": Recipe(function="mae:mae", takes="model"),
    "fashion-mnist-mae": Recipe(function="mae:fashion_mnist_mae"),
    "dino": Recipe(function="dino:dino", takes="model"),
    "fashion-mnist-dino": Recipe(function="dino:fashion_mnist_dino"),
    "distill": Recipe(function="distillation:distill"),
    "deit-distilled-imagenet1k": Recipe(function="distillation:deit_distilled_imagenet1k", takes="model"),
    "fashion-mnist-distilled": Recipe(function="distillation:fashion_mnist_distilled"),
    "mae-finetune-imagenet1k": Recipe(function="imagenet1k:mae_finetune_imagenet1k", takes="weights"),
    "mae-linear-imagenet1k": Recipe(function="imagenet1k:mae_linear_imagenet1k", takes="weights"),
    "mae-scratch-imagenet1k": Recipe(function="imagenet1k:mae_scratch_imagenet1k", takes="model"),
}
"""Every recipe by its name in `vitral train NAME`."""

GROUPS: dict[str, tuple[str, ...]] = {
    "images of your own": ("folder", "finetune", "masked-patch", "simmim", "mae", "dino", "distill"),
    "data sets by name, in minutes": (
        "digits",
        *(name for name in RECIPES if name.startswith("fashion-mnist")),
    ),
}
GROUPS["research, on large GPUs"] = tuple(
    name for name in RECIPES if name not in {one for names in GROUPS.values() for one in names}
)
"""Recipes by what they need, the smallest first."""
