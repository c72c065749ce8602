"""LAMB and Adafactor take the same steps as timm's, in float64."""

from functools import partial

import pytest
import timm.optim
import torch

from vitral.train.optimisers.adafactor import Adafactor
from vitral.train.optimisers.adam import LAMB

SHAPES = [(48, 40), (40, 48), (48, 40), (16, 33), (9,)]
"""Two of the same shape, one tall and one wide, one that Adafactor does not factorise, and a bias."""

PAIRS = {
    "lamb": (
        partial(LAMB, betas=(0.9, 0.99), eps=1e-6, momentum_dtype=torch.float64),
        partial(timm.optim.Lamb, betas=(0.9, 0.99), max_grad_norm=None),
    ),
    "adafactor": (
        partial(Adafactor, momentum=0.9, momentum_dtype=torch.float64, cap=0.9),
        partial(timm.optim.AdafactorBigVision, beta2_cap=0.9, momentum_dtype="float32", min_dim_size_to_factor=32),
    ),
}


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", PAIRS)
def test_fifty_steps(name, decay):
    """With a beta2 cap that 1 - t^-0.8 reaches after eighteen steps."""
    values = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    params, peer_params = ([torch.nn.Parameter(value.clone()) for value in values] for _ in range(2))
    build, build_peer = PAIRS[name]
    optimisers = build(params, lr=0.0), build_peer(peer_params, lr=0.0, weight_decay=decay)
    for step in range(50):
        grads = [torch.randn(value.shape, dtype=torch.float64) for value in values]
        for group, optimiser in zip((params, peer_params), optimisers, strict=True):
            for param, grad in zip(group, grads, strict=True):
                param.grad = grad.clone()
            optimiser.param_groups[0] |= dict(lr=0.01 / (1 + step), weight_decay=decay)
            optimiser.step()
        torch.testing.assert_close(params, peer_params, rtol=1e-9, atol=1e-9)
