"""Metrics of features and architectures, on models that are small or not run at all."""

from dataclasses import replace
from pathlib import Path

import pytest

import vitral.studies.measures
from tiny import tiny_run
from vitral.data.config import DataConfig
from vitral.studies.measures import TRANSFER_TASKS, images_per_second, largest_batch
from vitral.studies.planning import plan_study
from vitral.studies.registry import load_study
from vitral.studies.runner import RUNS, run_arms
from vitral.studies.study import LARGEST_BATCH, SPEED, TOP1, TRANSFER, UNTRAINED, Arm


def digits() -> Arm:
    run = tiny_run(steps=1, track="none")
    return Arm(name="tiny", config=replace(run, data=DataConfig(source="digits", limit=64)))


def test_speed_is_measured_at_growing_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def time(_: object, images: object) -> float:
        sizes.append(len(images))
        return 0.5 if len(images) < 8 else 3.0

    monkeypatch.setattr(vitral.studies.measures, "_fastest", time)
    assert images_per_second(digits().config.model.architecture, seed=0) == 8.0
    assert sizes == [1, 2, 4, 8]


def test_the_largest_batch_shrinks_as_images_grow() -> None:
    architecture = load_study("speed").arms_of("mini")[0].config.model.architecture
    assert largest_batch(architecture) > 2 * largest_batch(replace(architecture, image_size=128))


def test_speed_needs_neither_data_nor_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitral.studies.measures, "_fastest", lambda _, images: len(images) / 100)
    monkeypatch.setattr(vitral.studies.measures, "LARGEST_TIMED", 2)
    arm = digits()
    arm = replace(arm, config=replace(arm.config, data=DataConfig(source="folder", root=tmp_path / "nothing")))
    found = run_arms([arm], metrics=UNTRAINED, seeds=(0,), folder=tmp_path, jobs=1, log=lambda _: None)
    assert found["tiny"][0].metrics[SPEED] == pytest.approx(100)
    assert found["tiny"][0].metrics[LARGEST_BATCH] > 1
    assert len(list((tmp_path / RUNS).rglob("*"))) == 2  # a folder with the result
    plan = plan_study(load_study("speed"), [arm], size="mini", seeds=(0, 1), folder=tmp_path, jobs=1)
    assert (plan.runs, plan.finished, plan.images, plan.data) == (2, 1, 0, "none")
    assert plan.hours > 0


@pytest.mark.slow
def test_transfer_is_a_mean_over_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(TRANSFER_TASKS) == 9
    few = {name: TRANSFER_TASKS[name] for name in ("mini-digits", "mini-textures")}
    monkeypatch.setattr(vitral.studies.measures, "TRANSFER_TASKS", few)
    metrics = (TRANSFER, TOP1)
    found = run_arms([digits()], metrics=metrics, seeds=(0,), folder=tmp_path, jobs=1, log=lambda _: None)["tiny"][0]
    assert set(found.metrics) == set(metrics)
    assert 0.1 < found.metrics[TRANSFER] < 1
