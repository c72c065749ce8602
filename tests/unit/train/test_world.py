"""A process alone among none, and what it is told when several cannot meet."""

import pytest
import torch

from vitral.train.config import TrainConfig
from vitral.train.world import ALONE, World, joined


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
    with joined(timeout="1min") as world:
        assert world is ALONE


@pytest.mark.parametrize(
    ("environment", "timeout", "sentence"),
    [
        ({}, "20steps", "--timeout must be a time such as 10min, not 20steps"),
        ({"WORLD_SIZE": "2"}, "1min", "WORLD_SIZE is 2, but MASTER_ADDR and MASTER_PORT are not set"),
    ],
)
def test_what_cannot_meet(monkeypatch, environment, timeout, sentence):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=sentence), joined(timeout=timeout):
        pass


def test_a_batch_that_cannot_be_shared_is_refused():
    config = TrainConfig(batch_size=12, accumulate=2)
    config.check_shares(3)
    with pytest.raises(ValueError, match=r"cannot be shared evenly by 4 processes in 2 parts.*a multiple of 8"):
        config.check_shares(4)
