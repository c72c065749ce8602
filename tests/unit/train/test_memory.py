"""The estimate of a step's memory, and what is refused by it."""

import pickle
from dataclasses import replace

import pytest
import torch

from tiny import tiny_run
from vitral import device as device_module
from vitral.device import free_memory
from vitral.errors import UserError
from vitral.inspection.cost import activation_memory, cost
from vitral.recipes import RECIPES
from vitral.train import memory
from vitral.train.memory import StepMemory, check_memory, estimate_memory, with_parts_that_fit
from vitral.train.resource_errors import NotEnoughMemory

CPU = torch.device("cpu")
GB = 10**9

STEP = StepMemory(fixed=100, per_image=10, batch=12, waiting=20)


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: free)


@pytest.mark.parametrize(
    ("free", "in_pairs", "parts"),
    [
        (240, False, 1),
        (239, False, 2),
        (160, False, 3),
        (130, False, 12),
        (129, False, None),
        (140, True, 6),
        (139, True, None),
    ],
)
def test_the_fewest_parts_by_hand(free, in_pairs, parts):
    assert STEP.fewest_parts(free, in_pairs=in_pairs) == parts


def test_the_estimate_of_a_run():
    config = tiny_run(precision="float32")
    found = estimate_memory(config, device=CPU)
    model = config.model.architecture
    saved = activation_memory(model, bfloat16=False, recompute=False)
    assert found.fixed == 4 * 5 * cost(model).parameters + saved.fixed  # weights, gradients, two moments, average
    assert found.per_image == saved.per_image
    assert found.batch == 64
    assert found.waiting == 64 * 8 * 8 * 9


def test_what_does_not_fit_is_refused_with_the_flags_that_fit(monkeypatch):
    with_free(monkeypatch, 40 * GB)
    with pytest.raises(UserError, match=r"batches of 4096 images .* 468\.7 GB.* 40\.0 GB .*--train.accumulate \d+"):
        check_memory(RECIPES["masked-patch"]())
    with_free(monkeypatch, GB)
    with pytest.raises(UserError, match=r"smaller --model\.name") as error:
        check_memory(RECIPES["masked-patch"]())
    assert "--train.accumulate" not in str(error.value)


def test_the_error_survives_its_way_from_another_process(monkeypatch):
    with_free(monkeypatch, GB)
    with pytest.raises(NotEnoughMemory) as raised:
        check_memory(RECIPES["masked-patch"]())
    arrived = pickle.loads(pickle.dumps(raised.value))
    assert (str(arrived), arrived.problem) == (str(raised.value), raised.value.problem)
    assert str(arrived).startswith(arrived.problem + ": choose")


def test_what_fits_passes(monkeypatch):
    with_free(monkeypatch, 4 * GB)
    for name in ("digits", "folder"):
        check_memory(RECIPES[name]())


def test_the_parts_that_are_named_pass(monkeypatch):
    config = RECIPES["dino"]()
    with_free(monkeypatch, 12 * GB)
    fitted = with_parts_that_fit(config, memory.SINGLE_PROCESS)
    assert fitted.train.batch_size == config.train.batch_size
    assert fitted.train.accumulate > 1
    check_memory(fitted)
    with_free(monkeypatch, GB // 10)
    with pytest.raises(UserError, match="not even one image fits"):
        with_parts_that_fit(config, memory.SINGLE_PROCESS)


def test_a_small_run_is_not_estimated(monkeypatch):
    monkeypatch.setattr(memory, "estimate_memory", None)
    with_free(monkeypatch, 10 * GB)
    check_memory(replace(tiny_run()))


class TestFreeMemory:
    def test_of_this_machine(self):
        assert 0 < free_memory() < 2**50

    @pytest.mark.parametrize("limit", ["1000000", "max"])
    def test_of_a_container(self, tmp_path, monkeypatch, limit):
        """Its limit, less what is in use; the file cache is given up first."""
        for name, text in (("limit", limit), ("used", "600000"), ("memory.stat", "anon 1\ninactive_file 100000\n")):
            (tmp_path / name).write_text(text)
        group = (tmp_path / "limit", tmp_path / "used", "inactive_file")
        monkeypatch.setattr(device_module, "CONTROL_GROUPS", (group,))
        free = free_memory()
        assert free == 500_000 if limit != "max" else free > 500_000
