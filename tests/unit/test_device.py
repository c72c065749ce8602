"""Which device is chosen, and what a device has; GPUs of Apple and Intel by what PyTorch says of them."""

import pytest
import torch

from vitral.device import (
    check_bfloat16,
    device_name,
    free_memory,
    pick_device,
    precise_dtype,
    prefers_bfloat16,
    synchronize,
)
from vitral.distributed import world
from vitral.distributed.world import World

MPS, XPU = torch.device("mps"), torch.device("xpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The kinds of GPU that this machine has, to be filled in."""
    kinds: set[str] = set()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: "xpu" in kinds)
    return kinds


@pytest.fixture
def allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device can be allocated on."""
    monkeypatch.setattr("vitral.device.torch.empty", lambda *_, **__: None)


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [((), "cpu"), (("xpu",), "xpu"), (("mps",), "mps"), (("mps", "xpu"), "mps"), (("cuda", "mps", "xpu"), "cuda")],
)
def test_auto_is_the_first_that_is_there(machine: set[str], kinds: tuple[str, ...], chosen: str) -> None:
    machine.update(kinds)
    assert pick_device("auto").type == chosen


@pytest.mark.usefixtures("allocates")
@pytest.mark.parametrize("name", ["mps", "xpu", "xpu:1"])
def test_by_name(machine: set[str], name: str) -> None:
    machine.update(("mps", "xpu"))
    assert pick_device(name) == torch.device(name)


@pytest.mark.parametrize(("name", "maker"), [("mps", "Apple"), ("xpu", "Intel"), ("xpu:0", "Intel")])
@pytest.mark.usefixtures("machine")
def test_a_device_that_is_not_there_is_refused(name: str, maker: str) -> None:
    with pytest.raises(ValueError, match=f"^device '{name}' is not available: .*{maker}.*choose auto or cpu$"):
        pick_device(name)


def test_what_apples_gpus_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precise_dtype(MPS) == torch.float32
    assert {precise_dtype(each) for each in (None, XPU, torch.device("cpu"))} == {torch.float64}
    assert prefers_bfloat16(XPU)
    assert not prefers_bfloat16(MPS)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: major < 14)
    with pytest.raises(ValueError, match="macOS 14"):
        check_bfloat16(MPS)
    check_bfloat16(XPU)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: True)
    check_bfloat16(MPS)


def test_names_and_memory_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda _: "Arc")
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda _: (7, 9))
    monkeypatch.setattr(torch.xpu, "synchronize", waited.append)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 9)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4)
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append(MPS))
    assert (device_name(XPU), device_name(MPS), device_name(torch.device("cpu"))) == ("Arc", "Apple GPU", "cpu")
    assert (free_memory(XPU), free_memory("mps")) == (7, 5)
    for device in (XPU, MPS, torch.device("cpu")):
        synchronize(device)
    assert waited == [XPU, MPS]


class TestSeveralProcesses:
    """The device of process 1 of 2."""

    process = World(rank=1, size=2, local_rank=1)

    def test_a_mac_has_one_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(world, "pick_device", lambda _: MPS)
        assert self.process.device("auto").type == "cpu"
        with pytest.raises(ValueError, match="share the GPU of a Mac"):
            self.process.device("mps")

    def test_each_has_a_gpu_of_intel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        used = []
        monkeypatch.setattr(world, "pick_device", lambda _: XPU)
        monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
        monkeypatch.setattr(torch.xpu, "set_device", used.append)
        assert self.process.device("auto") == torch.device("xpu", 1)
        assert used == [torch.device("xpu", 1)]
        monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
        with pytest.raises(ValueError, match="process 1 has no GPU"):
            self.process.device("auto")
