"""Classes in JSON documents: lists of records, COCO annotations, Label Studio's exports, and objects of paths."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vitral.data.notes import note_once
from vitral.errors import UserError

__all__ = ["Cells", "json_columns", "text_cells"]

Cells = dict[str, list[str]]
"""The cells of each column, in the order of the rows."""

MAX_DEPTH = 4
"""Of objects in a record whose fields have columns."""

ONE_CLASS = "Vitral learns one class for each image, or all of them with --data.target multi-label"
"""Why several classes of an image are refused."""


def json_columns(file: Path, value: Any, *, several: bool = False) -> tuple[str, Cells, dict[str, int]]:
    """The columns of a JSON document whose numbers are read as text.

    Args:
        file: its name in errors.
        value: its content.
        several: whether COCO and Label Studio may give an image several labels, as a list.

    Returns:
        The kind of the document in words, its columns, and those with lists or objects as in `text_cells`.

    Raises:
        UserError: the document names no classes, several for one image, or has another form.
    """
    kind = "COCO annotations"
    try:
        if isinstance(value, dict) and {"images", "annotations"} <= value.keys():
            return kind, *text_cells(file, _coco(file, value, several=several))
        kind = "tasks of Label Studio"
        if _is_records(value) and all(isinstance(task.get("data"), dict) for task in value):
            return kind, *text_cells(file, _label_studio(file, value, several=several))
    except (AttributeError, IndexError, KeyError, TypeError) as error:  # a part has another form than the format says
        reason = f"a part lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} has malformed {kind} ({reason}): export it again") from None
    lists = [value, *value.values()] if isinstance(value, dict) else [value]  # such as {"data": [...]}
    records: list[Any] = [item for item in lists if _is_records(item)]
    if len(records) == 1:
        return "a list of records", *text_cells(file, records[0])
    if isinstance(value, dict) and value and all(isinstance(label, str | list) for label in value.values()):
        pairs = [{"image": path, "label": label} for path, label in value.items()]
        return "an object of paths and classes", *text_cells(file, pairs)
    raise UserError(
        f'{file} has no list of records: give JSON such as [{{"image": "1.jpg", "label": "cat"}}], COCO '
        "annotations, or an export of Label Studio"
    )


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def text_cells(file: Path, rows: Sequence[Mapping[str, Any]]) -> tuple[Cells, dict[str, int]]:
    """Records as columns of text. A list of one value is that value; a missing value is empty.

    The fields of an object have columns too: `label.name` is the `name` in `label`.

    Returns:
        The columns, and those with lists or objects, with the index of the first row that has one.

    Raises:
        UserError: a text is no valid Unicode.
    """
    rows = [_with_fields(row, MAX_DEPTH) for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row))
    structured: dict[str, int] = {}
    columns: Cells = {}
    for name in names:
        cells: list[str] = []
        for index, row in enumerate(rows):
            cell = row.get(name)
            if isinstance(cell, list) and len(cell) == 1 and not isinstance(cell[0], list | dict):
                cell = cell[0]
            if isinstance(cell, list | dict):
                structured.setdefault(name, index)
            cells.append("" if cell is None else cell if isinstance(cell, str) else json.dumps(cell))
        columns[name] = cells
        try:
            "".join(cells).encode()
        except UnicodeEncodeError:
            raise UserError(f"{file} has half of a surrogate pair in its {name!r}: write the whole character") from None
    return columns, structured


def _with_fields(row: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """A record with the fields of its objects."""
    if not depth or not any(isinstance(cell, dict) for cell in row.values()):
        return row
    objects = {name: _with_fields(cell, depth - 1) for name, cell in row.items() if isinstance(cell, dict)}
    nested = {f"{name}.{field}": cell for name, fields in objects.items() for field, cell in fields.items()}
    return {**row, **{name: cell for name, cell in nested.items() if name not in row}}


def _coco(file: Path, value: Mapping[str, Any], *, several: bool) -> list[dict[str, Any]]:
    """One record for each image: its file, its category or categories, and its other keys."""
    names = {str(category["id"]): category["name"] for category in value.get("categories", ())}
    images = {str(image["id"]): image for image in value["images"]}
    files = {key: image["file_name"] for key, image in images.items()}
    pairs = [(str(annotation["image_id"]), str(annotation["category_id"])) for annotation in value["annotations"]]
    if len(images) < len(value["images"]):
        raise UserError(f"{file} has two images with the same id: give each its own")
    categories: dict[str, dict[str, None]] = {}
    for image, category in pairs:
        if image not in images or category not in names:
            what = f"the image {image}" if image not in images else f"the category {category}"
            raise UserError(f"{file} has an annotation of {what}, which it does not list: complete the file")
        given = categories.setdefault(image, {})
        given[names[category]] = None
        if len(given) > 1 and not several:
            raise UserError(f"{file} gives {files[image]} the categories {' and '.join(map(repr, given))}: {ONE_CLASS}")
    _note_unlabelled(file, [files[key] for key in images if key not in categories])
    if any("bbox" in annotation for annotation in value["annotations"]):
        note_once(f"{file}: its boxes are not used: an image is classified as a whole")
    rest = {"id", "license", "flickr_url", "coco_url", "date_captured", "width", "height"}
    return [
        {"file_name": files[key], "category": list(categories[key])}
        | {name: cell for name, cell in image.items() if name not in rest | {"file_name", "category"}}
        for key, image in images.items()
        if key in categories
    ]


def _label_studio(file: Path, tasks: Iterable[Mapping[str, Any]], *, several: bool) -> list[dict[str, Any]]:
    """One record for each task: its data, and its choice or choices for each question."""
    records: list[dict[str, Any]] = []
    unlabelled: list[str] = []
    other: Counter[str] = Counter()
    for task in tasks:
        data = {name: _studio_path(cell) for name, cell in task["data"].items()}
        image = str(next(iter(data.values()), f"task {task.get('id')}"))
        choices: dict[str, list[str]] = {}
        for result in _studio_results(task):
            if result.get("type") != "choices":
                other[str(result.get("type"))] += 1
                continue
            chosen = result.get("value", {}).get("choices", [])
            question = str(result.get("from_name", "choice"))
            answers = list(dict.fromkeys([*choices.get(question, ()), *chosen]))
            if len(answers) > 1 and not several:
                listed = " and ".join(map(repr, sorted(answers)))
                raise UserError(f"{file} gives {image} the choices {listed}: {ONE_CLASS}")
            choices |= {question: answers} if answers else {}
        records += [data | choices] if choices else []
        unlabelled += [] if choices else [image]
    if not records:
        kinds = f", only {', '.join(sorted(other))}" if other else ""
        raise UserError(f"{file} has no choices of Label Studio{kinds}: export a project that classifies images")
    _note_unlabelled(file, unlabelled)
    return records


def _studio_results(task: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """What annotators said of a task; cancelled annotations do not count."""
    for annotation in task.get("annotations") or task.get("completions") or ():
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            yield from (result for result in annotation.get("result") or () if isinstance(result, dict))


def _studio_path(cell: Any) -> Any:
    """A local file as Label Studio addresses it (`/data/local-files/?d=photos/1.jpg`), relative to its root."""
    if isinstance(cell, str) and cell.startswith("/data/local-files/"):
        return parse_qs(urlsplit(cell).query).get("d", [cell])[0]
    if isinstance(cell, str) and cell.startswith("/data/upload/"):
        return unquote(cell.removeprefix("/data/upload/"))
    return cell


def _note_unlabelled(file: Path, images: Sequence[str]) -> None:
    if images:
        several = f"{len(images):,} images without a class, such as" if len(images) > 1 else "an image without a class,"
        note_once(f"{file}: left out {several} {images[0]}")
