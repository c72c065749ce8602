"""Which batch sizes are measured, and which contenders are left out on the way."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from models import SMALL
from vitral.commands.bench.contenders import Contender, Settings
from vitral.commands.bench.measure import measure
from vitral.inspection.timing import Work, time_in_turns

CPU = torch.device("cpu")


def contender(by: str, seconds: dict[int, float], clock: list[float], *, fails_from: int = 10**6) -> Contender:
    """Its calls take as long as `seconds` says, on a clock of ours."""

    def prepare(size: int) -> Work:
        if size >= fails_from:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")

        def call() -> None:
            clock[0] += seconds[size]

        return call

    return Contender(model="m", by=by, architecture=SMALL, precision="float32", device=CPU, prepare=prepare, held=100)


def measured(monkeypatch, *contenders: Contender, clock: list[float], seconds: float = 1000.0, sizes=None):
    """Rows of a measurement on our clock."""
    monkeypatch.setattr("vitral.inspection.timing.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(
        "vitral.commands.bench.measure.fixed_work", lambda _: lambda: clock.__setitem__(0, clock[0] + 1e-6)
    )
    monkeypatch.setattr("vitral.commands.bench.measure.time_in_turns", partial(time_in_turns, max_rounds=6))
    return measure(contenders, device=CPU, batch_sizes=sizes, seconds=seconds)


def test_larger_batches_are_left_out_when_two_in_a_row_are_no_faster(monkeypatch) -> None:
    clock = [0.0]
    seconds = {1: 1.0, 2: 1.0, 4: 1.0, 8: 2.0, 16: 4.0, 32: 8.0, 64: 16.0}
    found = measured(monkeypatch, contender("a", seconds, clock), clock=clock)
    assert [row.batch_size for row in found.rows] == [1, 2, 4, 8, 16]
    assert [row.images_per_second for row in found.rows] == [1, 2, 4, 4, 4]


def test_batches_that_take_too_long_are_left_out_with_a_note(monkeypatch) -> None:
    clock = [0.0]
    found = measured(monkeypatch, contender("a", {1: 1.0, 2: 1.0, 4: 1.0}, clock), clock=clock, seconds=20.0)
    assert [row.batch_size for row in found.rows] == [1, 2]
    assert "from 4 on" in found.notes[0]


def test_the_slower_contender_is_relative_to_the_first(monkeypatch) -> None:
    clock = [0.0]
    first, second = (contender(name, {1: each}, clock) for name, each in (("a", 1.0), ("b", 2.0)))
    found = measured(monkeypatch, first, second, clock=clock, sizes=[1])
    assert [row.ratio.median for row in found.rows] == [1, 0.5]


def test_a_contender_without_memory_is_left_out_with_a_note(monkeypatch) -> None:
    clock = [0.0]
    seconds = dict.fromkeys((1, 2, 4), 1.0)
    first = contender("a", seconds, clock)
    second = contender("b", seconds, clock, fails_from=2)
    found = measured(monkeypatch, first, second, clock=clock, sizes=[1, 2, 4])
    assert [(row.contender.by, row.batch_size) for row in found.rows] == [("a", 1), ("b", 1), ("a", 2), ("a", 4)]
    assert "m, b: not measured from batch 2 on: out of memory" in found.notes


def test_nothing_is_measured_if_nothing_fits(monkeypatch) -> None:
    clock = [0.0]
    found = measured(monkeypatch, contender("a", {}, clock, fails_from=1), clock=clock, sizes=[1])
    assert not found.rows
    assert "out of memory" in found.notes[0]


@pytest.mark.parametrize(
    ("device", "train", "kinds"),
    [
        ("cuda", False, ["compiled", "CUDA graphs"]),
        ("cuda", True, ["compiled"]),
        ("cpu", False, ["compiled"]),
    ],
)
def test_inference_on_a_gpu_is_also_measured_as_cuda_graphs(device: str, train: bool, kinds: list[str]) -> None:
    settings = Settings(device=torch.device(device), bfloat16=False, train=train, compile=True, token_merging=None)
    assert list(settings.compilations) == kinds
    assert not replace(settings, compile=False).compilations
