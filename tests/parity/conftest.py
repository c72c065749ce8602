"""Comparison of a peer's model with Vitral's: the same logits and gradients for the same weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from vitral.vit import ViT

Tensors = dict[str, Tensor]
AssertSame = Callable[..., None]


def _logits_and_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensors]:
    output = model(images)
    logits = output if isinstance(output, Tensor) else output.logits
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(cross_entropy(logits, labels), named.values())
    return logits, dict(zip(named, gradients, strict=True))


def _assert_same(model: ViT, peer: nn.Module, convert: Callable[[Tensors], Tensors], *, std: float, tol: float) -> None:
    """Loads a peer's random weights into Vitral's model and compares logits and the gradient of every parameter.

    Args:
        model: Vitral's model, in the precision to compare in.
        peer: the other project's model with the same numerics.
        convert: converts the peer's named tensors, weights or gradients, to Vitral's.
        std: standard deviation of the noise added to every weight of the peer, so that none stays 0 or 1.
        tol: largest allowed difference, absolute plus relative.
    """
    generator = Generator().manual_seed(0)
    dtype = model.head.weight.dtype
    peer.to(dtype).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=dtype) * std
    model.load_state_dict(convert(dict(peer.named_parameters())), strict=True)
    model.eval()

    config = model.config
    images = torch.rand(2, config.channels, *config.image_hw, generator=generator, dtype=dtype) * 2 - 1
    labels = torch.tensor([0, config.num_classes - 1])
    logits, gradients = _logits_and_gradients(model, images, labels)
    peer_logits, peer_gradients = _logits_and_gradients(peer, images, labels)
    torch.testing.assert_close(logits, peer_logits, rtol=tol, atol=tol)
    assert logits.std() > 0.01, "logits this uniform would be equal whatever the models compute"
    expected = convert(peer_gradients)
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=tol, atol=tol, msg=lambda m, n=name: f"{n}: {m}")
        assert gradient.abs().max() > 0, name


@pytest.fixture
def assert_same() -> AssertSame:
    """Asserts that a peer's model and Vitral's compute the same; see `_assert_same` for the arguments."""
    return _assert_same
