"""One training step: accumulation, clipping, EMA, seeded dropout, and checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import ARCHITECTURE, tiny_run
from vitral.data.batches import UNREADABLE, Batch, TrainingBatches
from vitral.datasets.opening import open_data
from vitral.device import pick_device
from vitral.train.checkpointing.checkpoint import Checkpoints, Saved
from vitral.train.config import RunConfig
from vitral.train.evaluation import predict_fn
from vitral.train.session import Session

CLASSES = tuple(str(label) for label in range(10))
PLAIN = replace(ARCHITECTURE, dropout=0.0)


def session(config: RunConfig) -> Session:
    return Session(config.resolved(num_classes=len(CLASSES)), classes=CLASSES)


def without_dropout(config: RunConfig, **optim: Any) -> RunConfig:
    model = replace(config.model, architecture=PLAIN)
    return replace(config, model=model, optim=replace(config.optim, **optim))


def batch_of(config: RunConfig, step: int = 0) -> Batch:
    return TrainingBatches(
        source=open_data(config.data)["train"],
        preprocessing=session(config).preprocessing,
        augment=config.augment,
        batch_size=config.train.batch_size,
        seed=config.seed,
    )[step]


def weights(trained: Session) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in trained.model.state_dict().items()}


def with_unreadable(batch: Batch, rows: list[int]) -> Batch:
    labels = batch.labels.clone()
    labels[rows] = UNREADABLE
    return replace(batch, labels=labels, unreadable=tuple(f"{row} is unreadable" for row in rows))


@pytest.mark.parametrize("parts", [2, 4, 64])
@pytest.mark.parametrize("rows", [[], [0, 1, 2, 3, 40], list(range(32))])
def test_accumulation_equals_one_big_batch(parts, rows):
    """Also where some parts hold fewer readable images than others, or none."""
    whole = without_dropout(tiny_run(), name="sgd")
    split = replace(whole, train=replace(whole.train, accumulate=parts))
    batch = with_unreadable(batch_of(whole), rows)
    one, other = session(whole), session(split)
    with torch.no_grad():
        for trained in (one, other):
            torch.nn.init.constant_(trained.model.head.bias, 0.5)
            torch.nn.init.normal_(trained.model.head.weight, generator=torch.Generator().manual_seed(1))
    figures = [trained.train_step(batch, lr=0.1) for trained in (one, other)]
    for name, value in figures[0].items():
        torch.testing.assert_close(value, figures[1][name], rtol=1e-5, atol=1e-6)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_accumulation_of_mixed_images_equals_one_big_batch(loss):
    """Parts of one image hold half a pair: images are mixed before they are parted."""
    whole = without_dropout(tiny_run(), name="sgd")
    augment = replace(whole.augment, mixup=0.8, cutmix=1.0)
    whole = replace(whole, augment=augment, objective=replace(whole.objective, loss=loss))
    split = replace(whole, train=replace(whole.train, accumulate=64))
    batch = with_unreadable(batch_of(whole), [0, 7])
    one, other = session(whole), session(split)
    figures = [trained.train_step(batch, lr=0.01) for trained in (one, other)]
    for name, value in figures[0].items():
        torch.testing.assert_close(value, figures[1][name], rtol=1e-5, atol=1e-6)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(other)[name], rtol=1e-5, atol=1e-6)


def test_clip_limits_the_norm_of_the_whole_gradient():
    """Two runs of plain gradient descent: the clipped one goes the same way, the limit's length."""
    config = without_dropout(tiny_run(optimiser="sgd"), momentum=0.0, weight_decay=0.0, clip=None)
    limited = replace(config, optim=replace(config.optim, clip=0.01))
    moved = []
    for each in (config, limited):
        trained = session(each)
        before = weights(trained)
        norm = trained.train_step(batch_of(each), lr=1.0)["gradient_norm"]
        moved.append(torch.cat([(tensor - before[name]).flatten() for name, tensor in weights(trained).items()]))
    torch.testing.assert_close(moved[0].norm(), norm, rtol=1e-4, atol=0)
    torch.testing.assert_close(moved[1].norm(), torch.tensor(0.01), rtol=1e-3, atol=0)
    torch.testing.assert_close(moved[1], moved[0] * 0.01 / norm, rtol=1e-2, atol=1e-6)


