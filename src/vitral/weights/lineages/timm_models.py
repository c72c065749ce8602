"""What timm's models compute beyond what their tensors show, by the name of the architecture."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["HEADER", "TABLE", "TimmModel", "timm_models"]

HEADER = ("name", "num_heads", "activation", "norm_eps", "pool", "rotary", "difference")
"""Columns of `timm_models.tsv`, which a test compares with the installed timm."""
TABLE = Path(__file__).parent / "timm_models.tsv"
"""The table; `tests/parity/timm_table.py` derives it."""


@dataclass(frozen=True, kw_only=True)
class TimmModel:
    """One architecture of timm with its default arguments."""

    num_heads: int
    """Attention heads of each block."""
    activation: str
    """Activation of each MLP, such as `gelu_tanh`."""
    norm_eps: float
    """Epsilon of every LayerNorm."""
    pool: str
    """timm's `global_pool`."""
    rotary: bool
    """Whether it has rotary positions of DINOv3's form."""
    difference: str
    """What it computes that Vitral does not, such as `has no final norm`; empty if there is nothing."""


@cache
def timm_models() -> dict[str, TimmModel]:
    """timm's Vision Transformers by name: those whose tensors have the names that Vitral takes for timm's."""
    models = {}
    for line in TABLE.read_text().splitlines()[1:]:
        name, num_heads, activation, norm_eps, pool, rotary, difference = line.split("\t")
        models[name] = TimmModel(
            num_heads=int(num_heads),
            activation=activation,
            norm_eps=float(norm_eps),
            pool=pool,
            rotary=rotary == "dinov3",
            difference=difference,
        )
    return models
