"""A model that trains with kernels: the same gradients but for rounding; every other call as without them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiny import ARCHITECTURE
from vitral.layers.kernels import attention, gelu
from vitral.layers.lora import add_lora
from vitral.models import build
from vitral.train.kernels import use_kernels
from vitral.vit_config import ViTConfig

CONFIG = replace(ARCHITECTURE, image_size=28, patch_size=2, width=128, mlp_dim=192, dropout=0.0, depth=3)
"""196 patches and a class token, heads of 64."""


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The kernels' backward passes that ran, by name."""
    ran: list[str] = []

    def recorded(name: str, operator: Callable) -> Callable:
        return lambda *args: (ran.append(name), operator(*args))[1]

    for module in (attention, gelu):
        name = f"{module.__name__.rpartition('.')[2]}_backward"
        monkeypatch.setattr(module, name, recorded(name, getattr(module, name)))
    return ran


def noisy(config: ViTConfig) -> nn.Module:
    """A model without zeros."""
    torch.manual_seed(3)
    model = build(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.01, std=0.1)
    return model


def images(config: ViTConfig) -> Tensor:
    return torch.randn(2, 1, *config.image_hw, generator=torch.Generator().manual_seed(4))


def gradients(model: nn.Module, config: ViTConfig, *, half: bool) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = F.cross_entropy(model(images(config)).float(), torch.tensor([1, 7]))
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def with_and_without(config: ViTConfig, *, half: bool = True) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    plain, fast = noisy(config), noisy(config)
    use_kernels(fast)
    assert list(fast.state_dict()) == list(plain.state_dict())
    return gradients(fast, config, half=half), gradients(plain, config, half=half)


@pytest.mark.parametrize("form", ["tanh", "erf"])
def test_gradients_are_those_of_the_plain_model(calls, form):
    config = replace(CONFIG, gelu=form)
    fast, plain = with_and_without(config)
    exact = gradients(noisy(config), config, half=False)
    assert calls.count("gelu_backward") == 3
    assert calls.count("attention_backward") == 2, "the last block computes one query"
    assert fast.keys() == plain.keys()

    def error(given: dict[str, Tensor]) -> float:
        total = sum((given[name] - exact[name]).square().sum() for name in exact)
        return float(total / sum(value.square().sum() for value in exact.values())) ** 0.5

    assert error(fast) < 1.1 * error(plain) < 0.1


UNFIT = {
    "float32": (CONFIG, False),
    "rotary positions": (replace(CONFIG, position="rope"), True),
    "relative positions": (replace(CONFIG, position="relative"), True),
    "normalised queries": (replace(CONFIG, qk_norm=True), True),
    "dropout of attention": (replace(CONFIG, attention_dropout=0.5), True),
    "narrow heads": (replace(CONFIG, num_heads=4), True),
    "few tokens": (replace(CONFIG, image_size=16), True),
    "many tokens": (replace(CONFIG, image_size=32), True),
}


@pytest.mark.parametrize("case", UNFIT)
def test_other_attention_stays_as_it_is(calls, case):
    config, half = UNFIT[case]
    with_and_without(config, half=half)
    assert "attention_backward" not in calls


def test_evaluation_stays_as_it_is(calls):
    plain, fast = noisy(CONFIG), noisy(CONFIG)
    use_kernels(fast)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(images(CONFIG)), plain(images(CONFIG)))


def test_adapters_stay_as_they_are(calls):
    model = noisy(CONFIG)
    add_lora(model, layers=r"attn\.qkv|fc1", rank=2, alpha=2.0)
    use_kernels(model)
    assert gradients(model, CONFIG, half=True)
    assert calls == []


@pytest.mark.compile
def test_compiles_into_one_graph():
    model = noisy(CONFIG)
    use_kernels(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    fast, plain = gradients(compiled, CONFIG, half=True), gradients(model, CONFIG, half=True)
    for (name, ours), theirs in zip(fast.items(), plain.values(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda text, name=name: f"{name}: {text}")
