"""Peak memory of calls, as the system counts it."""

import sys

import pytest
import torch

from vitral.inspection import peak_memory
from vitral.inspection.peak_memory import measure_growth, peak_bytes, tensor_bytes

CPU, MB = torch.device("cpu"), 2**20

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the peak of a process")


@linux
def test_memory_of_a_call_is_counted_though_it_is_freed() -> None:
    growth = measure_growth(lambda: torch.ones(64 * MB, dtype=torch.uint8), CPU)
    assert growth.peak is not None
    assert 60 * MB < growth.peak < 90 * MB
    assert growth.kept is not None
    assert growth.kept < 16 * MB


@linux
def test_the_same_call_again_needs_the_same() -> None:
    def call() -> None:
        [torch.ones(MB // 64, dtype=torch.uint8) for _ in range(64 * 32)]  # small blocks, which malloc keeps

    call()
    first, second = measure_growth(call, CPU).peak, measure_growth(call, CPU).peak
    assert first is not None
    assert second is not None
    assert second > 0.7 * first > 16 * MB


@linux
def test_memory_that_is_kept_is_counted() -> None:
    kept = []
    growth = measure_growth(lambda: kept.append(torch.ones(64 * MB, dtype=torch.uint8)), CPU)
    assert growth.kept is not None
    assert 60 * MB < growth.kept < 90 * MB
    assert peak_bytes(MB, growth) == MB + (growth.peak or 0)


def test_a_system_that_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(peak_memory, "RESET", tmp_path / "missing" / "file")
    growth = measure_growth(lambda: None, CPU)
    assert (growth.peak, growth.kept) == (None, None)
    assert peak_bytes(MB, growth) is None


def test_bytes_of_a_module() -> None:
    assert tensor_bytes(torch.nn.Linear(3, 2)) == 4 * (3 * 2 + 2)


@pytest.mark.gpu
def test_memory_on_a_gpu() -> None:
    device = torch.device("cuda")
    growth = measure_growth(lambda: torch.ones(64 * MB, dtype=torch.uint8, device=device), device)
    assert growth.peak == 64 * MB
    assert growth.kept == 0
