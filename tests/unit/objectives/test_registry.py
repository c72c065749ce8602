"""The registry of objectives: what it lists, what a run may combine with each, and how configurations name them."""

import pkgutil
from dataclasses import replace
from pathlib import Path

import pytest

import vitral.objectives
from tiny import build_context, tiny_run
from vitral.config import from_dict, to_dict
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.dino import DINOConfig
from vitral.objectives.distillation import DistillationConfig
from vitral.objectives.entry import BuildContext, Teacher
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.objectives.objective import Objective
from vitral.objectives.registry import OBJECTIVES, ObjectiveConfig, build_objective
from vitral.train.config import RunConfig

PREPROCESSING = Preprocessing(image_size=(8, 8), channels=1)


def run_with(objective: str, **train: object) -> RunConfig:
    return replace(tiny_run(**{"ema": None, **train}), objective=OBJECTIVES[objective].config())


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
def test_images_without_classes_serve_objectives_without_labels_alone(name: str) -> None:
    run = run_with(name)
    data = DataConfig(source="images", root=Path("photos"))
    if run.objective.evaluate_by == "labels":
        with pytest.raises(UserError, match=r"--data\.source images has no classes"):
            replace(run, data=data)
    else:
        assert replace(run, data=data).data == data


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_linear_probe_learns_labels_alone(name: str) -> None:
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
def test_what_compares_a_whole_batch_refuses_parts_of_it(config: ObjectiveConfig) -> None:
    assert build_objective(config, build_context(PREPROCESSING))
    assert build_objective(type(config)(), build_context(PREPROCESSING, accumulate=2))
    with pytest.raises(UserError, match=r"set --train\.accumulate 1"):
        build_objective(config, build_context(PREPROCESSING, accumulate=2))


def test_a_finished_run_with_parts_of_a_batch_still_loads() -> None:
    """Its report and its evaluation need the configuration, not the objective."""
    config = replace(run_with("dino", accumulate=2), objective=DINOConfig(assignment="sinkhorn"))
    assert from_dict(RunConfig, to_dict(config), origin="here") == config
