"""Which parameters learn at what rate, which decay, and which stay as they are."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn

from vitral.errors import UserError
from vitral.models import Model, repeated

__all__ = ["Rule", "Treatment", "freeze", "is_matrix", "named_weights", "treatments"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What holds for the parameters whose names have a regular expression in them, such as `^head:lr=10,decay=0`."""

    pattern: str
    lr: float = 1.0
    """Multiplies the learning rate."""
    decay: float | None = None
    """Weight decay in place of the usual one."""
    frozen: bool = False
    """Whether the parameters stay as they are."""

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Reads `PATTERN:lr=0.1,decay=0` or `PATTERN:frozen`; a pattern may have colons in it.

        Raises:
            UserError: it is no such thing.
        """
        pattern, _, words = text.rpartition(":")
        values: dict[str, float | bool] = {}
        try:
            re.compile(pattern)
            for word in words.split(","):
                key, _, value = word.strip().partition("=")
                values[key] = True if key == "frozen" and not value else _number(value)
            if not pattern or not values.keys() <= {"lr", "decay", "frozen"}:
                raise ValueError
            return cls(pattern=pattern, **values)  # pyright: ignore[reportArgumentType]
        except (ValueError, re.error):
            raise UserError(
                f"optim.rules {text!r} is no rule: write PATTERN:lr=0.1,decay=0 or PATTERN:frozen, where PATTERN is a "
                "regular expression for names such as blocks.0.attn.qkv.weight"
            ) from None


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What an optimiser does with one parameter."""

    lr: float
    """Multiplies the learning rate."""
    decay: float
    """Weight decay."""


def is_matrix(name: str, param: nn.Parameter) -> bool:
    """Whether a parameter is the weight of a dense layer or a convolution: only those decay."""
    return name.endswith(".weight") and param.ndim >= 2


def freeze(model: nn.Module, rules: Iterable[str]) -> None:
    """Lets the parameters that rules name as frozen stay as they are.

    Raises:
        UserError: a rule has no effect, as no parameter's name fits or earlier rules take them, or nothing is left.
    """
    parsed = list(map(Rule.parse, rules))
    unused = set(range(len(parsed)))
    for name, param in named_weights(model):
        number = _first(parsed, name)
        unused.discard(number if number is not None else -1)
        if number is not None and parsed[number].frozen:
            param.requires_grad_(False)
    if unused:
        names = ", ".join(list(dict(named_weights(model)))[:3])
        raise UserError(f"optim.rules: no parameter is left for {parsed[min(unused)].pattern!r}; names are as {names}")
    if not any(param.requires_grad for param in model.parameters()):
        raise UserError("optim.rules freeze every parameter: leave some to train")


def named_weights(learner: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """All weights by the names that rules know: the model's own, also where an objective put parts around it."""
    for name, param in learner.named_parameters():
        yield name.removeprefix("encoder."), param


def treatments(
    model: nn.Module, *, weight_decay: float, layer_decay: float | None, rules: Iterable[str]
) -> Iterator[tuple[str, nn.Parameter, Treatment]]:
    """How each trained parameter is treated.

    With `layer_decay` the rate falls by this factor from each block to the one before it, as BEiT and MAE fine-tune:
    the head and the last norm have the full rate, the embedding the lowest.
    """
    parsed, depths = list(map(Rule.parse, rules)), _depths(model)
    last = max(depths.values())
    for name, param in named_weights(model):
        if not param.requires_grad:
            continue
        number = _first(parsed, name)
        rule = parsed[number] if number is not None else Rule(pattern="")
        lr = rule.lr if layer_decay is None else rule.lr * layer_decay ** (last - depths[name])
        usual = weight_decay if is_matrix(name, param) else 0.0
        yield name, param, Treatment(lr=lr, decay=usual if rule.decay is None else rule.decay)


def _first(rules: list[Rule], name: str) -> int | None:
    return next((number for number, rule in enumerate(rules) if re.search(rule.pattern, name)), None)


def _depths(learner: nn.Module) -> dict[str, int]:
    """How far each parameter is from the image: 0 in the embedding, then the number of its block, then one more."""
    model = cast(Model, getattr(learner, "encoder", learner))
    number = {id(block): index + 1 for index, block in enumerate(repeated(model))}
    blocks = {f"{name}.": number[id(module)] for name, module in model.named_modules() if id(module) in number}
    last = len(number) + 1
    depths = {}
    for name, _ in named_weights(learner):
        own = next((depth for prefix, depth in blocks.items() if name.startswith(prefix)), None)
        early = name.startswith(
            ("patch_embed.", "stem.", "cls_token", "dist_token", "reg_token", "pos_embed", "norm_pre.")
        )
        depths[name] = own if own is not None else 0 if early else last
    return depths


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value
