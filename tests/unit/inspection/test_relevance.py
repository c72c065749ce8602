"""Class-specific relevance: the explicit forward pass is the model's, and the maps are those of the formula."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from models import small_model
from vitral.errors import UserError
from vitral.inspection.attention import block_with_weights
from vitral.inspection.relevance import class_relevance

IMAGES = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "changes",
    [
        dict(pool="cls"),
        dict(pool="map", layer_scale=0.1, num_registers=2),
        dict(position="relative", mlp="swiglu"),
        dict(position="rope", pool="gap", qk_norm=True),
    ],
)
def test_the_explicit_blocks_give_the_outputs_of_the_model(changes: dict[str, Any]) -> None:
    model = small_model(**changes)
    x, positions = model.embed(IMAGES)
    for block, pos in zip(model.blocks, positions, strict=True):
        expected = block(x, pos)
        x, weights = block_with_weights(block, x, pos)
        assert_close(x, expected)
        assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_one_block_gives_the_gradient_times_the_weights() -> None:
    model = small_model(depth=1)
    x, positions = model.embed(IMAGES)
    _, weights = block_with_weights(model.blocks[0], x, positions[0])
    expected = []
    for output in (0, 2):
        # the gradient by finite differences of one weight at a time, in the row of the class token
        x1 = x.detach()
        v = model.blocks[0].attn.project_qkv(model.blocks[0].norm1(x1))[2]
        free = weights.detach().clone().requires_grad_()
        mixed = (free @ v).transpose(1, 2).flatten(2)
        y = x1 + model.blocks[0].attn.proj(mixed)
        y = y + model.blocks[0].mlp(model.blocks[0].norm2(y))
        logit = model.classify(model.norm(y)[:, 0])[0, output]
        (gradient,) = torch.autograd.grad(logit, free)
        expected.append((free.detach() * gradient)[0].clamp(min=0).mean(0)[0, 1:].reshape(2, 3))
    assert_close(class_relevance(model, IMAGES, (0, 2)), torch.stack(expected))


def test_classes_differ_and_a_class_whose_logit_is_constant_has_no_relevance() -> None:
    model = small_model()
    with torch.no_grad():
        model.head.weight[1] = 0
    first, second = class_relevance(model, IMAGES, (0, 1))
    assert first.max() > 0
    assert (second == 0).all()


def test_frozen_models_are_explained_too() -> None:
    model = small_model()
    expected = class_relevance(model, IMAGES, (0,))
    assert_close(class_relevance(model.requires_grad_(False), IMAGES, (0,)), expected)


def test_axial_attention_is_refused() -> None:
    with pytest.raises(UserError, match="along rows and columns"):
        class_relevance(small_model(attention="axial", pool="gap"), IMAGES, (0,))
