"""Optimisers against plain NumPy, on every parameter of a small ViT, for fifty steps."""

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from vitral.models import build
from vitral.resnet import ResNetConfig
from vitral.train.checkpointing.optimiser_state import allocate_state, named_state
from vitral.train.optimisers.adafactor import Adafactor
from vitral.train.optimisers.adam import Adam, AdamW
from vitral.train.optimisers.by_shape import MAX_NUMEL
from vitral.train.optimisers.muon import Muon, orthogonalise
from vitral.train.optimisers.optimiser import OptimConfig, Optimiser
from vitral.train.optimisers.rules import freeze, is_matrix
from vitral.train.optimisers.sgd import SGD
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

CONFIG = ViTConfig(
    image_size=8, patch_size=4, channels=1, width=8, depth=2, num_heads=2, mlp_dim=12, num_classes=3,
    representation_size=6,
)  # fmt: skip
STEPS = 50
HALF = dict(momentum_dtype="bfloat16")
RATES = [0.01 * (1 + math.sin(step)) for step in range(STEPS)]


def gradients(model: ViT, step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {name: torch.randn(param.shape, generator=generator) for name, param in model.named_parameters()}


def run(config: OptimConfig) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], ViT]:
    """Parameters before and after fifty steps of given gradients and rates."""
    model = ViT(CONFIG)
    with torch.no_grad():
        for param in model.parameters():
            param.normal_()
    before = {name: param.detach().double().numpy().copy() for name, param in model.named_parameters()}
    optimiser = Optimiser(model, config)
    for step, lr in enumerate(RATES):
        for name, gradient in gradients(model, step).items():
            model.get_parameter(name).grad = gradient
        optimiser.step(lr)
        assert all(param.grad is None for param in model.parameters())
    return before, {name: param.detach().double().numpy() for name, param in model.named_parameters()}, model


def adamw(value: np.ndarray, grads: list[np.ndarray], *, decay: float, betas: tuple[float, float]) -> np.ndarray:
    """Loshchilov and Hutter 2019, algorithm 2, with decay times the learning rate."""
    first, second = np.zeros_like(value), np.zeros_like(value)
    for step, (grad, lr) in enumerate(zip(grads, RATES, strict=True), 1):
        first = betas[0] * first + (1 - betas[0]) * grad
        second = betas[1] * second + (1 - betas[1]) * grad**2
        corrected = first / (1 - betas[0] ** step), second / (1 - betas[1] ** step)
        value = value - lr * decay * value - lr * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    return value


def sgd(value: np.ndarray, grads: list[np.ndarray], *, decay: float, momentum: float) -> np.ndarray:
    velocity = np.zeros_like(value)
    for grad, lr in zip(grads, RATES, strict=True):
        velocity = momentum * velocity + grad + decay * value
        value = value - lr * velocity
    return value


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    flat = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    flat = flat / np.linalg.norm(flat)
    for _ in range(5):
        gram = flat @ flat.T
        flat = 3.4445 * flat - 4.7750 * gram @ flat + 2.0315 * gram @ gram @ flat
    return flat.T if matrix.shape[0] > matrix.shape[1] else flat


def muon(value: np.ndarray, grads: list[np.ndarray], *, decay: float) -> np.ndarray:
    velocity = np.zeros_like(value)
    for grad, lr in zip(grads, RATES, strict=True):
        velocity = 0.95 * velocity + 0.05 * grad
        update = newton_schulz(0.05 * grad + 0.95 * velocity)
        value = value * (1 - lr * decay) - lr * 0.2 * math.sqrt(max(value.shape)) * update
    return value


def gradients_of(model: ViT, name: str) -> list[np.ndarray]:
    return [gradients(model, step)[name].double().numpy() for step in range(STEPS)]


