"""Collectives of a single process, and errors of the environment."""

from datetime import timedelta

import pytest
import torch

from vitral.distributed.world import SINGLE_PROCESS, World, join_processes
from vitral.train.config import TrainConfig


def test_collectives_of_a_single_process():
    assert SINGLE_PROCESS.is_main
    assert SINGLE_PROCESS.local_range(6) == range(6)
    assert SINGLE_PROCESS.all_reduce_max(3, 0) == (3, 0)
    assert SINGLE_PROCESS.all_gather("x") == ["x"]
    assert SINGLE_PROCESS.run_on_main(lambda: 7) == 7
    assert SINGLE_PROCESS.all_reduce_sum(torch.tensor(2.0)) == 2
    assert SINGLE_PROCESS.device("cpu") == torch.device("cpu")


def test_local_ranges_are_contiguous_and_even():
    assert [list(World(rank=rank, size=3).local_range(6)) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_errors_of_the_main_process_propagate():
    def wrong() -> None:
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        SINGLE_PROCESS.run_on_main(wrong)


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_processes(timeout=timedelta(minutes=1)) as world:
        assert world is SINGLE_PROCESS


def test_a_missing_address_raises(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    sentence = "WORLD_SIZE is 2, but MASTER_ADDR and MASTER_PORT are not set"
    with pytest.raises(ValueError, match=sentence), join_processes(timeout=timedelta(minutes=1)):
        pass


def test_a_batch_size_that_does_not_divide_raises():
    config = TrainConfig(batch_size=12, accumulate=2)
    config.check_batch_size(3)
    with pytest.raises(ValueError, match=r"do not divide evenly among 4 processes with 2 parts.*a multiple of 8"):
        config.check_batch_size(4)
