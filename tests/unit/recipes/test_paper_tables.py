"""The recipes have the numbers of the paper's Tables 3 and 4, typed in from the paper."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shrunk import shrunk
from vitral.card import ModelCard
from vitral.commands.train import config_from_recipe
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.datasets.registry import DATA_SETS
from vitral.models import architecture, build
from vitral.recipes import RECIPES
from vitral.recipes.families import TASKS
from vitral.resnet import ResNet, ResNetConfig
from vitral.runs.run import Run
from vitral.train.config import RunConfig
from vitral.train.fit import fit
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.folder import save_model

TABLE_3 = [
    # recipe, model, epochs, base rate, decay and its end, weight decay, dropout, clipping
    ("paper-jft", "ViT-B/16", 7, 8e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "ViT-B/32", 7, 8e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "ViT-L/32", 7, 6e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "ViT-L/16", 14, 4e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "ViT-H/14", 14, 3e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "BiT-R50x1", 7, 1e-3, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "BiT-R50x2", 7, 1e-3, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "BiT-R101x1", 7, 8e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "BiT-R152x1", 7, 6e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "BiT-R152x2", 7, 6e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "R50+ViT-B/16", 7, 8e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "R50+ViT-B/32", 7, 8e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "R50+ViT-L/32", 7, 2e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-jft", "R50+ViT-L/16", 14, 4e-4, ("linear", 1e-5), 0.1, 0.0, None),
    ("paper-imagenet21k", "ViT-B/16", 90, 1e-3, ("linear", 1e-5), 0.03, 0.1, None),
    ("paper-imagenet21k", "ViT-B/32", 90, 1e-3, ("linear", 1e-5), 0.03, 0.1, None),
    ("paper-imagenet21k", "ViT-L/16", 90, 1e-3, ("linear", 1e-5), 0.03, 0.1, None),
    ("paper-imagenet21k", "ViT-L/32", 90, 1e-3, ("linear", 1e-5), 0.03, 0.1, None),
    ("paper-imagenet", "ViT-B/16", 300, 3e-3, ("cosine", 0.0), 0.3, 0.1, 1.0),
    ("paper-imagenet", "ViT-B/32", 300, 3e-3, ("cosine", 0.0), 0.3, 0.1, 1.0),
    ("paper-imagenet", "ViT-L/16", 300, 3e-3, ("cosine", 0.0), 0.3, 0.1, 1.0),
    ("paper-imagenet", "ViT-L/32", 300, 3e-3, ("cosine", 0.0), 0.3, 0.1, 1.0),
]
"""The paper also trains L/16 and R50+L/16 on JFT for 7 epochs, and L/16 and L/32 on ImageNet-21k for 30."""

JFT = [row[1] for row in TABLE_3 if row[0] == "paper-jft"]

STAGES = {
    "R50+ViT-B/16": (3, 4, 9),
    "R50+ViT-L/16": (3, 4, 9),
    "R50+ViT-B/32": (3, 4, 6, 3),
    "R50+ViT-L/32": (3, 4, 6, 3),
    "BiT-R50x1": (3, 4, 6, 3),
    "BiT-R50x2": (3, 4, 6, 3),
    "BiT-R101x1": (3, 4, 23, 3),
    "BiT-R152x1": (3, 8, 36, 3),
    "BiT-R152x2": (3, 8, 36, 3),
}
"""Units in the stages of hybrids (section 3.1) and of ResNets (He et al.)."""

SOURCES = {"paper-jft": "folder", "paper-imagenet21k": "imagenet21k", "paper-imagenet": "imagenet1k"}


def fitted(config: RunConfig) -> dict[str, float]:
    with closing(Run.create(config.out, recipe=config.recipe)) as run:
        return fit(run, config)


@pytest.mark.parametrize("row", TABLE_3, ids=lambda row: f"{row[0]}-{row[1]}")
def test_rows_of_table_3(row: tuple[Any, ...]) -> None:
    recipe, model, epochs, rate, decay, weight_decay, dropout, clip = row
    config = config_from_recipe([recipe, "--model.name", model])
    vit = config.model.architecture
    assert (config.train.epochs, config.train.steps, config.train.batch_size) == (epochs, None, 4096)
    assert (config.optim.name, config.optim.lr, config.optim.betas) == ("adamw", rate, (0.9, 0.999))
    assert (config.optim.weight_decay, config.optim.decay_form, config.optim.clip) == (weight_decay, "times_lr", clip)
    assert (config.schedule.decay, config.schedule.end, config.schedule.warmup) == (*decay, "10000steps")
    assert getattr(vit, "dropout", 0.0) == dropout
    assert vit.image_size == 224
    assert config.data.source == SOURCES[recipe]
    softmax = recipe == "paper-imagenet"
    assert (config.objective.loss, vit.head_bias) == (("softmax", 0.0) if softmax else ("sigmoid", -10.0))
    assert (config.augment.crop, config.augment.crop_area, config.augment.flip) == ("inception_tf", (0.05, 1.0), True)
    assert (config.augment.randaugment, config.augment.mixup) == ("none", 0.0)
    assert (config.preprocessing.mean, config.preprocessing.std) == ((0.5,), (0.5,))


@pytest.mark.parametrize("model", JFT)
def test_the_models_of_table_3(model: str) -> None:
    """Architecture, units of the ResNet, total stride, and a tanh layer of the tokens' width."""
    vit = config_from_recipe(["paper-jft", "--model.name", model]).model.architecture
    if model.startswith("BiT"):
        assert isinstance(vit, ResNetConfig)
        assert (vit.stages, vit.width_factor) == (STAGES[model], int(model[-1]))
        return
    assert isinstance(vit, ViTConfig)
    assert vit.stem_stages == STAGES.get(model)
    assert vit.patch_size == int(model.rpartition("/")[2])
    sizes = {"B": (12, 768, 3072, 12), "L": (24, 1024, 4096, 16), "H": (32, 1280, 5120, 16)}[
        model.rpartition("-")[2][0]
    ]
    assert (vit.depth, vit.width, vit.mlp_dim, vit.num_heads) == sizes
    assert vit.representation_size == sizes[1]


