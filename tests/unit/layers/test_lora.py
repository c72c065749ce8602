"""Adapters begin as nothing, learn alone, and merge into plain weights."""

from copy import deepcopy

import pytest
import torch
from torch import Generator, nn

from models import small_model
from vitral.layers.lora import LoRALinear, add_lora, merge_lora
from vitral.models import build
from vitral.resnet import ResNetConfig

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
        (
            "conv",
            2,
            "no dense layer's name matches 'conv': the names are such as blocks.0.attn.qkv, blocks.0.attn.proj",
        ),
        ("head", 2, "no dense layer's name matches 'head'"),
        ("attn", 0, "the rank of LoRA adapters must be at least 1, not 0"),
        ("attn", 13, "the rank of LoRA adapters must be at most 12 for blocks.0.attn.qkv, not 13"),
        ("attn(", 2, "is not a regular expression"),
    ],
)
def test_what_cannot_be_adapted_is_refused(layers: str, rank: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        adapted(layers, rank)


def test_a_model_is_adapted_once() -> None:
    with pytest.raises(ValueError, match="has adapters already: merge them with merge_lora before adding others"):
        add_lora(adapted(), layers="mlp", rank=2, alpha=1.0)


def test_a_merged_model_is_adapted_again() -> None:
    model = stirred(adapted())
    merge_lora(model)
    expected = model(IMAGES)
    add_lora(model, layers="mlp", rank=2, alpha=1.0)
    assert torch.equal(model(IMAGES), expected)


def test_a_resnet_has_nothing_to_adapt() -> None:
    resnet = build(ResNetConfig(image_size=16, stages=(1,), root_width=32, num_classes=3))
    with pytest.raises(ValueError, match="no dense layer except its head, so there is nothing to adapt"):
        add_lora(resnet, layers="attn", rank=2, alpha=1.0)
    assert all(parameter.requires_grad for parameter in resnet.parameters())


def test_adapters_begin_within_kaimings_bound() -> None:
    layer = LoRALinear(nn.Linear(64, 9), rank=50, alpha=1.0)
    assert 0.99 / 8 < layer.down.weight.abs().max().item() <= 1 / 8
    assert not layer.up.weight.any()


def test_a_seed_gives_the_same_adapters() -> None:
    def drawn(seed: int) -> torch.Tensor:
        model = small_model()
        add_lora(model, layers="qkv", rank=2, alpha=1.0, generator=Generator().manual_seed(seed))
        return model.get_parameter("blocks.1.attn.qkv.down.weight")

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))


def test_copies_and_saved_adapters_compute_the_same() -> None:
    model = stirred(adapted())
    expected = model(IMAGES)
    copy, again = deepcopy(model), adapted()
    again.load_state_dict(model.state_dict())
    assert torch.equal(copy(IMAGES), expected)
    assert torch.equal(again(IMAGES), expected)
    merge_lora(copy)
    assert torch.equal(model(IMAGES), expected), "merging a copy leaves the model alone"


@pytest.mark.compile
def test_an_adapted_model_is_one_graph() -> None:
    torch.compiler.reset()
    model = stirred(adapted(r"attn|mlp"))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    eager = [model(IMAGES), *torch.autograd.grad(model(IMAGES).square().sum(), trained)]
    graph = [compiled(IMAGES), *torch.autograd.grad(compiled(IMAGES).square().sum(), trained)]
    for one, other in zip(graph, eager, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