def test_running_average_by_hand():
    """The decay grows from a tenth: 1/10, 2/11, 3/12, ... and would stay at nine tenths from step 80 on."""
    config = tiny_run()
    trained = session(config)
    expected = weights(trained)
    for step, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14)):
        trained.train_step(batch_of(config, step), lr=0.01)
        now = weights(trained)
        expected = {name: decay * expected[name] + (1 - decay) * now[name] for name in now}
    for name, tensor in trained.eval_model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_without_ema_the_model_itself_is_evaluated():
    trained = session(tiny_run(ema=None))
    assert trained.eval_model is trained.model


def test_dropout_depends_on_seed_and_step_alone():
    config = tiny_run()
    batch = batch_of(config)
    one, other = session(config), session(config)
    torch.rand(1000)
    one.train_step(batch, lr=0.01)
    torch.rand(17)
    other.train_step(batch, lr=0.01)
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def test_dropout_differs_from_step_to_step():
    """The head learns to tell images apart first; then the same batch at the same weights has another loss."""
    config = tiny_run()
    batch, trained = batch_of(config), session(config)
    torch.nn.init.normal_(trained.model.head.weight)
    losses = {trained.train_step(batch, lr=0.0)["loss"].item() for _ in range(4)}
    assert len(losses) == 4


def test_initial_weights_depend_on_the_seed_alone():
    config = tiny_run()
    first, again, other = session(config), session(config), session(replace(config, seed=6))
    assert all(torch.equal(tensor, weights(again)[name]) for name, tensor in weights(first).items())
    assert not torch.equal(first.model.blocks[0].attn.qkv.weight, other.model.blocks[0].attn.qkv.weight)


def test_a_batch_without_readable_images():
    config = without_dropout(tiny_run(optimiser="sgd"))
    trained = session(config)
    before = weights(trained)
    figures = trained.train_step(with_unreadable(batch_of(config), list(range(64))), lr=0.1)
    assert figures["loss"] == 0
    assert figures["gradient_norm"] == 0
    assert trained.unreadable == {f"{row} is unreadable" for row in range(64)}
    for name, tensor in weights(trained).items():
        decay = 0.1 * config.optim.weight_decay if name.endswith("weight") and tensor.ndim > 1 else 0
        torch.testing.assert_close(tensor, before[name] * (1 - decay))


def test_images_are_warped_on_black():
    """A shifted white image shows black, not the middle of the range, where nothing was."""
    config = replace(tiny_run(), augment=replace(tiny_run().augment, flip=False, rotate=0.0, scale=0.0))
    batch = batch_of(config)
    images = session(config).examples(replace(batch, images=torch.full_like(batch.images, 255))).images
    shifted = batch.augment_params.warps[:, 0, 2] == 1
    assert shifted.any()
    torch.testing.assert_close(images[shifted][..., -1], torch.full_like(images[shifted][..., -1], -1.0))
    torch.testing.assert_close(images[shifted][:, :, 2:6, :6], torch.ones_like(images[shifted][:, :, 2:6, :6]))


def test_evaluation_is_deterministic_and_changes_nothing():
    config = tiny_run()
    trained = session(config)
    trained.train_step(batch_of(config), lr=0.01)
    images = batch_of(config).images
    before = weights(trained)
    first = predict_fn(trained)(images)
    assert torch.equal(first, predict_fn(trained)(images))
    assert not first.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(trained).items())


def saved(trained: Session, folder: Path) -> Saved:
    """The checkpoint of a session."""
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(trained.tensors(), trained.metadata(), step=trained.step)
    checkpoints.wait()
    return checkpoints.newest()[0]