def test_table_3_has_no_other_model_on_jft() -> None:
    with pytest.raises(ValueError, match=r"Table 3 has no ViT-G/14: --model\.name takes ViT-B/16, ") as refused:
        RECIPES["paper-jft"]("ViT-G/14")
    assert set(str(refused.value).rpartition("takes ")[2].split(", ")) == set(JFT)


@pytest.mark.parametrize("model", JFT)
def test_every_model_of_table_3_takes_a_step(model: str, tmp_path: Path, photographs: Path) -> None:
    """The shrunk model keeps a hybrid's stages and a ResNet's width factor."""
    config = config_from_recipe(["paper-jft", "--model.name", model])
    tiny = shrunk(config.model.architecture)
    assert isinstance(build(tiny), ResNet if model.startswith("BiT") else ViT)
    stages = tiny.stages if isinstance(tiny, ResNetConfig) else tiny.stem_stages or ()
    assert len(stages) == len(STAGES.get(model, ()))
    config = replace(
        config,
        out=tmp_path / "run",
        model=replace(config.model, architecture=tiny),
        data=DataConfig(source="folder", root=photographs, limit=24),
        train=replace(config.train, epochs=1.0, batch_size=12, log="1steps", track="none"),
    )
    assert fitted(config)["test/loss"] > 0


TABLE_4 = {
    # steps, warm-up of the released code, grid of rates, fraction of images that selects it, B/16 (Table 5)
    "imagenet1k": (20_000, 500, (0.003, 0.01, 0.03, 0.06), 0.01, 83.97),
    "cifar100": (10_000, 500, (0.001, 0.003, 0.01, 0.03), 0.02, 91.67),
    "cifar10": (10_000, 500, (0.001, 0.003, 0.01, 0.03), 0.02, 98.95),
    "pets": (500, 100, (0.001, 0.003, 0.01, 0.03), 0.1, 94.43),
    "flowers": (500, 100, (0.001, 0.003, 0.01, 0.03), 0.1, 99.38),
}


def test_table_4_has_these_rows() -> None:
    assert set(TASKS) == set(TABLE_4)


@pytest.mark.parametrize("task", TABLE_4)
def test_rows_of_table_4(task: str) -> None:
    steps, warmup, grid, fraction, accuracy = TABLE_4[task]
    config = RECIPES[f"paper-{task}"]()
    assert (config.train.steps, config.train.batch_size, config.train.ema) == (steps, 512, None)
    assert (config.optim.name, config.optim.momentum, config.optim.nesterov) == ("sgd", 0.9, False)
    assert (config.optim.weight_decay, config.optim.clip) == (0.0, 1.0)
    assert (config.schedule.decay, config.schedule.end, config.schedule.warmup) == ("cosine", 0.0, f"{warmup}steps")
    assert config.optim.lr in grid
    vit = config.model.architecture
    assert (vit.image_size, vit.dropout, vit.representation_size) == (384, 0.0, None)
    assert vit.head_bias == 0.0
    assert (config.objective.loss, config.data.source) == ("softmax", task)
    assert tuple(map(float, TASKS[task]["grid"].split(","))) == grid
    assert TASKS[task]["val_fraction"] == fraction
    assert DATA_SETS[task].val_fraction == (None if task == "flowers" else fraction)
    assert f"{accuracy:.2f} %" in RECIPES[f"paper-{task}"].describe()["expect"]


def test_the_best_of_table_2() -> None:
    config = RECIPES["paper-imagenet1k-512"]()
    assert (config.train.steps, config.train.ema, config.train.ema_warmup) == (20_000, 0.9999, False)
    assert config.model.architecture.image_size == 512
    expected = RECIPES["paper-imagenet1k-512"].describe()["expect"]
    for figure in ("88.55 % ± 0.04", "87.76 % ± 0.03", "85.30 % ± 0.02"):
        assert figure in expected


@pytest.mark.parametrize("model", ["R50+ViT-B/16", "BiT-R50x1", "ViT-H/14"])
def test_every_kind_of_model_is_fine_tuned_as_in_table_4(model: str, tmp_path: Path, photographs: Path) -> None:
    trained = build(replace(shrunk(architecture(model)), num_classes=3))
    preprocessing = Preprocessing(image_size=trained.config.image_hw, channels=3)
    save_model(tmp_path / "weights", trained, ModelCard(classes=("a", "b", "c"), preprocessing=preprocessing))
    config = config_from_recipe(["paper-pets", "--model.weights", str(tmp_path / "weights")])
    tuned, largest = config.model.architecture, RECIPES["paper-imagenet1k-512"](tmp_path / "weights").model.architecture
    assert (tuned.image_size, largest.image_size) == ((378, 518) if model.endswith("/14") else (384, 512))
    assert type(tuned) is type(trained.config)
    assert getattr(tuned, "stem_stages", None) == getattr(trained.config, "stem_stages", None)
    config = replace(
        config,
        out=tmp_path / "run",
        model=replace(config.model, architecture=replace(tuned, image_size=trained.config.image_size)),
        data=DataConfig(source="folder", root=photographs, limit=24),
        train=replace(config.train, steps=2, batch_size=12, log="1steps", track="none"),
    )
    assert fitted(config)["test/loss"] > 0
