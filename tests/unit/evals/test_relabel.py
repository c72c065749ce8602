"""The classes of data are matched to a model's by name."""

import numpy as np
import pytest

from vitral.data.sources.source import ArraySource, read_from
from vitral.evals.relabel import relabel


def source(classes: tuple[str, ...]) -> ArraySource:
    pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1)
    return ArraySource(title="three", images=pixels, labels=np.array([0, 1, 1]), classes=classes)


def test_a_source_with_the_same_classes_is_returned_unchanged() -> None:
    data = source(("cat", "dog"))
    assert relabel(data, ("cat", "dog")) is data


@pytest.mark.parametrize("classes", [("dog", "cat"), ("dog", "owl", "cat")])
def test_labels_follow_the_names(classes: tuple[str, ...]) -> None:
    data = source(("cat", "dog"))
    changed = relabel(data, classes)
    assert changed.classes == classes
    assert [classes[label] for label in changed.labels] == ["cat", "dog", "dog"]
    assert len(changed) == 3
    assert changed.name(2) == "three[2]"
    assert read_from(changed, 2, channels=1).getpixel((0, 0)) == 2


def test_aliases_of_class_names() -> None:
    changed = relabel(source(("n01", "dog")), ("dog", "cat"), aliases={"n01": "cat", "n02": "dog"})
    assert changed.labels.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=r"1 class .* such as 'n03'"):
        relabel(source(("n03", "dog")), ("dog", "cat"), aliases={"n01": "cat"})


def test_a_class_that_the_model_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"1 class .* such as 'dog'; .* cat"):
        relabel(source(("cat", "dog")), ("cat", "cow"))


def test_long_lists_of_classes_are_shortened() -> None:
    with pytest.raises(ValueError, match=r"2 classes .* 8, 9 and 90 more$"):
        relabel(source(("cat", "dog")), tuple(map(str, range(100))))


def test_several_labels_are_matched_by_name() -> None:
    labels = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    images = np.zeros((3, 2, 2), np.uint8)
    source = ArraySource(title="data", images=images, labels=labels, classes=("dog", "cat"))
    found = relabel(source, ("ant", "cat", "dog"))
    assert found.labels.tolist() == [[0, 0, 1], [0, 1, 0], [0, 1, 1]]
    number = ArraySource(title="data", images=images, labels=labels[:, :1], classes=("height",))
    assert relabel(number, ("level",)).labels.tolist() == [[1], [0], [1]]
