"""Chooses the columns of a label file: images, classes, splits and groups."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitral.data.config import DataConfig
from vitral.data.notes import note_once
from vitral.data.sources.folder import SPLITS
from vitral.data.sources.label_tables import PATH_SUFFIXES, LabelTable
from vitral.errors import UserError

__all__ = ["ChosenColumns", "choose_columns", "note_unused_columns", "read_classes", "split_rows"]

IMAGE_COLUMNS = (
    *("file_name", "filename", "file", "path", "filepath", "file_path", "image", "image_path", "img", "img_path"),
    *("image_name", "image_id", "id_code", "id", "file_names"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "class_name", "classname", "category", "target", "cls", "species", "breed", "choice"),
    *("diagnosis", "class folder"),
)
SPLIT_COLUMNS = ("split", "subset", "partition")

FLAG_COLUMNS = {"is_valid": "val", "is_val": "val", "is_test": "test", "is_train": "train"}
"""Columns whose true rows belong to a split, as fastai has it; the others are training images."""

FOLD_COLUMNS = ("fold", "folds", "kfold")
TRUE, FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})

GROUP_COLUMNS = (
    "patient",
    "patient_id",
    "patientid",
    "subject",
    "subject_id",
    "lesion_id",
    "video",
    "video_id",
    "group",
)
"""Columns that usually name what images have in common, so that a random split would leak."""

NO_CLASSES = {*SPLIT_COLUMNS, *FLAG_COLUMNS, *FOLD_COLUMNS, *GROUP_COLUMNS}
"""Columns that hold no classes, unless there is no other."""

WRITTEN_LIST = re.compile(r"""\[\s*(['"]).*\1\s*,\s*(['"]).*\2\s*\]""")
"""A list of words as Python and JSON write it."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DECIMAL = re.compile(r"[+-]?\d*\.\d+")

ONE_CLASS = "Vitral learns one class for each image, so keep one, or learn all of them with --data.target multi-label"
"""What to do about several classes in a row."""


@dataclass(frozen=True, kw_only=True)
class ChosenColumns:
    """Names of the columns of a label file."""

    image: str
    label: str | None
    """None: each class has a column of zeros and ones."""
    split: str | None
    one_hot: tuple[str, ...] = ()
    """Columns of the classes if `label` is None."""


def choose_columns(table: LabelTable, config: DataConfig) -> ChosenColumns:
    """The columns of images, classes and splits: as given, by their names, or by their content.

    Raises:
        UserError: a given column does not exist, or a needed one is not obvious.
    """
    columns = table.columns
    image, label, split = config.image_column, config.label_column, config.split_column
    for flag, name in (("image-column", image), ("label-column", label), ("split-column", split)):
        if name is not None:
            table.column(name, flag=flag)
    image = image or _find_image_column(table)
    split = split or _find(columns, SPLIT_COLUMNS, without=(image, label))
    label = label or _find_label_column(table, without=(image, split, config.group_column), target=config.target)
    one_hot: tuple[str, ...] = ()
    if label is None and config.target != "regression":
        others = [name for name in columns if name not in (image, split) and name.lower() not in NO_CLASSES]
        flags = [name for name in others if set(columns[name]) <= {"0", "1"} or set(columns[name]) <= {"0.0", "1.0"}]
        one_hot = tuple(name for name in flags if len(set(columns[name])) > 1 or config.target == "multi-label")
    for flag, found in (("image", image is not None), ("label", label is not None or len(one_hot) > 1)):
        if not found:
            kinds = {"class": "classes", "multi-label": "labels", "regression": "numbers"}
            raise UserError(
                f"{table.file} has no obvious column of {'images' if flag == 'image' else kinds[config.target]}, only "
                f"{', '.join(columns)}: choose one with --data.{flag}-column"
            )
    assert image is not None
    chosen = ChosenColumns(image=image, label=label, split=split, one_hot=one_hot)
    _note_columns(table, chosen, config)
    return chosen


def _find(columns: Iterable[str], names: Iterable[str], without: Iterable[str | None] = ()) -> str | None:
    """The first column with one of these names, in any case; else the first field of an object with one."""
    names, columns = tuple(names), [name for name in columns if name not in without]
    exact = {name.lower(): name for name in reversed(columns)}
    fields = {name.lower().rpartition(".")[2]: name for name in reversed(columns)}
    return next((found[name] for found in (exact, fields) for name in names if name in found), None)


def _find_image_column(table: LabelTable) -> str | None:
    """The column of images by its name and content, by its content, or by its name."""
    with_images = [name for name, cells in table.columns.items() if _is_image(cells[0])]
    return _find(with_images, IMAGE_COLUMNS) or next(iter(with_images), None) or _find(table.columns, IMAGE_COLUMNS)


def _find_label_column(table: LabelTable, without: Iterable[str | None], target: str) -> str | None:
    """The column of the targets by its name, or the only one left; of numbers, if the target is one."""
    others = [name for name in table.columns if name and name not in without]
    if target == "regression":
        others = [name for name in others if NUMBER.fullmatch(table.columns[name][0].strip())]
    if len(others) > 1:
        others = [name for name in others if name.lower() not in NO_CLASSES]
    return _find(others, LABEL_COLUMNS) or (others[0] if len(others) == 1 else None)


def _is_image(cell: str) -> bool:
    return Path(cell.strip()).suffix.lower() in PATH_SUFFIXES


def _note_columns(table: LabelTable, chosen: ChosenColumns, config: DataConfig) -> None:
    """Notes which columns are used, and which unused ones look as if they should be."""
    if config.image_column is None or config.label_column is None:
        classes = (
            f"the column {chosen.label!r}" if chosen.label is not None else f"{len(chosen.one_hot)} columns of 0 and 1"
        )
        kind = {"class": "classes", "multi-label": "labels", "regression": "numbers"}[config.target]
        splits = f", splits from the column {chosen.split!r}" if chosen.split is not None else ""
        note_once(f"{table.file}: images from the column {chosen.image!r}, {kind} from {classes}{splits}")
    if chosen.split is None:
        note_unused_columns(
            str(table.file), [name for name in table.columns if name != chosen.label], config, can_split=True
        )


def note_unused_columns(origin: str, names: Iterable[str], config: DataConfig, *, can_split: bool) -> None:
    """Notes columns of data without splits that look as if they should split it, or group its images.

    Args:
        origin: name of the data.
        names: of the columns that hold no classes.
        config: the columns in use.
        can_split: whether a column may assign images to splits.
    """
    for name in names:
        lower = name.lower()
        if lower in (*SPLIT_COLUMNS, *FLAG_COLUMNS, *FOLD_COLUMNS):
            advice = f"--data.split-column {name} would split by it" if can_split else "give each split its own table"
            note_once(f"{origin}: the column {name!r} is not used; {advice}")
        if lower in GROUP_COLUMNS and config.group_column is None and config.group_pattern is None:
            note_once(
                f"{origin}: the column {name!r} is not used; --data.group-column {name} would keep images with the "
                "same value in one split"
            )


def read_classes(table: LabelTable, chosen: ChosenColumns) -> list[str]:
    """The class of each row.

    Raises:
        UserError: a row has none, or several.
    """
    if chosen.label is None:
        return _one_hot_classes(table, chosen.one_hot)
    cells = table.columns[chosen.label]
    if chosen.label in table.structured:
        row = table.structured[chosen.label]
        fields = [name for name in table.columns if name.startswith(f"{chosen.label}.")]
        choice = f"; --data.label-column chooses a field: {', '.join(fields)}" if fields else ""
        raise UserError(
            f"{table.file} has {_short(cells[row])} as the class of row {row + table.first_row}, a list or an object: "
            f"{ONE_CLASS}{choice}"
        )
    names = set(cells)
    if not all(map(str.strip, names)):
        row = next(row for row, cell in enumerate(cells) if not cell.strip()) + table.first_row
        raise UserError(f"{table.file} has no class in row {row}: give every image a class, or remove the row")
    written = next((name for name in names if WRITTEN_LIST.fullmatch(name)), None)
    if written is not None:
        row = cells.index(written) + table.first_row
        raise UserError(f"{table.file} has the list {_short(written)} as the class of row {row}: {ONE_CLASS}")
    _note_classes(table.file, names)
    return cells


def _one_hot_classes(table: LabelTable, names: Sequence[str]) -> list[str]:
    classes: list[str] = []
    for row, cells in enumerate(zip(*(table.columns[name] for name in names), strict=True), table.first_row):
        ones = [name for name, cell in zip(names, cells, strict=True) if cell[0] == "1"]
        if not ones:
            raise UserError(f"{table.file} has no class in row {row}: give every image a class, or remove the row")
        if len(ones) > 1:
            raise UserError(f"{table.file} has the classes {ones[0]!r} and {ones[1]!r} in row {row}: {ONE_CLASS}")
        classes.append(ones[0])
    return classes


def _note_classes(file: Path, names: Iterable[str]) -> None:
    """Notes classes that are probably not meant as classes."""
    names = sorted(names)
    spaced = [name for name in names if name != name.strip()]
    if spaced:
        state = f"{len(spaced):,} classes have" if len(spaced) > 1 else "a class has"
        note_once(f"{file}: {state} spaces around the name, such as {spaced[0]!r}; they are kept")
    known = frozenset(names)
    for mark in ("|", ";", ",", "+", " "):
        parts = {name: [part.strip() for part in name.split(mark)] for name in names if mark in name}
        several = next((name for name, words in parts.items() if len(words) > 1 and known.issuperset(words)), None)
        if several is not None:
            note_once(
                f"{file}: {several!r} is read as one class, although its parts are classes too; --data.target "
                "multi-label reads each part"
            )
    decimals = [name for name in names if DECIMAL.fullmatch(name.strip())]
    if decimals and len(decimals) > 0.5 * len(names) and any(float(name) % 1 for name in decimals):
        note_once(
            f"{file}: each of {len(names):,} numbers, such as {decimals[0]}, is a class of its own; --data.target "
            "regression predicts the number"
        )


def split_rows(table: LabelTable, column: str | None, paths: Sequence[str], config: DataConfig) -> dict[str, list[int]]:
    """The rows of each split, as a column says; without one as the images' folders say, such as `train/` and `test/`.

    Raises:
        UserError: a value names no split, or no row is a training image.
    """
    if column is not None:
        cells, roles = table.columns[column], _roles(table, column, config)
    elif config.splits:
        raise UserError(
            f"--data.splits needs the column of {table.file} that has these values: add --data.split-column"
        )
    elif paths[0].partition("/")[0].lower() not in SPLITS:
        return {"train": list(range(len(paths)))}
    else:
        cells = [path.partition("/")[0] for path in paths]
        roles = {name: SPLITS.get(name.lower(), "") for name in set(cells)}
        if "" in roles.values() or len(set(roles.values())) < 2 or "train" not in roles.values():
            return {"train": list(range(len(paths)))}
        note_once(f"{table.file}: splits from the images' folders, {', '.join(sorted(roles))}")
    parts: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        parts.setdefault(roles[cell], []).append(row)
    if "train" not in parts:
        raise UserError(f"{table.file} has no training images in its column {column}: it has {', '.join(parts)}")
    return parts


def _roles(table: LabelTable, column: str, config: DataConfig) -> Mapping[str, str]:
    """The split that each value of a column means."""
    values = dict.fromkeys(table.columns[column])
    given = dict(entry.split("=", 1)[::-1] for entry in config.splits)
    named: Mapping[str, str] = given or SPLITS
    flag = FLAG_COLUMNS.get(column.lower())
    if flag is not None and not given:
        rest = "test" if flag == "train" else "train"
        named = dict.fromkeys(TRUE, flag) | dict.fromkeys(FALSE, rest)
    roles = {value: named.get(value) or named.get(value.lower().strip()) for value in values}
    unknown = next((value for value, role in roles.items() if role is None), None)
    if unknown is not None:
        usage = "train=NAME test=NAME"
        if len(roles) <= 10 and all(value.isalnum() for value in roles):  # folds, such as 0 to 4
            first, *rest = sorted(roles)
            usage = " ".join([*(f"train={value}" for value in rest), f"test={first}"])
        raise UserError(
            f"{table.file} has {unknown!r} in its column {column}, which names no split: assign the values with "
            f"--data.splits {usage}"
        )
    return {value: role for value, role in roles.items() if role is not None}


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
