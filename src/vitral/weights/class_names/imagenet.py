"""ImageNet's classes by their number: names and WordNet identifiers, in the order of the models that tell them apart.

The number of classes says which list it is. All lists but that of 1000 are parts of Google's 21,843 in its order, which
is that of the identifiers.
"""

import gzip
from functools import cache
from pathlib import Path

__all__ = ["imagenet_aliases", "imagenet_classes", "imagenet_identifiers"]

HERE = Path(__file__).parent
WHOLE = 21843
"""Google's ImageNet-21k, which the paper's models were pre-trained on."""
PARTS = {21841: "a", 11821: "b", 11221: "c", 10450: "d"}
"""The letters that mark the classes of: the release of autumn 2011, timm's 12k, MIIL's choices of 2011 and of 2021."""


def imagenet_classes(count: int) -> tuple[str, ...] | None:
    """The names of as many classes, in the order of the logits; None where no list has that length.

    A name is the first word that WordNet has for the class, all of its words where the first names several classes,
    and with the identifier where even those do.
    """
    return tuple(_by_identifier(count).values()) or None


def imagenet_aliases(classes: tuple[str, ...]) -> dict[str, str]:
    """The class behind each WordNet identifier, such as n02099601, as ImageNet's folders are called.

    Args:
        classes: of a model; nothing is known of them where they are not ImageNet's.
    """
    known = _by_identifier(len(classes))
    return dict(known) if tuple(known.values()) == classes else {}


def imagenet_identifiers(classes: tuple[str, ...]) -> tuple[str, ...] | None:
    """WordNet's identifiers of a model's classes in their order; None where these are not ImageNet's 1,000.

    Args:
        classes: by name, or by identifier.
    """
    known = _by_identifier(1000)
    return tuple(known) if classes in (tuple(known), tuple(known.values())) else None


@cache
def _by_identifier(count: int) -> dict[str, str]:
    if count == 1000:
        lines = (HERE / "imagenet1k.tsv").read_text().splitlines()
        return dict(line.split("\t") for line in lines)  # pyright: ignore[reportReturnType]
    if count != WHOLE and count not in PARTS:
        return {}
    text = gzip.decompress((HERE / "imagenet21k.tsv.gz").read_bytes()).decode()
    rows = (line.split("\t") for line in text.splitlines())
    return {identifier: name for identifier, marks, name in rows if PARTS.get(count, "") in marks}
