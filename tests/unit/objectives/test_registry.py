"""The registry of objectives: what it lists, the settings each allows in a run, and loading of its configuration."""

import pkgutil
from dataclasses import replace
from pathlib import Path

import pytest

import vitral.objectives
from tiny import build_context, tiny_run
from vitral.config import from_dict, to_dict
from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.dino import CropConfig, DINOConfig
from vitral.objectives.distillation import DistillationConfig
from vitral.objectives.entry import BuildContext, Teacher
from vitral.objectives.mae import MAEConfig
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.objectives.objective import Objective
from vitral.objectives.registry import OBJECTIVES, ObjectiveConfig, build_objective
from vitral.train.config import RunConfig

PREPROCESSING = Preprocessing(image_size=(8, 8), channels=1)


DATA = {
    "multi_label": DataConfig(source="csv", root=Path("labels.csv"), target="multi-label"),
    "regression": DataConfig(source="csv", root=Path("labels.csv"), target="regression"),
}
"""Data of objectives that learn something else than classes."""


def run_with(objective: str, **train: object) -> RunConfig:
    run = tiny_run(**{"ema": None, **train})
    return replace(run, objective=OBJECTIVES[objective].config(), data=DATA.get(objective, run.data))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_entry_has_one_file_and_its_configurations_name(name: str) -> None:
    entry = OBJECTIVES[name]
    assert entry.config().name == name == entry.name
    assert entry.config.__module__ == f"vitral.objectives.{name}"
    assert name in [module.name for module in pkgutil.iter_modules(vitral.objectives.__path__)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_configuration_comes_back_from_json_and_builds_its_objective(name: str) -> None:
    config = run_with(name)
    assert from_dict(RunConfig, to_dict(config), origin="here") == config
    if name != "distillation":
        assert isinstance(build_objective(config.objective, build_context(PREPROCESSING)), Objective)


def test_a_configuration_without_a_name_is_classification() -> None:
    values = to_dict(run_with("classification"))
    del values["objective"]["name"]
    assert from_dict(RunConfig, values, origin="here").objective == ClassificationConfig()


def test_an_unknown_name_is_refused() -> None:
    values = to_dict(run_with("classification"))
    values["objective"]["name"] = "clip"
    with pytest.raises(UserError, match=r"here: objective is wrong: .*'\(dino\)'"):
        from_dict(RunConfig, values, origin="here")


def test_a_teacher_is_loaded_in_the_context_of_the_run() -> None:
    loaded = []

    def load_teacher(path: Path, context: BuildContext) -> Teacher:
        loaded.append((path, context))
        return lambda images: images

    context = build_context(PREPROCESSING, load_teacher=load_teacher)
    build_objective(DistillationConfig(teacher=Path("teacher")), context)
    assert loaded == [(Path("teacher"), context)]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_images_without_classes_are_for_objectives_without_labels(name: str) -> None:
    run = run_with(name)
    data = DataConfig(source="images", root=Path("photos"))
    if run.objective.evaluate_by == "labels":
        message = r"--data\.target" if name in DATA else r"--data\.source images has no classes"
        with pytest.raises(UserError, match=message):
            replace(run, data=data)
    else:
        assert replace(run, data=data).data == data


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_linear_probe_needs_labels(name: str) -> None:
    run = run_with(name)
    probe = replace(run.model, probe=True)
    if run.objective.evaluate_by == "labels":
        assert replace(run, model=probe).model.probe
    else:
        with pytest.raises(UserError, match="a linear probe learns classes"):
            replace(run, model=probe)


@pytest.mark.parametrize(
    "config", [DINOConfig(assignment="sinkhorn"), DINOConfig(koleo=0.1), MaskedPatchConfig(replaced_from="batch")]
)
def test_losses_that_compare_the_images_of_a_batch_refuse_accumulation(config: ObjectiveConfig) -> None:
    assert build_objective(config, build_context(PREPROCESSING))
    assert build_objective(type(config)(), build_context(PREPROCESSING, accumulate=2))
    with pytest.raises(UserError, match=r"set --train\.accumulate 1"):
        build_objective(config, build_context(PREPROCESSING, accumulate=2))


def test_a_finished_run_with_such_a_loss_and_accumulation_still_loads() -> None:
    """Its report and its evaluation need the configuration, not the objective."""
    config = replace(run_with("dino", accumulate=2), objective=DINOConfig(assignment="sinkhorn"))
    assert from_dict(RunConfig, to_dict(config), origin="here") == config


@pytest.mark.parametrize(
    ("name", "old", "config"),
    [
        ("classification", {"mixed_labels": "shares"}, ClassificationConfig()),
        (
            "classification",
            {"loss": "sigmoid", "mixed_labels": "both"},
            ClassificationConfig(loss="sigmoid", mixed_labels="multi_hot"),
        ),
        (
            "distillation",
            {"share": 0.25, "labels": {"mixed_labels": "shares"}},
            DistillationConfig(teacher_weight=0.25),
        ),
        ("masked_patch", {"share": 0.25}, MaskedPatchConfig(corrupted_fraction=0.25)),
        ("mae", {"share": 0.25}, MAEConfig(masked_fraction=0.25)),
        (
            "dino",
            {"views": {"num_local": 2}, "masked_share": 0.25},
            DINOConfig(crops=CropConfig(num_local=2), masked_fraction=0.25),
        ),
    ],
)
def test_old_keys_load(name: str, old: dict[str, object], config: ObjectiveConfig) -> None:
    values = to_dict(run_with(name)) | {"objective": {"name": name, **old}}
    run = from_dict(RunConfig, values, origin="here")
    assert run.objective == config
    written = to_dict(run)["objective"]
    assert not {"share", "views", "masked_share"} & written.keys()
    assert from_dict(RunConfig, to_dict(run), origin="here") == run


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("target", ["class", "multi-label", "regression"])
def test_an_objective_learns_one_kind_of_target(name: str, target: str) -> None:
    run = run_with(name)
    data = DataConfig(source="csv", root=Path("labels.csv"), target=target)
    if run.data.target == target:
        assert replace(run, data=data).data.target == target
    else:
        with pytest.raises(UserError, match=r"--data\.target"):
            replace(run, data=data)


@pytest.mark.parametrize("name", DATA)
def test_several_labels_and_numbers_are_not_mixed(name: str) -> None:
    with pytest.raises(UserError, match=r"give --augment\.mixup 0"):
        replace(run_with(name), augment=AugmentConfig(mixup=0.2))
