"""Opens the data that a configuration names, and splits it into training, validation and test images."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vitral.data.config import DataConfig, refuse_label_options
from vitral.data.images.limits import max_pixels
from vitral.data.images.memory import limit_memory
from vitral.data.notes import note_once
from vitral.data.sources.exclude import exclude_images
from vitral.data.sources.files import open_folder, open_idx, open_images
from vitral.data.sources.folds import assign_folds
from vitral.data.sources.groups import find_groups
from vitral.data.sources.label_files import open_label_file
from vitral.data.sources.labels import canonical_form
from vitral.data.sources.source import ConcatSource, Source, Subset
from vitral.data.sources.tables import open_tables
from vitral.data.sources.targets import label_counts, split_targets
from vitral.data.sources.tars import open_tars
from vitral.data.sources.tfrecords import open_tfrecords
from vitral.datasets.data_set import DataSet, Task
from vitral.datasets.registry import DATA_SETS, TASKS
from vitral.errors import UserError, did_you_mean

__all__ = ["STORAGE", "open_data", "open_stored"]

STORAGE = {
    "folder": open_folder,
    "images": open_images,
    "idx": open_idx,
    "csv": open_label_file,
    "hub": open_tables,
    "tars": open_tars,
    "tfrecord": open_tfrecords,
}
"""What opens each kind of storage."""


def open_data(config: DataConfig) -> dict[str, Source]:
    """Opens the data: "train", and "val" or "test" or both. Without a test split, "test" is held out of "train".

    Excluded images are removed after splitting, so that they never move another image from one split to another.

    Raises:
        UserError: the data is missing or malformed, or has fewer than two classes.
    """
    splits = open_stored(config)
    train = splits["train"]
    if len(train.classes) < 2 and config.source != "images" and config.target != "regression":
        only = ", ".join(train.classes)
        raise UserError(f"{config.root} has only one class, {only!r}: a classifier needs at least two")
    groups = find_groups(splits, config)
    if len(splits) == 1:
        splits, groups = _hold_out(train, "test", groups, fraction=config.test_fraction, config=config)
    if config.val_fraction is not None:
        if "val" in splits:
            raise UserError(f"{config.root} already has a validation split: give --data.val-fraction None")
        held_out, _ = _hold_out(splits["train"], "val", groups, fraction=config.val_fraction, config=config)
        splits |= held_out
    if config.val_fold is not None:
        splits |= _hold_out_fold(splits, groups, config)
    if config.train_on_val:
        splits = _merge_val(splits, config)
    if config.exclude is not None:
        splits = exclude_images(splits, config.exclude, root=config.root)
    if config.limit is not None and config.limit < len(splits["train"]):
        fraction = config.limit / len(splits["train"])
        limited, _ = _hold_out(splits["train"], "limited", None, fraction=fraction, config=config)
        splits |= {"train": limited["limited"]}
    return splits


def open_stored(config: DataConfig) -> dict[str, Source]:
    """The splits as they are stored, with at least "train"; nothing is held out. Notes classes with similar names.

    Raises:
        UserError: the source is unknown, or the data is missing or malformed.
    """
    splits = _open_stored(config)
    _note_similar(splits["train"].classes)
    return splits


def _open_stored(config: DataConfig) -> dict[str, Source]:
    # a wrong value is reported once, not for every image
    limit_memory(config.memory, name="--data.memory")
    max_pixels()
    if config.source not in ("csv", "folder", "hub"):  # these find label files
        refuse_label_options(config, columns=False)
    if config.source in STORAGE:
        return STORAGE[config.source](config)
    entry = DATA_SETS.get(config.source) or TASKS.get(config.source)
    if entry is None:
        hint = did_you_mean(config.source, [*STORAGE, *DATA_SETS, *TASKS])
        raise UserError(
            f"--data.source {config.source!r} is not known{hint}: choose one of {', '.join(STORAGE)}, "
            "or a name from `vitral data list`"
        )
    splits = _open_named(entry, config)
    return _rename_classes(entry, splits, config) if config.class_names else splits


def _note_similar(classes: tuple[str, ...]) -> None:
    """Notes classes that a person would take for one, as their names differ in case, spaces or Unicode form only."""
    by_form: dict[str, list[str]] = {}
    for name in classes:
        by_form.setdefault(canonical_form(name), []).append(name)
    for names in by_form.values():
        if len(names) > 1:
            spelled = {unicodedata.normalize("NFC", name) for name in names}
            listed = " and ".join(map(repr if len(spelled) == len(names) else ascii, names))  # unequal ones look alike
            note_once(f"the classes {listed} differ only in case, spaces or Unicode form: rename one to merge them")


def _open_named(entry: DataSet | Task, config: DataConfig) -> dict[str, Source]:
    """A data set from its authors' files in `root`, or from the Hub if there is no `root`."""
    data = entry.data if isinstance(entry, Task) else entry
    if config.class_names and not data.renamable:
        raise UserError(f"--data.source {config.source} names its classes itself: leave out --data.class-names")
    if isinstance(entry, Task):
        return entry.open(config.root)
    if not entry.files:
        if config.root is not None:
            raise UserError(
                f"--data.source {config.source} comes with its images: "
                "leave out --data.root, or choose --data.source folder or --data.source idx"
            )
        return entry.reader(None)
    if config.root is not None:
        if not config.root.is_dir():
            raise UserError(f"{config.root} is not a folder: {entry.requirements}")
        return entry.read(config.root)
    if entry.hub is None:
        raise UserError(f"{entry.title} needs --data.root, a folder with {entry.files}, from {entry.origin}")
    try:
        return open_tables(replace(config, source="hub", root=Path(entry.hub), **entry.tables))
    except UserError as error:
        raise UserError(f"{error}; or give --data.root, a folder with {entry.files}, from {entry.origin}") from error