DECAYED = {
    "patch_embed.proj.weight",
    *(f"blocks.{i}.{part}.weight" for i in range(2) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")),
    "pre_logits.0.weight",
    "head.weight",
}


def test_only_dense_layers_and_the_patch_projection_decay():
    """No bias, no norm, no class token and no position does."""
    model = ViT(CONFIG)
    assert {name for name, param in model.named_parameters() if is_matrix(name, param)} == DECAYED
    for name in ("adamw", "sgd", "muon"):
        optimiser = Optimiser(model, OptimConfig(name=name, weight_decay=0.3))
        groups = [group for part in optimiser.parts for group in part.param_groups]
        decayed = {id(param) for group in groups if group["weight_decay"] == 0.3 for param in group["params"]}
        others = {id(param) for group in groups if group["weight_decay"] == 0 for param in group["params"]}
        assert decayed == {id(model.get_parameter(name)) for name in DECAYED}
        assert decayed | others == {id(param) for param in model.parameters()}
        assert not decayed & others


def test_adamw():
    before, after, model = run(OptimConfig(name="adamw", weight_decay=0.2, betas=(0.8, 0.95)))
    for name, value in before.items():
        decay = 0.2 if name in DECAYED else 0.0
        expected = adamw(value, gradients_of(model, name), decay=decay, betas=(0.8, 0.95))
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_adam():
    """Weight decay is a part of the gradient, and so of its mean and of its square."""
    before, after, model = run(OptimConfig(name="adam", weight_decay=0.2))
    for name, value in before.items():
        decay, expected = 0.2 if name in DECAYED else 0.0, value
        first, second = np.zeros_like(value), np.zeros_like(value)
        for step, (plain, lr) in enumerate(zip(gradients_of(model, name), RATES, strict=True), 1):
            grad = plain + decay * expected
            first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
            expected = expected - lr * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (partial(AdamW, betas=(0.8, 0.99), eps=1e-8), partial(torch.optim.AdamW, betas=(0.8, 0.99))),
        (partial(Adam, betas=(0.8, 0.99), eps=1e-8), partial(torch.optim.Adam, betas=(0.8, 0.99))),
        (partial(SGD, momentum=0.9, nesterov=False), partial(torch.optim.SGD, momentum=0.9)),
        (partial(SGD, momentum=0.9, nesterov=True), partial(torch.optim.SGD, momentum=0.9, nesterov=True)),
    ],
    ids=["adamw", "adam", "sgd", "nesterov"],
)
def test_float32_equals_the_library(ours, theirs):
    values = [torch.randn(shape, dtype=torch.float64) for shape in [(3, 5), (3, 5), (7,)]]
    mine, other = ([torch.nn.Parameter(value.clone()) for value in values] for _ in range(2))
    optimisers = [ours(mine, lr=0.0, momentum_dtype=torch.float64), theirs(other, lr=0.0)]
    for lr in RATES:
        grads = [torch.randn(value.shape, dtype=torch.float64) for value in values]
        for params, optimiser in zip((mine, other), optimisers, strict=True):
            for param, grad in zip(params, grads, strict=True):
                param.grad = grad.clone()
            optimiser.param_groups[0] |= dict(lr=lr, weight_decay=0.1)
            optimiser.step()
    torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "muon", "lamb", "lars", "adafactor"])
def test_batched_updates_equal_single_ones(name, monkeypatch):
    """Also where a part is left over, and where one has missed a step."""
    model = build(replace(CONFIG, width=32, depth=3, mlp_dim=32))
    one, many = model, deepcopy(model)
    optimisers = [Optimiser(each, OptimConfig(name=name, **({} if name == "muon" else HALF))) for each in (one, many)]
    for step in range(4):
        for each, optimiser, numbers in zip((one, many), optimisers, (1, 2 * 32 * 32), strict=True):
            for key, gradient in gradients(each, step).items():
                missed = key == "blocks.1.mlp.fc1.weight" and step == 1
                each.get_parameter(key).grad = None if missed else gradient
            monkeypatch.setitem(MAX_NUMEL, "cpu", numbers)
            optimiser.step(0.01)
    for (key, ours), theirs in zip(one.named_parameters(), many.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=key)


