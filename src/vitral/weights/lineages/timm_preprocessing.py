"""How timm's models want their images, by the name of the architecture and the tag of its weights."""

from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["HEADER", "TABLE", "timm_preprocessing"]

HEADER = ("name", "mean", "std", "crop_pct", "crop_mode", "interpolation")
"""Columns of `timm_preprocessing.tsv`, which a test compares with the installed timm."""
TABLE = Path(__file__).parent / "timm_preprocessing.tsv"
"""The table; `tests/parity/timm_table.py preprocessing` derives it."""


def timm_preprocessing(architecture: str) -> dict[str, Any] | None:
    """The entries of timm's `pretrained_cfg` that describe images; None if timm has no such architecture.

    Args:
        architecture: a name, with a tag or without: `vit_base_patch16_224.mae`. An unknown tag counts as the default.
    """
    table = _table()
    return table.get(architecture) or table.get(architecture.partition(".")[0])


@cache
def _table() -> dict[str, dict[str, Any]]:
    """One entry for each architecture with its default weights, and for each tag that differs from it."""
    entries = {}
    for line in TABLE.read_text().splitlines()[1:]:
        name, mean, std, crop_pct, crop_mode, interpolation = line.split("\t")
        entries[name] = dict(
            mean=[float(value) for value in mean.split(",")],
            std=[float(value) for value in std.split(",")],
            crop_pct=float(crop_pct),
            crop_mode=crop_mode,
            interpolation=interpolation,
        )
    return entries