def _rename_classes(entry: DataSet | Task, splits: dict[str, Source], config: DataConfig) -> dict[str, Source]:
    num_classes = entry.data.num_classes if isinstance(entry, Task) else entry.num_classes
    if len(config.class_names) != num_classes:
        raise UserError(
            f"--data.class-names needs {num_classes} names for {config.source}, not {len(config.class_names)}"
        )
    return {split: replace(source, classes=config.class_names) for split, source in splits.items()}  # pyright: ignore


def _hold_out(
    train: Source, name: str, groups: Int64[np.ndarray, " n"] | None, *, fraction: float, config: DataConfig
) -> tuple[dict[str, Source], Int64[np.ndarray, " rest"] | None]:
    """Splits the training images in two: "train", and a fraction of every class as `name`, in whole groups if given.

    Returns:
        The splits, and the groups of the remaining training images.
    """
    rest, held_out = split_targets(train, groups, fraction=fraction, seed=config.split_seed)
    if groups is not None:
        _note_groups(train, name, groups, held_out, origin=str(config.root or config.source))
    splits: dict[str, Source] = {
        "train": Subset(source=train, indices=rest),
        name: Subset(source=train, indices=held_out),
    }
    return splits, None if groups is None else groups[rest]


def _hold_out_fold(
    splits: dict[str, Source], groups: Int64[np.ndarray, " n"] | None, config: DataConfig
) -> dict[str, Source]:
    """Splits the training images in two: "train", and a fold as "val", in place of the data's own validation images."""
    train, origin = splits["train"], str(config.root or config.source)
    if "val" in splits:
        note_once(f"{origin}: its own validation images are left out, as the folds are of the training images")
    fold, folds = config.fold
    held_out = assign_folds(train, groups, folds=folds, seed=config.split_seed) == fold
    if groups is not None:
        _note_groups(train, "val", groups, np.flatnonzero(held_out), origin=origin)
    return {
        "train": Subset(source=train, indices=np.flatnonzero(~held_out)),
        "val": Subset(source=train, indices=np.flatnonzero(held_out)),
    }


def _note_groups(
    train: Source, name: str, groups: Int64[np.ndarray, " n"], held_out: Int64[np.ndarray, " held_out"], *, origin: str
) -> None:
    """Notes how much is held out, as groups seldom allow the exact fraction, and the classes of which nothing is."""
    chosen, total = len(np.unique(groups[held_out])), len(np.unique(groups))
    note_once(
        f"{origin}: held out {chosen:,} of {total:,} groups as {name}: {len(held_out):,} of {len(train):,} images, "
        f"{len(held_out) / len(train):.1%}"
    )
    counts, without = label_counts(train), label_counts(Subset(source=train, indices=held_out))
    lacking = np.flatnonzero((counts > 0) & (without == 0))
    if len(lacking):
        listed = ", ".join(repr(train.classes[label]) for label in lacking[:3]) + ("" if len(lacking) <= 3 else " ...")
        note_once(f"{origin}: {name} has no images of some classes, as groups cannot be divided: {listed}")


def _merge_val(splits: dict[str, Source], config: DataConfig) -> dict[str, Source]:
    """Adds the validation images to the training images."""
    if splits.keys() != {"train", "val", "test"}:
        raise UserError(
            f"{config.root or config.source} has no {'test' if 'val' in splits else 'validation'} split of its own, "
            "which --data.train-on-val needs: leave it out"
        )
    return {"train": ConcatSource(first=splits["train"], second=splits["val"]), "test": splits["test"]}
