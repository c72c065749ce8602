"""ImageNet's class names and WordNet identifiers, in the order of the logits.

The number of classes identifies the list. Every list except that of 1,000 classes is a subset of Google's 21,843
classes, sorted by identifier.
"""

import gzip
from functools import cache
from pathlib import Path

__all__ = ["imagenet_aliases", "imagenet_classes", "imagenet_identifiers"]

HERE = Path(__file__).parent
IMAGENET_21K = 21843
"""Number of classes of Google's ImageNet-21k, on which the paper's models were pre-trained."""
SUBSETS = {21841: "a", 11821: "b", 11221: "c", 10450: "d"}
"""Markers, in the file, of the subsets: the release of autumn 2011, timm's 12k, MIIL's subsets of 2011 and 2021."""


def imagenet_classes(count: int) -> tuple[str, ...] | None:
    """Names of ImageNet's classes in the order of the logits; None if no list has this length.

    A name is the first WordNet lemma of the class. If that is ambiguous, it is all lemmas; if they are ambiguous too,
    the identifier is added.
    """
    return tuple(_by_identifier(count).values()) or None


def imagenet_aliases(classes: tuple[str, ...]) -> dict[str, str]:
    """Class name of each WordNet identifier, such as n02099601, which ImageNet uses as folder names.

    Args:
        classes: class names of a model; the result is empty if they are not ImageNet's.
    """
    names = _by_identifier(len(classes))
    return dict(names) if tuple(names.values()) == classes else {}


def imagenet_identifiers(classes: tuple[str, ...]) -> tuple[str, ...] | None:
    """WordNet identifiers of a model's classes, in the same order; None if they are not ImageNet's 1,000 classes.

    Args:
        classes: names or identifiers.
    """
    names = _by_identifier(1000)
    return tuple(names) if classes in (tuple(names), tuple(names.values())) else None


@cache
def _by_identifier(count: int) -> dict[str, str]:
    if count == 1000:
        lines = (HERE / "imagenet1k.tsv").read_text().splitlines()
        return dict(line.split("\t") for line in lines)  # pyright: ignore[reportReturnType]
    if count != IMAGENET_21K and count not in SUBSETS:
        return {}
    text = gzip.decompress((HERE / "imagenet21k.tsv.gz").read_bytes()).decode()
    rows = (line.split("\t") for line in text.splitlines())
    return {identifier: name for identifier, marks, name in rows if SUBSETS.get(count, "") in marks}
