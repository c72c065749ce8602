"""Training on a GPU: close to the same run on a CPU, and without synchronisation in a step."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from processes import records
from tiny import ARCHITECTURE, tiny_run
from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import Batch, TrainingBatches
from vitral.datasets.opening import open_data
from vitral.distributed import shards
from vitral.objectives.classification import ClassificationConfig
from vitral.runs.run import Run
from vitral.train.config import RunConfig, read_run_config
from vitral.train.fit import fit
from vitral.train.session import Session
from vitral.weights.folder import load_model

pytestmark = pytest.mark.gpu

VARIED = AugmentConfig(flip=True, shift=1, rotate=10.0, mixup=0.5, cutmix=0.5, erase=0.3)
"""All augmentations that support one channel."""


def run_on(device: str, out: Path | None = None, **train: object) -> RunConfig:
    """A tiny run without dropout, which differs between devices."""
    config = tiny_run(out, optimiser="sgd", device=device, **train)
    return replace(config, model=replace(config.model, architecture=replace(ARCHITECTURE, dropout=0.0)))


def trained(config: RunConfig) -> list[dict[str, float]]:
    """The metrics of a complete run."""
    run = Run.create(config.out, recipe=config.recipe)
    try:
        fit(run, config)
    finally:
        run.close()
    return records(run.path, timed=True)


def losses(record: list[dict[str, float]]) -> list[float]:
    return [line["train/loss"] for line in record if "train/loss" in line]


def test_float32_equals_the_cpu(tmp_path):
    own = dict(precision="float32", compile=False)
    here, there = (trained(run_on(device, tmp_path / device, **own)) for device in ("cpu", "cuda"))
    assert losses(there) == pytest.approx(losses(here), abs=1e-4)
    ours, theirs = (load_model(tmp_path / device).state_dict() for device in ("cpu", "cuda"))
    for name, weight in ours.items():
        torch.testing.assert_close(
            theirs[name], weight, rtol=0, atol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.compile
def test_compiled_bfloat16_is_close(tmp_path):
    here, there = (trained(run_on(device, tmp_path / device)) for device in ("cpu", "cuda"))
    assert losses(there) == pytest.approx(losses(here), abs=0.05)
    assert losses(there) != losses(here), "bfloat16 rounds"


@pytest.mark.compile
def test_metrics_have_memory_and_mfu(tmp_path):
    lines = [line for line in trained(run_on("cuda", tmp_path / "run")) if "images_per_second" in line]
    assert all(0 < line["memory_bytes"] < 1e9 for line in lines)
    if "H100" in torch.cuda.get_device_name() or "H200" in torch.cuda.get_device_name():
        assert all(0 <= line["mfu"] < 1 for line in lines)


@pytest.mark.parametrize("saved", ["cpu", "cuda"])
def test_a_run_resumes_on_another_device(tmp_path, saved):
    """Its losses are those of the run that stayed."""
    config = run_on(saved, tmp_path / "uninterrupted", precision="float32", compile=False)
    # the schedule must not see that a run is cut short
    config = replace(config, schedule=replace(config.schedule, decay="constant", warmup="0steps"))
    uninterrupted = trained(config)
    trained(replace(config, out=tmp_path / "moved", train=replace(config.train, steps=8)))
    other = {"cpu": "cuda", "cuda": "cpu"}[saved]
    run = Run.open(tmp_path / "moved")
    config = read_run_config(run)
    config = replace(config, out=tmp_path / "moved", train=replace(config.train, steps=12, device=other))
    try:
        fit(run, config)
    finally:
        run.close()
    assert losses(records(tmp_path / "moved")) == pytest.approx(losses(uninterrupted), abs=1e-4)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Makes whatever waits for the device an error."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def stepping(config: RunConfig) -> tuple[Session, Batch]:
    """A session after two steps, and a batch in pinned memory."""
    config = config.resolved(num_classes=10)
    session = Session(config, classes=tuple("0123456789"))
    batch = TrainingBatches(
        source=open_data(config.data)["train"],
        preprocessing=session.preprocessing,
        augment=config.augment,
        batch_size=config.train.batch_size,
        seed=config.seed,
    )[0].pin_memory()
    for _ in range(2):
        session.train_step(batch, lr=1e-3)
    return session, batch


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "muon", "lamb", "lars", "adafactor"])
def test_a_step_never_synchronises(optimiser, request):
    config = tiny_run(optimiser=optimiser, device="cuda", compile=False, accumulate=2)
    config = replace(config, augment=VARIED, objective=ClassificationConfig(loss="sigmoid"))
    session, batch = stepping(config)
    request.getfixturevalue("no_waiting")
    figures = session.train_step(batch, lr=1e-3)
    torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(value) for value in figures.values())


def test_float16_with_loss_scaling_is_close(tmp_path):
    half, exact = (
        losses(trained(run_on("cuda", tmp_path / precision, precision=precision, compile=False)))
        for precision in ("float16", "float32")
    )
    assert half == pytest.approx(exact, abs=0.02)
    assert half != exact, "float16 rounds"


@pytest.mark.compile
@pytest.mark.parametrize("compile", [False, True])
def test_kernels_leave_the_loss_curve_as_it_is(compile, monkeypatch):
    architecture = replace(ARCHITECTURE, image_size=28, patch_size=2, width=128, mlp_dim=512, dropout=0.0)
    config = run_on("cuda", compile=compile)
    config = replace(config, model=replace(config.model, architecture=architecture))

    def curve() -> list[float]:
        session, batch = stepping(config)
        return [float(session.train_step(batch, lr=1e-3)["loss"]) for _ in range(20)]

    fast = curve()
    monkeypatch.setattr("vitral.train.session.supports_kernels", lambda device: False)
    plain = curve()
    assert fast == pytest.approx(plain, abs=0.02)
    if torch.cuda.get_device_capability()[0] == 9:
        assert fast != plain, "the kernels round differently"


@pytest.mark.parametrize("room", [0.8, 0.0])
def test_a_checkpoint_holds_what_the_tensors_were(tmp_path, monkeypatch, room):
    """With room for copies on the GPU, which are written in the background, and without."""
    monkeypatch.setattr(shards, "ROOM", room)
    tensors = {"x": torch.randn(2**24, device="cuda"), "step": torch.tensor(3.0)}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    allocated = torch.cuda.memory_allocated()
    write = shards.save_tensors(tmp_path / "saved", tensors, group=None)
    assert (torch.cuda.memory_allocated() > allocated) is (room > 0)
    for tensor in tensors.values():
        tensor.zero_()
    write()
    shards.load_tensors(tmp_path / "saved", tensors)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())
