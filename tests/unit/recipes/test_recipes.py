"""Every recipe builds its configuration, and takes a step with a small model of its architecture."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shrunk import shrunk
from vitral.card import ModelCard
from vitral.commands.train import config_from_recipe
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.objectives.distillation import DistillationConfig
from vitral.objectives.registry import ObjectiveConfig
from vitral.recipes import RECIPES
from vitral.recipes.finetune import finetune
from vitral.recipes.folder import folder
from vitral.runs.run import Run
from vitral.train.config import RunConfig
from vitral.train.fit import fit
from vitral.vit_config import ViTConfig
from vitral.weights.folder import save_model


def stepped(config: RunConfig, out: Path, **data: object) -> dict[str, float]:
    """One step of a recipe with one block, on the data of a test."""
    architecture = replace(config.model.architecture, depth=1)
    config = replace(
        config,
        out=out,
        model=replace(config.model, architecture=architecture),
        data=replace(config.data, workers=0, **data),
        train=replace(config.train, steps=1),
    )
    with closing(Run.create(config.out, recipe=config.recipe)) as run:
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


def test_finetune_without_weights_has_a_placeholder() -> None:
    assert finetune().model.architecture == ViTConfig()
    assert finetune().data == DataConfig(source="folder", workers=2)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_configuration_has_the_name_of_its_recipe(name: str) -> None:
    assert RECIPES[name]().recipe == name


def with_a_teacher(objective: ObjectiveConfig, photographs: Path, folder: Path) -> ObjectiveConfig:
    """The objective; distillation gets a teacher with random weights."""
    if not isinstance(objective, DistillationConfig):
        return objective
    classes = tuple(sorted(path.name for path in photographs.iterdir()))
    card = ModelCard(classes=classes, preprocessing=Preprocessing(image_size=(32, 32), channels=3))
    teacher = create("ViT-Ti/16", depth=1, image_size=32, num_classes=len(classes))
    save_model(folder, teacher, card)
    return replace(objective, teacher=folder)


LARGE = [name for name in RECIPES if name not in ("digits", "fashion-mnist", "folder", "finetune")]


@pytest.mark.parametrize("name", LARGE)
def test_a_large_recipe_takes_a_step_at_a_small_scale(name: str, tmp_path: Path, photographs: Path) -> None:
    """Only the sizes change; loss, optimiser, schedule, augmentation and parts of the model are the recipe's."""
    config = RECIPES[name]()
    config = replace(
        config,
        out=tmp_path / "run",
        model=replace(config.model, architecture=shrunk(config.model.architecture)),
        data=DataConfig(source="folder", root=photographs),
        objective=with_a_teacher(config.objective, photographs, tmp_path / "teacher"),
        train=replace(config.train, steps=2, batch_size=12, evaluate="1epoch", log="1steps"),
    )
    with closing(Run.create(config.out, recipe=config.recipe)) as run:
        figures = fit(run, config)
    if config.objective.evaluate_by == "labels":
        assert figures["test/loss"] > 0
    else:
        assert figures.keys() == {"test/knn", "test/linear"}
        assert (tmp_path / "run" / "panels.png").stat().st_size > 0


def test_a_named_model_has_the_settings_of_its_row(tmp_path: Path, photographs: Path) -> None:
    config = config_from_recipe(["paper-jft", "--model.name", "R50+ViT-L/32", "--data.root", str(photographs)])
    assert (config.optim.lr, config.train.epochs) == (2e-4, 7)
    assert config.model.architecture.stem_stages == (3, 4, 6, 3)
    assert config.model.architecture.head_bias == -10
