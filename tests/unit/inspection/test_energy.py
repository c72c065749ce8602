"""The power meter reads the counters of the system."""

from pathlib import Path

import pytest
import torch

from vitral.inspection import energy
from vitral.inspection.energy import PowerMeter


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(energy, "COUNTERS", tmp_path)
    paths = [tmp_path / f"intel-rapl:{number}" / "energy_uj" for number in (0, 1)]
    for path in paths:
        path.parent.mkdir()
        path.write_text("999000000")
        path.with_name("max_energy_range_uj").write_text("999999999")
    return paths


def test_power_is_energy_over_time_also_past_the_counters_end(counters, monkeypatch):
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(energy.time, "perf_counter", lambda: next(clock))
    with PowerMeter(torch.device("cpu")) as meter:
        counters[0].write_text("999500000")  # half a joule
        counters[1].write_text("19000000")  # a joule to its end, then 19
    assert meter.watts == pytest.approx(20.5 / 4)


def test_power_is_unknown_without_counters(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "COUNTERS", tmp_path)
    with PowerMeter(torch.device("cpu")) as meter:
        pass
    assert meter.watts is None
