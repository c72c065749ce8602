"""Sharpness-aware minimisation against a plain loop, and with everything that a step can have."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tiny import tiny_run
from unit.train.test_session import batch_of, saved, session, weights, with_unreadable, without_dropout
from vitral.train.config import RunConfig
from vitral.train.memory import estimate_memory
from vitral.train.session import Session

RHO = 0.05


def with_sam(config: RunConfig, rho: float = RHO, **train: object) -> RunConfig:
    optim = replace(config.optim, sam_rho=rho)
    return replace(config, optim=optim, train=replace(config.train, ema=None, **train))


def plain_sgd(**train: object) -> RunConfig:
    """Without dropout, momentum, decay and clipping."""
    config = without_dropout(tiny_run(optimiser="sgd", ema=None, **train), momentum=0.0, weight_decay=0.0, clip=None)
    return replace(config, objective=replace(config.objective, label_smoothing=0.0))


def shaken(config: RunConfig) -> Session:
    """With a head that is not zero, so that every weight has a gradient."""
    trained = session(config)
    torch.nn.init.normal_(trained.model.head.weight, generator=torch.Generator().manual_seed(1))
    return trained


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_steps_equal_a_plain_loop(clip: float | None) -> None:
    """The paper's algorithm 1, written out: up along the gradient, the gradient there, down from where it began."""
    config = with_sam(plain_sgd())
    config = replace(config, optim=replace(config.optim, clip=clip))
    trained = shaken(config)
    reference = shaken(config)
    model, lr = reference.model, 0.1

    def gradients(examples) -> list[torch.Tensor]:
        return list(torch.autograd.grad(F.cross_entropy(model(examples.images), examples.labels), parameters))

    parameters = list(model.parameters())
    for step in range(3):
        batch = batch_of(config, step)
        figures = trained.train_step(batch, lr=lr)
        examples = reference.examples(batch)
        start = [parameter.detach().clone() for parameter in parameters]
        loss = F.cross_entropy(model(examples.images), examples.labels)
        up = gradients(examples)
        length = torch.cat([each.flatten() for each in up]).norm()
        with torch.no_grad():
            for parameter, each in zip(parameters, up, strict=True):
                parameter += RHO * each / length
        down = gradients(examples)
        norm = torch.cat([each.flatten() for each in down]).norm()
        factor = 1.0 if clip is None else min(1.0, clip / norm.item())
        with torch.no_grad():
            for parameter, each, value in zip(parameters, down, start, strict=True):
                parameter.copy_(value - lr * factor * each)
        assert_equal(weights(trained), weights(reference))
        torch.testing.assert_close(figures["loss"], loss)  # at the weights themselves, not uphill
        torch.testing.assert_close(figures["gradient_norm"], norm, rtol=1e-4, atol=0)


@pytest.mark.parametrize("rows", [[], [0, 1, 2, 3, 40], list(range(32))])
def test_accumulation_equals_one_big_batch(rows: list[int]) -> None:
    """The weights move along the gradient of the whole batch, not of its parts."""
    config = with_sam(plain_sgd())
    batch = with_unreadable(batch_of(config), rows)
    one, other = shaken(config), shaken(with_sam(plain_sgd(), accumulate=4))
    figures = [trained.train_step(batch, lr=0.1) for trained in (one, other)]
    assert_equal(figures[0], figures[1])
    assert_equal(weights(one), weights(other))


def test_both_passes_drop_the_same() -> None:
    """A move of no length changes nothing, whatever is dropped."""
    config = tiny_run(optimiser="sgd", ema=None)
    one, other = shaken(config), shaken(with_sam(config, rho=1e-12))
    for trained in (one, other):
        trained.train_step(batch_of(config), lr=0.1)
    assert_equal(weights(one), weights(other))


def test_a_rate_of_zero_leaves_every_bit_of_the_weights() -> None:
    config = with_sam(plain_sgd())
    trained = shaken(config)
    before = weights(trained)
    trained.train_step(batch_of(config), lr=0.0)
    assert all(torch.equal(before[name], value) for name, value in weights(trained).items())


def test_a_batch_without_readable_images_moves_nothing() -> None:
    config = with_sam(plain_sgd())
    trained = shaken(config)
    before = weights(trained)
    figures = trained.train_step(with_unreadable(batch_of(config), list(range(64))), lr=0.1)
    assert figures["gradient_norm"] == 0
    assert all(torch.equal(before[name], value) for name, value in weights(trained).items())


def test_frozen_weights_stay() -> None:
    config = with_sam(plain_sgd())
    config = replace(config, optim=replace(config.optim, rules=("^blocks.0:frozen",)))
    trained = shaken(config)
    before = weights(trained)
    trained.train_step(batch_of(config), lr=0.1)
    for name, value in weights(trained).items():
        assert torch.equal(before[name], value) == name.startswith("blocks.0."), name


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_resumed_run_is_the_uninterrupted_one(optimiser: str, tmp_path) -> None:
    config = with_sam(tiny_run(optimiser=optimiser))
    trained, resumed = session(config), session(config)
    trained.train_step(batch_of(config), lr=0.01)
    resumed.load(saved(trained, tmp_path))
    for each in (trained, resumed):
        each.train_step(batch_of(config, 1), lr=0.01)
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(trained).items())


def test_float16_skips_steps_that_overflow() -> None:
    """Whichever pass overflows, no weight changes, and the scale falls."""
    config = with_sam(tiny_run(precision="float16"))
    trained = session(config)
    trained.scaler.load_state_dict({**trained.scaler.state_dict(), "scale": 2.0**40, "_growth_tracker": 0})
    before = weights(trained)
    figures = trained.train_step(batch_of(config), lr=0.01)
    assert (figures["skipped"].item(), figures["gradient_norm"].item()) == (1.0, 0.0)
    assert all(torch.equal(before[name], value) for name, value in weights(trained).items())
    assert trained.scaler.get_scale() == 2.0**39
    trained.scaler.load_state_dict({**trained.scaler.state_dict(), "scale": 2.0**8})
    scaled = trained.train_step(batch_of(config), lr=0.01)
    plain = session(with_sam(tiny_run(precision="float32")))
    plain.step = 1  # the same dropout
    expected = plain.train_step(batch_of(config), lr=0.01)
    assert scaled["skipped"].item() == 0
    assert scaled["gradient_norm"].item() == pytest.approx(expected["gradient_norm"].item(), rel=0.02)


def test_bfloat16_and_recomputed_blocks_train() -> None:
    config = with_sam(tiny_run(precision="bfloat16", recompute=True))
    trained = session(config)
    before = weights(trained)
    assert trained.train_step(batch_of(config), lr=0.01)["loss"].isfinite()
    assert any((before[name] != value).any() for name, value in weights(trained).items())
    assert trained.model.head.weight.dtype == torch.float32


def test_memory_has_a_copy_of_the_weights() -> None:
    plain, moved = (
        estimate_memory(config, device=torch.device("cpu")) for config in (plain_sgd(), with_sam(plain_sgd()))
    )
    parameters = sum(parameter.numel() for parameter in session(plain_sgd()).model.parameters())
    assert moved.fixed - plain.fixed == 4 * parameters


def test_a_linear_probe_is_refused() -> None:
    config = tiny_run(ema=None)
    with pytest.raises(ValueError, match=r"leave out --optim\.sam-rho"):
        replace(with_sam(config), model=replace(config.model, probe=True))
