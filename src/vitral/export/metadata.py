"""What an exported file says of itself, so that it can be used without the model it was made from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from vitral.card import ModelCard
from vitral.config import from_dict, parse_json, to_dict
from vitral.errors import UserError
from vitral.models import Architecture

__all__ = ["PRECISIONS", "ExportMetadata", "Precision", "Sizes", "Target"]

Sizes = Literal["fixed", "dynamic"]
"""Whether a file takes images of the model's size only, or of any size that whole patches fill."""

Precision = Literal["float32", "float16", "int8"]
"""Numbers that a file computes with."""

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")

CARD = tuple(field.name for field in fields(ModelCard))


@dataclass(frozen=True, kw_only=True)
class Target:
    """What machine code needs."""

    torch: str
    """Version of PyTorch."""
    machine: str
    """Kind of processor, such as x86_64."""
    instructions: tuple[str, ...]
    """Its instruction sets, as Linux names them; none if they are not known."""


@dataclass(frozen=True, kw_only=True)
class ExportMetadata:
    """Metadata of an exported file."""

    vitral: str
    """Version that wrote the file."""
    architecture: Architecture
    card: ModelCard
    output: Literal["logits", "features"]
    """Features before the head, if the head was never trained."""
    image_size: Sizes
    precision: Precision
    with_preprocessing: bool = False
    """Whether the file takes uint8 pixels of any size."""
    compiled_for: Target | None = None
    """The machine for which a .pt2 file was compiled; None for a graph."""
    warning: str = ""
    """Why the file failed its comparison with the model; empty if it passed."""

    def to_strings(self) -> dict[str, str]:
        """One JSON text a name. The card's fields stand by themselves: `classes` is a list of names."""
        values = to_dict(self)
        card = values.pop("card")
        return {name: json.dumps(value) for name, value in {**values, **card}.items()}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names that `to_strings` gives."""
        return *(field.name for field in fields(cls) if field.name != "card"), *CARD

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], *, origin: str) -> "ExportMetadata":
        """Reads what `to_strings` gave; names that others added are left out.

        Raises:
            UserError: the file is not Vitral's.
        """
        try:
            values = {name: parse_json(text, origin=origin) for name, text in strings.items() if name in cls.names()}
        except UserError:
            values = {}
        if "vitral" not in values:
            raise UserError(f"{origin} was not written by vitral export: it names no classes and no preprocessing")
        card = {name: values.pop(name) for name in CARD if name in values}
        return from_dict(cls, {**values, "card": card}, origin=origin)
