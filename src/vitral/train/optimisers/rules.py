"""Learning rate and weight decay of each parameter, and frozen parameters."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn

from vitral.errors import UserError
from vitral.models import Model, repeated

__all__ = ["ParamSettings", "Rule", "freeze", "is_matrix", "named_weights", "param_settings"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Settings for parameters whose names match a regular expression, such as `^head:lr=10,decay=0`."""

    pattern: str
    lr: float = 1.0
    """Multiplies the learning rate."""
    decay: float | None = None
    """Weight decay; None: the default."""
    frozen: bool = False
    """Whether the parameters are not trained."""

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Parses `PATTERN:lr=0.1,decay=0` or `PATTERN:frozen`; the pattern may contain colons.

        Raises:
            UserError: the syntax is wrong.
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
                f"optim.rules: {text!r} is not a rule: write PATTERN:lr=0.1,decay=0 or PATTERN:frozen; PATTERN is a "
                "regular expression for names such as blocks.0.attn.qkv.weight"
            ) from None


@dataclass(frozen=True, kw_only=True)
class ParamSettings:
    """Settings of one parameter."""

    lr: float
    """Multiplies the learning rate."""
    decay: float
    """Weight decay."""


def is_matrix(name: str, param: nn.Parameter) -> bool:
    """Whether a parameter is the weight of a dense layer or convolution. Only these have weight decay."""
    return name.endswith(".weight") and param.ndim >= 2


def freeze(model: nn.Module, rules: Iterable[str]) -> None:
    """Freezes the parameters that rules say are frozen.

    Raises:
        UserError: a rule matches no parameter, or only those of earlier rules, or all parameters are frozen.
    """
    parsed = list(map(Rule.parse, rules))
    unused = set(range(len(parsed)))
    for name, param in named_weights(model):
        number = _first(parsed, name)
        unused.discard(number if number is not None else -1)
        if number is not None and parsed[number].frozen:
            param.requires_grad_(False)
    if unused:
        pattern = parsed[min(unused)].pattern
        names = ", ".join(list(dict(named_weights(model)))[:3])
        raise UserError(
            f"optim.rules: {pattern!r} matches no parameter besides those of earlier rules; names are such as {names}"
        )
    if not any(param.requires_grad for param in model.parameters()):
        raise UserError("optim.rules freeze all parameters: leave some to train")


def named_weights(learner: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters by the names that rules match: those of the model, also inside an objective's module."""
    for name, param in learner.named_parameters():
        yield name.removeprefix("encoder."), param


def param_settings(
    model: nn.Module, *, weight_decay: float, layer_decay: float | None, rules: Iterable[str]
) -> Iterator[tuple[str, nn.Parameter, ParamSettings]]:
    """The settings of each trained parameter.

    `layer_decay` is the factor of the learning rate from each block to the one before it, as BEiT and MAE fine-tune:
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
        default = weight_decay if is_matrix(name, param) else 0.0
        yield name, param, ParamSettings(lr=lr, decay=default if rule.decay is None else rule.decay)


def _first(rules: list[Rule], name: str) -> int | None:
    return next((number for number, rule in enumerate(rules) if re.search(rule.pattern, name)), None)


def _depths(learner: nn.Module) -> dict[str, int]:
    """Layer number of each parameter: 0 in the embedding, then that of its block, from 1, then one more."""
    model = cast(Model, getattr(learner, "encoder", learner))
    numbers = {id(block): index + 1 for index, block in enumerate(repeated(model))}
    blocks = {f"{name}.": numbers[id(module)] for name, module in model.named_modules() if id(module) in numbers}
    last = len(numbers) + 1
    depths = {}
    for name, _ in named_weights(learner):
        block = next((depth for prefix, depth in blocks.items() if name.startswith(prefix)), None)
        early = name.startswith(
            ("patch_embed.", "stem.", "cls_token", "dist_token", "reg_token", "pos_embed", "norm_pre.")
        )
        depths[name] = block if block is not None else 0 if early else last
    return depths


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value
