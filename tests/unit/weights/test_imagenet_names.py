"""ImageNet's class names are in the order of the logits, as in timm's lists."""

from collections import Counter
from pathlib import Path

import pytest
import timm

from vitral.weights.class_names.imagenet import imagenet_aliases, imagenet_classes

LISTS = Path(timm.__file__).parent / "data" / "_info"
FILES = {
    1000: "imagenet_synsets.txt",
    10450: "imagenet21k_miil_w21_synsets.txt",
    11221: "imagenet21k_miil_synsets.txt",
    11821: "imagenet12k_synsets.txt",
    21841: "imagenet22k_synsets.txt",
    21843: "imagenet21k_goog_synsets.txt",
}


def lemmas_by_identifier() -> dict[str, str]:
    """WordNet's lemmas of each identifier, from timm."""
    lines = (LISTS / "imagenet_synset_to_lemma.txt").read_text().splitlines()
    return dict(line.split("\t", 1) for line in lines)


@pytest.mark.parametrize("count", FILES)
def test_each_list_is_in_timms_order(count: int) -> None:
    classes, order = imagenet_classes(count), (LISTS / FILES[count]).read_text().split()
    assert classes is not None
    assert len(set(classes)) == count == len(order)
    assert list(imagenet_aliases(classes)) == order
    assert tuple(imagenet_aliases(classes).values()) == classes


def test_names_are_unique_wordnet_lemmas() -> None:
    lemmas, classes = lemmas_by_identifier(), imagenet_classes(21843)
    assert classes is not None
    names = imagenet_aliases(classes)
    firsts = Counter(lemmas[identifier].split(", ")[0] for identifier in names)
    duplicates = Counter(lemmas[identifier] for identifier in names)
    for identifier, name in names.items():
        first, whole = lemmas[identifier].split(", ")[0], lemmas[identifier]
        assert name == (first if firsts[first] == 1 else whole if duplicates[whole] == 1 else f"{whole} ({identifier})")
    assert (classes[0], classes[-1]) == ("organism", "knothole")
    assert (names["n02099601"], names["n02084071"]) == ("golden retriever", "dog")


def test_other_lists_have_no_names() -> None:
    assert imagenet_classes(999) is None
    assert imagenet_aliases(("cat", "dog")) == {}
    assert imagenet_aliases(tuple(f"class {label}" for label in range(1000))) == {}