def test_sgd():
    before, after, model = run(OptimConfig(name="sgd", weight_decay=0.02, momentum=0.9))
    for name, value in before.items():
        decay = 0.02 if name in DECAYED else 0.0
        expected = sgd(value, gradients_of(model, name), decay=decay, momentum=0.9)
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_muon_for_the_matrices_of_the_blocks_and_adamw_for_the_rest():
    """Queries, keys and values are three matrices, each made orthogonal by itself."""
    before, after, model = run(OptimConfig(name="muon", weight_decay=0.2))
    for name, value in before.items():
        grads = gradients_of(model, name)
        if name.endswith("qkv.weight"):
            parts = [muon(value[i : i + 8], [grad[i : i + 8] for grad in grads], decay=0.2) for i in (0, 8, 16)]
            expected = np.concatenate(parts)
        elif name.startswith("blocks.") and name in DECAYED:
            expected = muon(value, grads, decay=0.2)
        else:
            expected = adamw(value, grads, decay=0.2 if name in DECAYED else 0.0, betas=(0.9, 0.999))
        np.testing.assert_allclose(after[name], expected, rtol=2e-3, atol=2e-3, err_msg=name)


class TestOrthogonalise:
    @pytest.mark.parametrize(("rows", "columns"), [(6, 6), (64, 16), (16, 64), (1, 5), (40, 40)])
    @pytest.mark.parametrize("smallest", [0.05, 0.5, 1.0])
    def test_singular_values_end_near_one(self, rows, columns, smallest):
        rank = min(rows, columns)
        u, _ = torch.linalg.qr(torch.randn(rows, rank))
        v, _ = torch.linalg.qr(torch.randn(columns, rank))
        values = torch.linalg.svdvals(orthogonalise(u @ torch.linspace(smallest, 1, rank).diag() @ v.T))
        assert values.min() > 0.6
        assert values.max() < 1.3

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_the_result_does_not_depend_on_scale(self, scale):
        matrix = torch.randn(8, 8)
        torch.testing.assert_close(orthogonalise(matrix * scale), orthogonalise(matrix), rtol=1e-2, atol=1e-3)

    def test_singular_vectors_stay(self):
        u, _, v = torch.linalg.svd(torch.randn(10, 10))
        spread = u.T @ orthogonalise(u @ torch.linspace(0.5, 2, 10).diag() @ v) @ v.T
        assert (spread - spread.diagonal().diag()).abs().max() < 1e-3

    def test_a_batch_equals_single_matrices(self):
        matrices = torch.randn(3, 5, 9)
        for one, together in zip(matrices, orthogonalise(matrices), strict=True):
            torch.testing.assert_close(orthogonalise(one), together)

    def test_zeros_stay_zeros(self):
        assert not orthogonalise(torch.zeros(4, 4)).any()


