"""A training step on a GPU that is neither NVIDIA's nor has float64, as Apple's.

PyTorch's device `meta` stands for it: it computes nothing, but like a GPU it refuses to mix its tensors with the CPU's.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tiny import ARCHITECTURE, tiny_run
from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import TrainingBatches
from vitral.datasets.opening import open_data
from vitral.objectives.dino import DINOConfig
from vitral.objectives.mae import MAEConfig
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.train.config import RunConfig
from vitral.train.resource_errors import is_out_of_memory
from vitral.train.session import Session, check_device

CLASSES = tuple(str(label) for label in range(10))

BASE = tiny_run(optimiser="sgd", device="mps")
NO_EMA = replace(BASE, train=replace(BASE.train, ema=None))
COLOURS = AugmentConfig(mixup=0.2, cutmix=1.0, randaugment="torchvision", colour_jitter=0.3, erase=0.25)


def positioned(position: str) -> RunConfig:
    architecture: Any = replace(ARCHITECTURE, position=position)
    return replace(BASE, model=replace(BASE.model, architecture=architecture))


RUNS = {
    "warped": BASE,
    "mixed": replace(BASE, augment=COLOURS),
    "lamb": tiny_run(optimiser="lamb", device="mps"),
    "adafactor": tiny_run(optimiser="adafactor", device="mps"),
    "mae": replace(BASE, objective=MAEConfig()),
    "masked patch": replace(BASE, objective=MaskedPatchConfig()),
    "dino": replace(NO_EMA, objective=DINOConfig()),
    "sinkhorn": replace(NO_EMA, objective=DINOConfig(assignment="sinkhorn")),
    "probe": replace(NO_EMA, model=replace(BASE.model, probe=True)),
    **{position: positioned(position) for position in ("rope", "sincos_2d", "relative")},
}


class NoFloat64(TorchDispatchMode):
    """Raises TypeError for tensors of float64 on `meta`, as PyTorch does on mps."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.is_meta and tensor.dtype == torch.float64:
                raise TypeError(f"float64 on a device without it: {func}")
        return result


def step_on_meta(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    config = config.resolved(num_classes=len(CLASSES))
    batches = TrainingBatches(
        source=open_data(config.data)["train"],
        preprocessing=config.preprocessing,
        augment=config.augment,
        batch_size=config.train.batch_size,
        seed=config.seed,
    )
    monkeypatch.setattr("vitral.distributed.world.pick_device", lambda _: torch.device("meta"))
    session = Session(config, classes=CLASSES)
    with NoFloat64():
        return session.train_step(batches[0], lr=1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_a_step_stays_on_the_device_and_needs_no_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitral.device.WITHOUT_FLOAT64", ("meta",))
    metrics = step_on_meta(RUNS[name], monkeypatch)
    assert metrics
    assert all(value.is_meta for value in metrics.values())


@pytest.mark.parametrize("name", ["sinkhorn", "probe"])
def test_float64_where_the_device_has_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="float64"):
        step_on_meta(RUNS[name], monkeypatch)


def test_adamw_is_fused_on_every_gpu() -> None:
    supported = _get_fused_kernels_supported_devices()
    assert {"cpu", "cuda", "mps", "xpu"} <= set(supported)


def test_compile_is_refused_on_mps() -> None:
    with pytest.raises(ValueError, match=r"leave out --train\.compile"):
        check_device(torch.device("mps"), bfloat16=False, compiled=True)
    check_device(torch.device("xpu"), bfloat16=True, compiled=True)


def test_memory_of_apples_gpu_runs_out() -> None:
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GiB)"))
