"""Every recipe is built, and takes a step with a model of its own structure."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from vitral.commands.train import started
from vitral.data.card import ModelCard
from vitral.data.config import DataConfig
from vitral.data.preprocess import Preprocessing
from vitral.models import create
from vitral.objectives.distillation import DistillationConfig
from vitral.objectives.kinds import ObjectiveConfig
from vitral.recipes import RECIPES
from vitral.recipes.finetune import finetune
from vitral.recipes.folder import folder
from vitral.recipes.paper import JFT, paper_imagenet, paper_imagenet21k, paper_jft
from vitral.train.config import RunConfig
from vitral.train.loop import fit
from vitral.train.run import Run
from vitral.vit_config import ViTConfig
from vitral.weights.folder import save_model


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


def with_a_teacher(objective: ObjectiveConfig, photographs: Path, folder: Path) -> ObjectiveConfig:
    """An objective that learns from a teacher is given one with random weights."""
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
    """Everything but the sizes stays: loss, optimiser, schedule, augmentation, parts of the model."""
    config = RECIPES[name]()
    patch = config.model.architecture.patch_hw[0]
    small = replace(
        config.model.architecture, image_size=2 * patch, width=24, depth=2, num_heads=2, mlp_dim=48,
        representation_size=24 if config.model.architecture.representation_size else None,
    )  # fmt: skip
    config = replace(
        config,
        out=tmp_path / "run",
        model=replace(config.model, architecture=small),
        data=DataConfig(source="folder", root=photographs),
        objective=with_a_teacher(config.objective, photographs, tmp_path / "teacher"),
        train=replace(config.train, steps=2, batch_size=12, evaluate="1epoch", log="1steps"),
    )
    with closing(Run.create(config)) as run:
        figures = fit(run, config)
    if config.objective.judged_by == "labels":
        assert figures["test/loss"] > 0
    else:
        assert figures.keys() == {"test/knn", "test/linear"}
        assert (tmp_path / "run" / "panels.png").stat().st_size > 0


@pytest.mark.parametrize("name", JFT)
def test_every_row_of_table_3(name: str) -> None:
    config = paper_jft(name)
    assert (config.optim.lr, config.train.epochs) == JFT[name]
    assert config.model.architecture.head_bias == -10
    assert config.objective.loss == "sigmoid"
    assert (config.schedule.decay, config.schedule.end) == ("linear", 1e-5)


def test_a_model_that_table_3_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Table 3 has no ViT-G/14: --model\.name takes ViT-B/16, "):
        paper_jft("ViT-G/14")


def test_the_other_rows_of_table_3_by_hand() -> None:
    large, plain = paper_imagenet21k("ViT-L/16"), paper_imagenet()
    assert (large.optim.lr, large.optim.weight_decay, large.model.architecture.dropout) == (1e-3, 0.03, 0.1)
    assert large.model.architecture.representation_size == 1024
    assert large.optim.clip is None
    assert (plain.optim.lr, plain.optim.weight_decay, plain.optim.clip) == (3e-3, 0.3, 1.0)
    assert (plain.objective.loss, plain.schedule.decay, plain.model.architecture.head_bias) == ("softmax", "cosine", 0)
    for config in (large, plain):
        assert config.train.batch_size == 4096
        assert config.schedule.warmup == "10000steps"


def test_rows_of_table_4_by_hand() -> None:
    steps = {name: RECIPES[name]().train.steps for name in RECIPES if name.startswith("paper-") and "-i" not in name}
    assert steps.pop("paper-jft") is None
    assert steps == {"paper-cifar10": 10_000, "paper-cifar100": 10_000, "paper-pets": 500, "paper-flowers": 500}
    best = RECIPES["paper-imagenet1k-512"]()
    assert (best.train.steps, best.train.ema, best.train.ema_warmup) == (20_000, 0.9999, False)
    assert best.model.architecture.image_size == 512
    assert RECIPES["paper-imagenet1k"]().model.architecture.image_size == 384


def test_the_named_model_has_its_own_row(tmp_path: Path, photographs: Path) -> None:
    config = started(["paper-jft", "--model.name", "R50+ViT-L/32", "--data.root", str(photographs)])
    assert (config.optim.lr, config.train.epochs) == (2e-4, 7)
    assert config.model.architecture.stem_stages == (3, 4, 6, 3)
    assert config.model.architecture.head_bias == -10