@pytest.mark.parametrize("shape", [(24, 24), (32, 12), (12, 32)])
def test_muon_equals_the_library_within_bfloat16(shape):
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    optimisers = [
        Muon([ours], lr=0.02, weight_decay=0.1, momentum=0.95),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(10):
        gradient = torch.randn(shape)
        for param, optimiser in zip((ours, theirs), optimisers, strict=True):
            param.grad = gradient.clone()
            optimiser.step()
    moved = (ours.detach() - 1).norm()
    assert (ours - theirs).norm() / moved < 0.02


def test_split_equals_separate_matrices():
    whole = torch.nn.Parameter(torch.randn(15, 7))
    parts = [torch.nn.Parameter(part.clone()) for part in whole.detach().chunk(3)]
    together, apart = Muon([whole], lr=0.1, weight_decay=0.1, split=3), Muon(parts, lr=0.1, weight_decay=0.1)
    for _ in range(5):
        whole.grad = torch.randn(15, 7)
        for part, gradient in zip(parts, whole.grad.chunk(3), strict=True):
            part.grad = gradient.clone()
        together.step()
        apart.step()
    torch.testing.assert_close(whole, torch.cat(parts))


@pytest.mark.parametrize("momentum_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "muon", "lamb", "lars", "adafactor"])
def test_ten_steps_equal_five_and_five_resumed(name, momentum_dtype):
    """Bit for bit, with a state that was read into fresh memory."""
    if (name, momentum_dtype) == ("muon", "bfloat16"):
        with pytest.raises(ValueError, match="muon supports float32 momentum only"):
            OptimConfig(name=name, momentum_dtype=momentum_dtype)
        return
    config = OptimConfig(name=name, momentum_dtype=momentum_dtype)

    def steps(model: ViT, optimiser: Optimiser, numbers: range) -> None:
        for number in numbers:
            for key, gradient in gradients(model, number).items():
                model.get_parameter(key).grad = gradient
            optimiser.step(0.01)

    model = ViT(CONFIG)
    optimiser = Optimiser(model, config)
    steps(model, optimiser, range(5))
    other = ViT(CONFIG)
    other.load_state_dict(deepcopy(model.state_dict()))
    resumed, saved = Optimiser(other, config), deepcopy(named_state(optimiser, model))
    blank = allocate_state(resumed, other, {key: (tuple(value.shape), value.dtype) for key, value in saved.items()})
    assert set(blank) == set(saved)
    for key, value in saved.items():
        blank[key].copy_(value)
    steps(model, optimiser, range(5, 10))
    steps(other, resumed, range(5, 10))
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def lars(value: np.ndarray, grads: list[np.ndarray], *, decay: float) -> np.ndarray:
    """You et al. 2017, equations 6 and 7, with coupled decay and momentum after the trust ratio, as MAE's code."""
    velocity = np.zeros_like(value)
    for grad, lr in zip(grads, RATES, strict=True):
        update = grad + decay * value
        lengths = np.linalg.norm(value), np.linalg.norm(update)
        trust = 0.001 * lengths[0] / lengths[1] if value.ndim > 1 and min(lengths) > 0 else 1.0
        velocity = 0.9 * velocity + trust * update
        value = value - lr * velocity
    return value


def test_lars() -> None:
    before, after, model = run(OptimConfig(name="lars", weight_decay=0.2))
    for name, value in before.items():
        expected = lars(value, gradients_of(model, name), decay=0.2 if name in DECAYED else 0.0)
        np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def lamb(value: np.ndarray, grads: list[np.ndarray], *, decay: float) -> np.ndarray:
    """You et al. 2020, algorithm 2, with the norm itself for phi."""
    first, second = np.zeros_like(value), np.zeros_like(value)
    for step, (grad, lr) in enumerate(zip(grads, RATES, strict=True), 1):
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-6) + decay * value
        trust = np.linalg.norm(value) / np.linalg.norm(update) if decay else 1.0
        value = value - lr * trust * update
    return value


def test_lamb():
    before, after, model = run(OptimConfig(name="lamb", weight_decay=0.2))
    for name, value in before.items():
        expected = lamb(value, gradients_of(model, name), decay=0.2 if name in DECAYED else 0.0)
        np.testing.assert_allclose(after[name], expected, rtol=1e-3, atol=1e-4, err_msg=name)


def adafactor(value: np.ndarray, grads: list[np.ndarray], *, decay: float) -> np.ndarray:
    """Shazeer and Stern 2018 as Zhai et al. 2021 change it: row and column means for a large matrix."""
    factored = value.ndim == 2 and min(value.shape) >= 32
    square, rows, columns, momentum = 0.0, 0.0, 0.0, np.zeros_like(value)
    for step, (grad, lr) in enumerate(zip(grads, RATES, strict=True), 1):
        beta, squared = min(0.999, 1 - step**-0.8), grad**2 + 1e-30
        if factored:
            rows = beta * rows + (1 - beta) * squared.mean(1)
            columns = beta * columns + (1 - beta) * squared.mean(0)
            estimate = np.outer(rows, columns) / rows.mean()
        else:
            estimate = square = beta * square + (1 - beta) * squared
        momentum = 0.9 * momentum + 0.1 * grad / np.sqrt(estimate)
        value = value * (1 - lr * decay) - lr * momentum
    return value


@pytest.mark.parametrize("shape", [(96, 40), (40, 31), (7,)])
def test_adafactor(shape):
    torch.manual_seed(0)
    param = torch.nn.Parameter(torch.randn(shape))
    before, grads = param.detach().double().numpy().copy(), []
    optimiser = Adafactor([dict(params=[param], weight_decay=0.2)], lr=0.0, momentum=0.9, momentum_dtype=torch.float32)
    for lr in RATES:
        param.grad = torch.randn(shape)
        grads.append(param.grad.double().numpy())
        optimiser.param_groups[0]["lr"] = lr
        optimiser.step()
    np.testing.assert_allclose(param.detach().numpy(), adafactor(before, grads, decay=0.2), rtol=1e-3, atol=1e-4)


def test_adafactor_factors_queries_keys_and_values_separately():
    torch.manual_seed(0)
    whole = torch.nn.Parameter(torch.randn(96, 32))
    parts = [torch.nn.Parameter(part.clone()) for part in whole.detach().chunk(3)]
    make = partial(Adafactor, lr=0.1, momentum=0.9, momentum_dtype=torch.float32)
    together, apart = make([whole], split=3), make(parts)
    for _ in range(5):
        whole.grad = torch.randn(96, 32)
        for part, gradient in zip(parts, whole.grad.chunk(3), strict=True):
            part.grad = gradient.clone()
        together.step()
        apart.step()
    torch.testing.assert_close(whole, torch.cat(parts))
    numel = sum(value.numel() for key, value in together.state[whole].items() if key.startswith("square"))
    assert numel == 3 * (32 + 32)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lamb", "lars", "adafactor"])
def test_bfloat16_momentum_is_saved_as_such_and_changes_little(name):
    """Of what fifty steps move, at most two hundredths; squares stay float32."""
    change = dict(nesterov=True) if name == "sgd" else {}
    torch.manual_seed(0)
    before, single, _ = run(OptimConfig(name=name, weight_decay=0.02, **change))
    torch.manual_seed(0)
    _, half, model = run(OptimConfig(name=name, weight_decay=0.02, momentum_dtype="bfloat16", **change))
    for key, value in single.items():
        moved = np.linalg.norm(value - before[key])
        assert np.linalg.norm(half[key] - value) < 0.02 * moved, key
    optimiser = Optimiser(model, OptimConfig(name=name, momentum_dtype="bfloat16"))
    for key, gradient in gradients(model, 0).items():
        model.get_parameter(key).grad = gradient
    optimiser.step(0.1)
    kinds = {key.rpartition(".")[2]: value.dtype for key, value in named_state(optimiser, model).items()}
    assert kinds.pop("exp_avg", kinds.pop("momentum", None)) == torch.bfloat16
    assert set(kinds.values()) == {torch.float32}


def test_absolute_decay_equals_times_lr_at_the_peak_rate():
    """Absolute 1e-4 at the peak rate 1e-3 is AdamW's 0.1: at each step both shrink by schedule times 1e-4."""
    absolute = OptimConfig(lr=1e-3, weight_decay=1e-4, decay_form="absolute")
    usual = OptimConfig(lr=1e-3, weight_decay=0.1)
    torch.manual_seed(0)
    _, one, _ = run(absolute)
    torch.manual_seed(0)
    before, other, model = run(usual)
    for key in before:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-6)
    value, name = before["head.weight"], "head.weight"
    expected = value
    first, second = np.zeros_like(value), np.zeros_like(value)
    for step, (grad, lr) in enumerate(zip(gradients_of(model, name), RATES, strict=True), 1):
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        update = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        expected = expected - lr * update - 1e-4 * (lr / 1e-3) * expected
    np.testing.assert_allclose(one[name], expected, rtol=1e-4, atol=1e-5)