class TestState:
    def test_resumes_exactly(self, tmp_path):
        config = tiny_run()
        trained, resumed = session(config), session(config)
        trained.train_step(with_unreadable(batch_of(config), [3]), lr=0.01)
        resumed.load(saved(trained, tmp_path))
        assert resumed.step == 1
        assert resumed.unreadable == {"3 is unreadable"}
        for each in (trained, resumed):
            each.train_step(batch_of(config, 1), lr=0.01)
        for name, tensor in weights(trained).items():
            assert torch.equal(tensor, weights(resumed)[name])
        for name, tensor in trained.eval_model.state_dict().items():
            assert torch.equal(tensor, resumed.eval_model.state_dict()[name])

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ("width", "29 of its tensors differ, first blocks.0.attn.proj.bias: expected (32,), found (16,)"),
            ("depth", "12 of its tensors differ, first blocks.2.attn.proj.bias: expected (16,), found none"),
            ("optimiser", "optim.name was adamw, not sgd"),
            ("average", "train.ema cannot be turned on or off"),
        ],
    )
    def test_a_checkpoint_of_another_run_raises(self, tmp_path, change, reason):
        config = tiny_run()
        trained = session(config)
        trained.train_step(batch_of(config), lr=0.01)
        other = {
            "width": replace(config, model=replace(config.model, architecture=replace(ARCHITECTURE, width=32))),
            "depth": replace(config, model=replace(config.model, architecture=replace(ARCHITECTURE, depth=3))),
            "optimiser": replace(config, optim=replace(config.optim, name="sgd")),
            "average": replace(config, train=replace(config.train, ema=None)),
        }[change]
        with pytest.raises(ValueError, match=r"^the checkpoint does not fit this model and opt") as caught:
            session(other).load(saved(trained, tmp_path))
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(reason)

    def test_a_checkpoint_of_something_else_raises(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, keep=1)
        checkpoints.save({"model.x": torch.zeros(1)}, {"step": 1}, step=1)
        checkpoints.wait()
        with pytest.raises(ValueError, match="the checkpoint does not fit this model and optimiser"):
            session(tiny_run()).load(checkpoints.newest()[0])


class TestDevice:
    def test_cpu(self):
        assert pick_device("cpu") == torch.device("cpu")

    def test_auto_uses_a_gpu_if_there_is_one(self):
        assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize("name", ["cuda:99", "teapot", "cpu:x", ""])
    def test_missing_devices_raise(self, name):
        with pytest.raises(ValueError, match=f"^device '{name}' is not available: ") as caught:
            pick_device(name)
        assert "\n" not in str(caught.value)


def test_bfloat16_on_request():
    config = tiny_run(precision="bfloat16")
    trained = session(config)
    torch.nn.init.normal_(trained.model.head.weight)
    single = session(tiny_run())
    single.model.load_state_dict(trained.model.state_dict())
    images = batch_of(config).images
    trained.average = single.average = None
    difference = (predict_fn(trained)(images).float() - predict_fn(single)(images)).abs().max()
    assert 0 < difference < 0.3
    assert np.isfinite(trained.train_step(batch_of(config), lr=0.01)["loss"].item())
    assert trained.model.head.weight.dtype == torch.float32


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_float16_skips_steps_that_overflow_and_saves_its_scale(optimiser):
    config = tiny_run(precision="float16", optimiser=optimiser, ema=None)
    trained = session(config)
    batch = batch_of(config)
    trained.scaler.load_state_dict({**trained.scaler.state_dict(), "scale": 2.0**40, "_growth_tracker": 0})
    before = weights(trained)
    figures = trained.train_step(batch, lr=0.01)
    assert (figures["skipped"].item(), figures["gradient_norm"].item()) == (1.0, 0.0)
    assert all(torch.equal(before[name], value) for name, value in weights(trained).items())
    assert trained.scaler.get_scale() == 2.0**39
    trained.scaler.load_state_dict({**trained.scaler.state_dict(), "scale": 2.0**8})
    found = trained.train_step(batch, lr=0.01)
    assert found["skipped"].item() == 0
    plain = session(tiny_run(precision="float32", optimiser=optimiser, ema=None))
    plain.step = 1  # the same dropout
    expected = plain.train_step(batch, lr=0.01)
    assert found["gradient_norm"].item() == pytest.approx(expected["gradient_norm"].item(), rel=0.02)
    assert any((before[name] != value).any() for name, value in weights(trained).items())
    assert trained.metadata()["scaler"]["scale"] == 2.0**8
