"""Sentences name what disturbed a measurement."""

import subprocess
from types import SimpleNamespace

import pytest
import torch

from vitral.inspection import disturbances
from vitral.inspection.disturbances import Disturbances, Watch, fixed_work, median_drift

CPU = torch.device("cpu")


def test_a_quiet_machine_has_nothing_to_tell() -> None:
    quiet = Disturbances(other_processes=0.01, stolen=0.0, drift=0.02, gpu_busy=0.0, gpu_clock=1.0)
    assert quiet.sentences() == []


def test_everything_that_disturbs_is_noted() -> None:
    found = Disturbances(
        other_processes=0.4,
        stolen=0.1,
        drift=0.2,
        gpu_busy=0.3,
        gpu_limits=("the temperature",),
    )
    text = "\n".join(found.sentences())
    for fact in ("40% of the CPU", "10% of the CPU", "20% slower", "30% busy", "the temperature lowered"):
        assert fact in text
    (one,) = Disturbances(other_processes=0.0, stolen=0.0, drift=-0.2).sentences()
    assert "20% faster" in one


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(disturbances, "STAT", tmp_path / "missing")
    found = Watch(CPU).read([])
    assert (found.other_processes, found.stolen, found.drift) == (None, None, None)
    assert "does not tell" in found.sentences()[0]


def test_other_processes_are_what_is_left_of_the_busy_time(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Two cores for ten seconds: busy for 12 of 20 seconds, of which 4 are our own, and 1 stolen."""
    stat, clock, own = tmp_path / "stat", SimpleNamespace(value=0.0), SimpleNamespace(value=0.0)
    monkeypatch.setattr(disturbances, "STAT", stat)
    monkeypatch.setattr(disturbances.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(disturbances.os, "sysconf", lambda _: 100)
    monkeypatch.setattr(disturbances.time, "perf_counter", lambda: clock.value)
    monkeypatch.setattr(disturbances, "_own_seconds", lambda: own.value)
    stat.write_text("cpu 100 0 0 500 0 0 0 0 0 0\n")
    watch = Watch(CPU)
    stat.write_text("cpu 1100 100 100 1200 0 0 0 100 0 0\n")
    clock.value, own.value = 10.0, 4.0
    found = watch.read([])
    assert found.other_processes == pytest.approx(8 / 20)
    assert found.stolen == pytest.approx(1 / 20)


def test_drift_compares_the_last_third_with_the_first() -> None:
    assert median_drift([1.0, 1.0, 5.0, 5.0, 2.0, 2.0]) == 1.0
    assert median_drift([1.0] * 5) is None


def test_fixed_work_runs() -> None:
    fixed_work(CPU)()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("7, 990, 1980, 0x0000000000000024\n", (0.07, 0.5, 0x24)),
        ("[N/A], 990, 1980, 0x0\n", None),
        ("", None),
    ],
)
def test_a_gpu_is_asked_through_nvidia_smi(
    output: str, expected: tuple | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="ab"))
    commands = []

    def run(command, **_):
        commands.append(command)
        return SimpleNamespace(stdout=output)

    monkeypatch.setattr(subprocess, "run", run)
    assert disturbances._query_gpu(torch.device("cuda:1")) == expected
    assert commands[0][1] == "--id=GPU-ab"


def test_a_lower_clock_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbances, "_query_gpu", lambda _: (0.0, 0.8, 0x04 | 0x20 | 0x40))
    found = Watch(CPU).read([])
    assert found.gpu_limits == ("the power limit", "the temperature")
    assert found.gpu_clock == 0.8
