"""The loop over steps, without a run's folder."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from photographs import add_unreadable_files, write_photographs
from tiny import ARCHITECTURE, tiny_run
from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.runs.run import Run
from vitral.train.config import RunConfig
from vitral.train.fit import fit
from vitral.train.interrupts import Interrupted
from vitral.train.plan import Due, Plan
from vitral.train.session import Session
from vitral.train.steps import UnreadableBatch, train_steps
from vitral.weights.folder import load_model


def start(config: RunConfig) -> tuple[Session, Source, Plan]:
    source = open_data(config.data)["train"]
    config = config.resolved(num_classes=len(source.classes))
    return Session(config, classes=source.classes), source, Plan.of(config, samples=len(source))


def test_the_loop_trains_the_weights_that_fit_trains(tmp_path: Path) -> None:
    config = tiny_run(tmp_path / "run")
    run = Run.create(config.out, recipe=config.recipe)
    fit(run, config)
    run.close()
    session, source, plan = start(config)
    assert len(list(train_steps(session, source, plan))) == 12
    expected = load_model(tmp_path / "run").state_dict()
    for name, weight in session.export_model().state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_each_step_says_what_was_done_and_what_is_due() -> None:
    session, source, plan = start(tiny_run(steps=5, log="2steps", evaluate="3steps"))
    steps = list(train_steps(session, source, plan))
    assert [step.number for step in steps] == [1, 2, 3, 4, 5]
    assert [step.lr for step in steps] == [plan.learning_rate(number) for number in range(5)]
    assert [step.is_last for step in steps] == [False, False, False, False, True]
    assert [step.due for step in steps] == [
        Due(log=False, evaluate=False, save=False),
        Due(log=True, evaluate=False, save=False),
        Due(log=False, evaluate=True, save=False),
        Due(log=True, evaluate=False, save=True),
        Due(log=False, evaluate=False, save=False),
    ]
    assert {step.num_images for step in steps} == {64}
    assert all(step.metrics["loss"].isfinite() for step in steps)


def test_the_loop_continues_at_the_step_of_the_session() -> None:
    session, source, plan = start(tiny_run(steps=5))
    for step in train_steps(session, source, plan):
        if step.number == 3:
            break
    assert [step.number for step in train_steps(session, source, plan)] == [4, 5]


def test_a_signal_stops_between_two_steps() -> None:
    session, source, plan = start(tiny_run(steps=5))
    signals = iter([None, None, signal.SIGTERM])
    steps = train_steps(session, source, plan, stop_signal=lambda: next(signals))
    assert [next(steps).number for _ in range(2)] == [1, 2]
    with pytest.raises(Interrupted) as caught:
        next(steps)
    assert caught.value.signum == signal.SIGTERM
    assert session.step == 2


def test_an_unreadable_image_stops_before_its_step(tmp_path: Path) -> None:
    write_photographs(tmp_path, per_class=4)
    add_unreadable_files(tmp_path)
    config = tiny_run(batch_size=32, steps=9)
    architecture = replace(ARCHITECTURE, image_size=32, patch_size=8, channels=3)
    data = DataConfig(source="folder", root=tmp_path)
    session, source, plan = start(replace(config, model=replace(config.model, architecture=architecture), data=data))
    with pytest.raises(UnreadableBatch, match=r"broken-\w+\.\w+ .*--data\.on-error skip"):
        list(train_steps(session, source, plan))
    assert all(parameter.grad is None for parameter in session.model.parameters())
