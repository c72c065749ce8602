"""Optimisers against plain NumPy, on every parameter of a small ViT, for fifty steps."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch

from vitral.train.muon import Muon, orthogonalise
from vitral.train.optim import OptimConfig, Optimiser, is_matrix
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

CONFIG = ViTConfig(
    image_size=8, patch_size=4, channels=1, width=8, depth=2, num_heads=2, mlp_dim=12, num_classes=3,
    representation_size=6,
)  # fmt: skip
STEPS = 50
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
    def test_size_does_not_matter(self, scale):
        matrix = torch.randn(8, 8)
        torch.testing.assert_close(orthogonalise(matrix * scale), orthogonalise(matrix), rtol=1e-2, atol=1e-3)

    def test_singular_vectors_stay(self):
        u, _, v = torch.linalg.svd(torch.randn(10, 10))
        spread = u.T @ orthogonalise(u @ torch.linspace(0.5, 2, 10).diag() @ v) @ v.T
        assert (spread - spread.diagonal().diag()).abs().max() < 1e-3

    def test_many_at_once_equal_each_alone(self):
        matrices = torch.randn(3, 5, 9)
        for one, together in zip(matrices, orthogonalise(matrices), strict=True):
            torch.testing.assert_close(orthogonalise(one), together)

    def test_nothing_stays_nothing(self):
        assert not orthogonalise(torch.zeros(4, 4)).any()


@pytest.mark.parametrize("shape", [(24, 24), (32, 12), (12, 32)])
def test_muon_equals_the_library_within_its_bfloat16(shape):
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


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_state_goes_on_where_it_stood(name):
    def step(model: ViT, optimiser: Optimiser, number: int) -> None:
        for key, gradient in gradients(model, number).items():
            model.get_parameter(key).grad = gradient
        optimiser.step(0.01)

    config = OptimConfig(name=name)
    model = ViT(CONFIG)
    optimiser = Optimiser(model, config)
    step(model, optimiser, 0)
    other = ViT(CONFIG)
    other.load_state_dict(model.state_dict())
    resumed = Optimiser(other, config)
    resumed.load_state_dict(deepcopy(optimiser.state_dict()))
    step(model, optimiser, 1)
    step(other, resumed, 1)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_settings_changed_at_resume_take_effect():
    saved = Optimiser(ViT(CONFIG), OptimConfig(weight_decay=0.1, betas=(0.9, 0.99))).state_dict()
    optimiser = Optimiser(ViT(CONFIG), OptimConfig(weight_decay=0.3, betas=(0.8, 0.9)))
    optimiser.load_state_dict(saved)
    groups = optimiser.parts[0].param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(group["betas"] == (0.8, 0.9) for group in groups)


def test_the_state_of_another_optimiser_is_refused():
    saved = Optimiser(ViT(CONFIG), OptimConfig(name="adamw")).state_dict()
    with pytest.raises(ValueError, match=r"optim\.name was adamw, not sgd"):
        Optimiser(ViT(CONFIG), OptimConfig(name="sgd")).load_state_dict(saved)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"lr": 0.0}, "lr must be above 0 and weight_decay at least 0, not 0.0 and 0.1"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"lr": float("inf")}, "lr must be above 0"),
        ({"weight_decay": -0.1}, "weight_decay at least 0"),
        ({"betas": (0.9, 1.0)}, "betas and momentum must be at least 0 and below 1"),
        ({"momentum": 1.0}, "betas and momentum must be at least 0 and below 1"),
        ({"clip": 0.0}, "clip must be above 0, or None, not 0.0"),
        ({"clip": float("nan")}, "clip must be above 0, or None, not nan"),
    ],
)
def test_values_out_of_range(values, reason):
    with pytest.raises(ValueError, match=reason):
        OptimConfig(**values)
