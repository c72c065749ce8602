"""A process alone among none, and what it is told when several cannot meet."""

from datetime import timedelta

import pytest
import torch

from vitral.distributed.world import ALONE, World, joined
from vitral.train.config import TrainConfig


def test_alone_everything_is_ones_own():
    assert ALONE.leads
    assert ALONE.share(6) == range(6)
    assert ALONE.agreed(3, 0) == (3, 0)
    assert ALONE.gathered("x") == ["x"]
    assert ALONE.by_leader(lambda: 7) == 7
    assert ALONE.summed(torch.tensor(2.0)) == 2
    assert ALONE.device("cpu") == torch.device("cpu")


def test_shares_are_contiguous_and_even():
    assert [list(World(rank=rank, size=3).share(6)) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_errors_of_the_first_process_pass():
    def wrong() -> None:
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        ALONE.by_leader(wrong)


def test_without_a_launcher_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined(timeout=timedelta(minutes=1)) as world:
        assert world is ALONE


def test_what_cannot_meet(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    sentence = "WORLD_SIZE is 2, but MASTER_ADDR and MASTER_PORT are not set"
    with pytest.raises(ValueError, match=sentence), joined(timeout=timedelta(minutes=1)):
        pass


def test_a_batch_that_cannot_be_shared_is_refused():
    config = TrainConfig(batch_size=12, accumulate=2)
    config.check_shares(3)
    with pytest.raises(ValueError, match=r"cannot be shared evenly by 4 processes in 2 parts.*a multiple of 8"):
        config.check_shares(4)