class TestParamSettings:
    def treated(self, config: OptimConfig, model=None) -> dict[str, tuple[float, float]]:
        model = model or ViT(CONFIG)
        optimiser = Optimiser(model, config)
        optimiser.step(1.0)
        names = {param: name for name, param in model.named_parameters()}
        return {
            names[param]: (group["lr"], group["weight_decay"])
            for part in optimiser.parts
            for group in part.param_groups
            for param in group["params"]
        }

    def test_the_rate_falls_from_block_to_block(self):
        found = self.treated(OptimConfig(layer_decay=0.5, weight_decay=0.3))
        assert found["head.weight"] == (1.0, 0.3)
        assert found["norm.weight"] == (1.0, 0.0)
        assert found["blocks.1.attn.qkv.weight"] == (0.5, 0.3)
        assert found["blocks.0.mlp.fc1.bias"] == (0.25, 0.0)
        for name in ("patch_embed.proj.weight", "cls_token", "pos_embed"):
            assert found[name][0] == 0.125

    def test_the_rate_falls_from_unit_to_unit_of_a_resnet(self):
        config = ResNetConfig(image_size=32, channels=1, stages=(2, 1), root_width=32, num_classes=3)
        found = self.treated(OptimConfig(layer_decay=0.5), build(config))
        rates = {name: lr for name, (lr, _) in found.items()}
        assert rates["head.weight"] == 1
        assert rates["stages.1.blocks.0.conv1.weight"] == 0.5
        assert rates["stages.0.blocks.1.conv1.weight"] == 0.25
        assert rates["stages.0.blocks.0.conv1.weight"] == 0.125
        assert rates["stem.conv.weight"] == 0.0625

    def test_the_first_matching_rule_applies(self):
        rules = (r"^head:lr=10,decay=0", r"norm\d:decay=0.5", r"^blocks\.0:lr=0.1", "weight:lr=2")
        found = self.treated(OptimConfig(rules=rules, weight_decay=0.3))
        assert found["head.weight"] == (10.0, 0.0)
        assert found["head.bias"] == (10.0, 0.0)
        assert found["blocks.0.norm1.weight"] == (1.0, 0.5)
        assert found["blocks.0.mlp.fc1.weight"] == (0.1, 0.3)
        assert found["blocks.1.mlp.fc1.weight"] == (2.0, 0.3)
        assert found["blocks.1.mlp.fc1.bias"] == (1.0, 0.0)

    def test_frozen_parameters_are_not_updated(self):
        model = ViT(CONFIG)
        rules = (r"^blocks\.0:frozen", "^patch_embed:frozen")
        freeze(model, rules)
        optimiser = Optimiser(model, OptimConfig(rules=rules))
        held = {param for part in optimiser.parts for group in part.param_groups for param in group["params"]}
        names = {name for name, param in model.named_parameters() if param not in held}
        assert names == {name for name, _ in model.named_parameters() if name.startswith(("blocks.0.", "patch_embed."))}

    @pytest.mark.parametrize(
        ("rules", "reason"),
        [
            (("encoder:frozen",), r"'encoder' matches no parameter .*; names are such as cls_token"),
            (("^head:lr=2", "^head.weight:frozen"), r"'\^head.weight' matches no parameter"),
            ((".:frozen",), "optim.rules freeze all parameters"),
        ],
    )
    def test_a_rule_without_effect_raises(self, rules, reason):
        with pytest.raises(ValueError, match=reason):
            freeze(ViT(CONFIG), rules)

    @pytest.mark.parametrize("rule", ["head", "head:", ":frozen", "head:lr=-1", "head:lr=x", "head:size=2", "(:lr=2"])
    def test_invalid_rules_raise(self, rule):
        with pytest.raises(ValueError, match=r"is not a rule: write PATTERN:lr=0\.1,decay=0 or PATTERN:frozen"):
            OptimConfig(rules=(rule,))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"lr": 0.0}, "lr must be above 0 and weight_decay at least 0, not 0.0 and 0.1"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"lr": float("inf")}, "lr must be above 0"),
        ({"weight_decay": -0.1}, "weight_decay at least 0"),
        ({"betas": (0.9, 1.0)}, "betas and momentum must be at least 0 and below 1"),
        ({"momentum": 1.0}, "betas and momentum must be at least 0 and below 1"),
        ({"name": "adam", "decay_form": "absolute"}, "the decay of adam is coupled"),
        ({"name": "muon", "momentum_dtype": "bfloat16"}, "muon supports float32 momentum only"),
        ({"clip": 0.0}, "clip must be above 0, or None, not 0.0"),
        ({"sam_rho": 0.0}, "sam_rho must be above 0, or None, not 0.0"),
        ({"sam_rho": float("nan")}, "sam_rho must be above 0, or None, not nan"),
        ({"clip": float("nan")}, "clip must be above 0, or None, not nan"),
    ],
)
def test_values_out_of_range(values, reason):
    with pytest.raises(ValueError, match=reason):
        OptimConfig(**values)
