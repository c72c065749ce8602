"""JSON documents: records, COCO and Label Studio's exports give one class for each image, or say why not."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from vitral.data.sources.label_json import json_columns
from vitral.errors import UserError

FILE = Path("labels.json")

COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "a.png", "width": 2, "patient": "p1"}, {"id": 8, "file_name": "b.png"}],
    "annotations": [{"image_id": 8, "category_id": 1}, {"image_id": 7, "category_id": 2}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "cow"}],
}


def task(path: str, *choices: str) -> dict[str, Any]:
    """A task of Label Studio, with one annotation for each choice."""
    results = [{"type": "choices", "from_name": "animal", "value": {"choices": [choice]}} for choice in choices]
    return {"id": 1, "data": {"image": path, "patient": "p1"}, "annotations": [{"result": [one]} for one in results]}


def columns(value: Any, file: Path = FILE) -> dict[str, list[str]]:
    return json_columns(file, json.loads(json.dumps(value), parse_int=str))[1]


@pytest.mark.parametrize(
    "value",
    [
        [{"image": "a.png", "label": "x"}, {"image": "b.png", "label": "y"}],
        {"version": 1, "data": [{"image": "a.png", "label": "x"}, {"image": "b.png", "label": ["y"]}]},
        {"a.png": "x", "b.png": "y"},
        {"a.png": ["x"], "b.png": ["y"]},
    ],
)
def test_records(value: Any) -> None:
    assert columns(value) == {"image": ["a.png", "b.png"], "label": ["x", "y"]}


def test_coco() -> None:
    assert columns(COCO) == {"file_name": ["a.png", "b.png"], "category": ["dog", "cat"], "patient": ["p1", ""]}


def test_coco_boxes_and_images_without_a_category_are_noted(caplog: pytest.LogCaptureFixture) -> None:
    value = deepcopy(COCO)
    value["annotations"] = [{"image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1]}] * 2
    assert columns(value)["file_name"] == ["a.png"]
    assert [record.message for record in caplog.records] == [
        "labels.json: left out an image without a class, b.png",
        "labels.json: its boxes are not used: an image is classified as a whole",
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"annotations": [*COCO["annotations"], {"image_id": 7, "category_id": 1}]},
            "gives a.png the categories 'dog'",
        ),
        ({"annotations": [{"image_id": 9, "category_id": 1}]}, "has an annotation of the image 9"),
        ({"categories": []}, "has an annotation of the category 1"),
        ({"images": [*COCO["images"], {"id": 7, "file_name": "c.png"}]}, "has two images with the same id"),
        ({"annotations": [{"image_id": 7}]}, "has malformed COCO annotations (a part lacks 'category_id')"),
    ],
)
def test_coco_that_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        columns(COCO | change)
    assert sentence in str(caught.value)


def test_label_studio() -> None:
    local = task("/data/local-files/?d=my%20photos/a.png", "cat", "cat")
    uploaded = task("/data/upload/3/b%20c.png", "dog")
    assert columns([local, uploaded]) == {
        "image": ["my photos/a.png", "3/b c.png"],
        "patient": ["p1", "p1"],
        "animal": ["cat", "dog"],
    }


def test_cancelled_and_missing_choices(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = task("b.png", "dog")
    cancelled["annotations"][0]["was_cancelled"] = True
    assert columns([task("a.png", "cat"), cancelled], Path("cancelled.json"))["image"] == ["a.png"]
    assert "left out an image without a class, b.png" in caplog.text


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([task("a.png", "cat", "dog")], "gives a.png the choices 'cat' and 'dog': Vitral learns one class"),
        ([task("a.png")], "has no choices of Label Studio"),
    ],
)
def test_label_studio_that_is_refused(tasks: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        columns(tasks)
    assert sentence in str(caught.value)


def test_boxes_of_label_studio_are_named() -> None:
    value = task("a.png", "cat")
    value["annotations"][0]["result"][0]["type"] = "rectanglelabels"
    with pytest.raises(ValueError, match="no choices of Label Studio, only rectanglelabels"):
        columns([value])


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document, with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from nodes(value[key])


@pytest.mark.parametrize("value", [COCO, [task("a.png", "cat"), task("b.png", "dog")], [{"image": "a", "label": "x"}]])
@pytest.mark.parametrize("other", [None, 1, True, "x", "", [], {}, [[]], [{}], {"a": 1}])
def test_any_part_may_be_another(value: Any, other: Any) -> None:
    """Whatever stands in a part of a document, it is read, or refused in one sentence."""
    for index in range(sum(1 for _ in nodes(value))):
        changed = deepcopy(value)
        container, key = list(nodes(changed))[index]
        container[key] = other
        try:
            found = columns(changed)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 (most, but not all, are refused)
        else:
            assert all(isinstance(cell, str) for cells in found.values() for cell in cells)
