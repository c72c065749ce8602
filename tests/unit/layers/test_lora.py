"""Adapters begin as nothing, learn alone, and merge into plain weights."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from models import small_model
from vitral.layers.lora import LoRALinear, add_lora, merge_lora

IMAGES = torch.rand(2, 3, 16, 24, dtype=torch.float64)


def adapted(layers: str = r"attn\.(qkv|proj)", rank: int = 2) -> nn.Module:
    model = small_model().double()
    add_lora(model, layers=layers, rank=rank, alpha=6.0)
    return model


def stirred(model: nn.Module) -> nn.Module:
    """With adapters that do something."""
    for layer in model.modules():
        if isinstance(layer, LoRALinear):
            nn.init.normal_(layer.up.weight)
    return model


def test_adapters_begin_as_nothing() -> None:
    assert torch.equal(adapted()(IMAGES), small_model().double()(IMAGES))


def test_layers_are_found_by_name() -> None:
    names = add_lora(small_model(), layers=r"attn\.qkv|mlp\.fc1", rank=2, alpha=1.0)
    assert names == ["blocks.0.attn.qkv", "blocks.0.mlp.fc1", "blocks.1.attn.qkv", "blocks.1.mlp.fc1"]


def test_what_is_added_is_up_times_down() -> None:
    layer = LoRALinear(nn.Linear(5, 3).double(), rank=2, alpha=6.0)
    nn.init.normal_(layer.up.weight)
    x = torch.randn(4, 5, dtype=torch.float64)
    added = 3.0 * x @ layer.down.weight.T @ layer.up.weight.T
    torch.testing.assert_close(layer(x), layer.base(x) + added, rtol=0, atol=1e-12)


def test_merged_weights_compute_the_same_in_a_plain_model() -> None:
    model = stirred(adapted())
    expected, names = model(IMAGES), set(small_model().state_dict())
    assert (expected - small_model().double()(IMAGES)).abs().max() > 1e-3
    merge_lora(model)
    assert set(model.state_dict()) == names
    assert type(model.blocks[0].attn.qkv) is type(small_model().blocks[0].attn.qkv)
    torch.testing.assert_close(model(IMAGES), expected, rtol=0, atol=1e-9)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_adapters_and_head_learn_and_nothing_else() -> None:
    model = stirred(adapted())
    before = deepcopy(model.state_dict())
    optimiser = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1)
    model(IMAGES).square().sum().backward()
    optimiser.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if ".down." in name or ".up." in name or name.startswith("head.")}


@pytest.mark.parametrize(
    ("layers", "rank", "sentence"),
    [
        ("conv", 2, "no dense layer's name has 'conv' in it: names are like blocks.0.attn.qkv, blocks.0.attn.proj"),
        ("head", 2, "no dense layer's name has 'head' in it"),
        ("attn", 0, "the rank of LoRA adapters must be at least 1, not 0"),
        ("attn(", 2, "is no regular expression"),
    ],
)
def test_what_cannot_be_adapted_is_refused(layers: str, rank: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        adapted(layers, rank)
