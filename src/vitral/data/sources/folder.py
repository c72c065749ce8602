"""Image folders: one folder per class, directly inside the root or inside `train/`, `val/` and `test/`."""

import os
from collections import Counter
from collections.abc import Iterable, Set
from pathlib import Path

from vitral.data.images.bands import BAND_SUFFIXES
from vitral.data.images.formats import IMAGE_SUFFIXES, INSTALLABLE_SUFFIXES, format_names
from vitral.data.notes import note_once
from vitral.data.sources.labels import similar_class
from vitral.errors import UserError

__all__ = ["SPLITS", "ClassFiles", "class_folders", "left_out", "list_folder", "list_images"]

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names (in any case) that mean a split, not a class."""

ClassFiles = dict[str, list[str]]
"""The image files of each class, as paths relative to the root, sorted."""


def list_folder(root: Path, *, suffixes: Set[str] = IMAGE_SUFFIXES) -> dict[str, ClassFiles]:
    """Lists the images of a folder by split and class; without split folders, all are "train".

    Classes and files are sorted, so the order on disk does not matter. Class folders are searched recursively, through
    symbolic links too. Hidden files are ignored; files without one of the suffixes are left out, and counted in a note.

    Raises:
        UserError: there are no images, they are not in class folders, a folder beside "train" is no known split, or a
            split has classes that "train" lacks.
    """
    folders, images, _ = _entries(root, suffixes)
    if not folders:
        if images:
            raise UserError(
                f"{root} has images but no class folders: put them into one folder per class, "
                f"such as {root / 'cat' / images[0]}"
            )
        raise UserError(f"{root} has no class folders: give a folder with one folder of images per class")
    split_folders = _split_folders(root, folders, suffixes) or {"train": "."}
    others: Counter[str] = Counter()
    splits = {split: _class_files(root / name, root, others, suffixes) for split, name in split_folders.items()}
    if others:
        note_once(f"{root}: {left_out(others, suffixes=suffixes)}")
    if images:
        note_once(f"{root}: left out {len(images):,} images beside the folders, such as {images[0]}, without a class")
    for split, name in split_folders.items():
        unknown = [label for label in splits[split] if label not in splits["train"]]
        if unknown:
            similar = similar_class(unknown[0], splits["train"])
            raise UserError(
                f"{root / name} has classes that {root / split_folders['train']} lacks, "
                f"{', '.join(map(repr, unknown))}: rename these folders or remove them"
                + (f"; {similar!r} differs from {unknown[0]!r} only in case, spaces or Unicode form" if similar else "")
            )
    for label, files in splits["train"].items():
        if not files:
            folder = root / split_folders["train"] / label
            unread = Counter[str]()
            _files(folder, root, set(), unread, suffixes)
            state = f", only files of formats that are not read ({_listed(unread)})" if unread else ""
            advice = "convert them" if unread else "add some"
            raise UserError(f"{folder} has no training images{state}: {advice}, or remove the folder")
    return splits


def class_folders(root: Path) -> list[str]:
    """Names of the folders directly inside `root` that have images directly inside, and are no splits."""
    folders = _entries(root, IMAGE_SUFFIXES)[0]
    return [name for name in folders if name.lower() not in SPLITS and _entries(root / name, IMAGE_SUFFIXES)[1]]


def list_images(root: Path, *, suffixes: Set[str] = IMAGE_SUFFIXES) -> list[str]:
    """All images under a folder, as sorted relative paths; the same files are ignored as in `list_folder`.

    Raises:
        UserError: a folder cannot be listed.
    """
    real, others = Path(os.path.realpath(root)), Counter[str]()
    files = sorted(_files(root, root, {str(parent) for parent in real.parents}, others, suffixes))
    if others:
        note_once(f"{root}: {left_out(others, suffixes=suffixes)}")
    return files


def left_out(endings: Counter[str], *, suffixes: Set[str] = IMAGE_SUFFIXES) -> str:
    """A sentence on files that are not read.

    Args:
        endings: their number by ending.
        suffixes: of the files that are read.
    """
    plural = "" if endings.total() == 1 else "s"
    formats = "NumPy and TIFF" if suffixes == BAND_SUFFIXES else format_names()
    fix = "; pip install 'vitral[images]' reads HEIC and JPEG XL" if INSTALLABLE_SUFFIXES.intersection(endings) else ""
    fix += "; --data.channels reads .npy" if ".npy" in endings and ".npy" not in suffixes else ""
    return f"left out {endings.total():,} file{plural} of other formats than {formats}: {_listed(endings)}{fix}"


def _listed(endings: Counter[str]) -> str:
    common = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(endings) - 6} more endings" if len(endings) > 6 else ""
    return ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in common[:6]) + more


def _split_folders(root: Path, folders: list[str], suffixes: Set[str]) -> dict[str, str] | None:
    """The folder of each split, or None if the folders are classes.

    A class may be called "train": then it is beside other classes, and its images are directly inside it.
    """
    trains = [name for name in folders if SPLITS.get(name.lower()) == "train"]
    classes = {label for name in trains for label in _entries(root / name, suffixes)[0]}
    known = [name for name in folders if name.lower() in SPLITS]
    named = [name for name in known if not _is_unlabelled_test(root / name, classes, suffixes)]
    nested = any(_entries(root / name, suffixes)[0] for name in trains)
    if not known or (len(known) < len(folders) and not nested):
        return None
    if not trains:
        raise UserError(f"{root} has {', '.join(known)} but no train folder: add it, or give another folder")
    _check_others(root, [name for name in folders if name not in named], suffixes, train=trains[0])
    split_folders: dict[str, str] = {}
    for name in sorted(named, key=lambda name: list(SPLITS).index(name.lower())):
        other = split_folders.setdefault(SPLITS[name.lower()], name)
        if other != name:
            raise UserError(f"{root} has both {other} and {name}, which mean the same split: remove one of them")
    return split_folders


def _is_unlabelled_test(folder: Path, classes: Iterable[str], suffixes: Set[str]) -> bool:
    """Whether a test folder has images without classes, as competitions publish it, or in one folder of no class."""
    folders, images, _ = _entries(folder, suffixes)
    if SPLITS[folder.name.lower()] != "test":
        return False
    if len(folders) == 1 and not images:  # as torchvision's ImageFolder needs it
        return folders[0].lower() in ("test", "unknown", "images") and folders[0] not in classes
    return bool(images) and not folders


def _check_others(root: Path, names: Iterable[str], suffixes: Set[str], *, train: str) -> None:
    """Notes folders of unlabelled images beside the splits.

    Raises:
        UserError: a folder has folders with images, so it may be a split under another name, or a class.
    """
    for name in names:
        folders, images, _ = _entries(root / name, suffixes)
        if name.lower() in SPLITS or (images and not folders):  # a split only if it has no classes
            note_once(
                f"{root / name} has images without classes and is left out: classify them with vitral predict RUN "
                f"{root / name}"
            )
        elif images or any(_entries(root / name / folder, suffixes)[1] for folder in folders):
            raise UserError(
                f"{root / name} is beside {train}, but {name} is not the name of a split: rename it to val or test, or "
                "move it elsewhere"
            )


def _class_files(folder: Path, root: Path, others: Counter[str], suffixes: Set[str]) -> ClassFiles:
    """The image files of each class folder in `folder`; counts the other files by ending."""
    names, images, _ = _entries(folder, suffixes)
    if not names:
        state = "has images but no class folders" if images else "has no class folders"
        tables = sorted(file.name for place in (folder, root) for file in place.glob("*.[ct]sv")) if images else []
        table = f", or its classes from {tables[0]} with --data.source csv" if tables else ""
        raise UserError(f"{folder} {state}: it needs one folder of images per class{table}")
    real = Path(os.path.realpath(folder))
    above = {str(real), *map(str, real.parents)}
    files = {name: sorted(_files(folder / name, root, set(above), others, suffixes)) for name in names}
    if not any(files.values()):
        why = f" ({left_out(others, suffixes=suffixes)})" if others else ""
        raise UserError(f"{folder} has no images in its class folders{why}: add some, or give another folder")
    return files


def _files(folder: Path, root: Path, seen: set[str], others: Counter[str], suffixes: Set[str]) -> list[str]:
    """Image files below `folder`; counts the other files by ending.

    Links to a folder in `seen` (visited, or above the class) are not followed.
    """
    real = os.path.realpath(folder)
    if real in seen:
        return []
    seen.add(real)
    names, images, rest = _entries(folder, suffixes)
    others.update(Path(name).suffix.lower() for name in rest)
    files = [str((folder / image).relative_to(root)) for image in images]
    for name in names:
        files += _files(folder / name, root, seen, others, suffixes)
    return files


def _entries(folder: Path, suffixes: Set[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of the folders, image files and other files directly inside, without hidden ones, each sorted."""
    folders, images, others = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                # os.path.isdir returns False for a broken link, and does not raise
                if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():  # noqa: PTH112
                    folders.append(entry.name)
                elif Path(entry.name).suffix.lower() in suffixes:
                    images.append(entry.name)
                else:
                    others.append(entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}") from None
    return sorted(folders), sorted(images), sorted(others)
