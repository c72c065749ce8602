"""Every recipe is built, and takes a step with a model of its own structure."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from vitral.data.config import DataConfig
from vitral.recipes import RECIPES
from vitral.recipes.finetune import finetune
from vitral.recipes.folder import folder
from vitral.train.config import RunConfig
from vitral.train.loop import fit
from vitral.train.run import Run
from vitral.vit_config import ViTConfig


def stepped(config: RunConfig, out: Path, **data: object) -> dict[str, float]:
    """One step of a recipe on data of a test's own, with one block."""
    architecture = replace(config.model.architecture, depth=1)
    config = replace(
        config,
        out=out,
        model=replace(config.model, architecture=architecture),
        data=replace(config.data, workers=0, **data),
        train=replace(config.train, steps=1),
    )
    with closing(Run.create(config)) as run:
        return fit(run, config)


def test_digits(tmp_path: Path) -> None:
    assert stepped(RECIPES["digits"](), tmp_path / "run")["test/loss"] > 0


def test_fashion_mnist(tmp_path: Path, fashion_mnist: Path) -> None:
    figures = stepped(RECIPES["fashion-mnist"](), tmp_path / "run", root=fashion_mnist)
    assert 0 < figures["test/top1"] < 1


def test_folder_then_finetune(tmp_path: Path, photographs: Path) -> None:
    assert stepped(folder(), tmp_path / "first", root=photographs)["test/loss"] > 0
    recipe = finetune(tmp_path / "first")
    assert recipe.model.architecture.width == folder().model.architecture.width
    assert recipe.model.architecture.dropout == 0
    assert recipe.optim.weight_decay == 0
    assert stepped(recipe, tmp_path / "second", root=photographs)["test/loss"] > 0


def test_finetune_without_weights_describes_a_stand_in() -> None:
    assert finetune().model.architecture == ViTConfig()
    assert finetune().data == DataConfig(source="folder", workers=2)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_knows_its_name(name: str) -> None:
    assert RECIPES[name]().recipe == name
