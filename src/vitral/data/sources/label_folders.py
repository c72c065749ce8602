"""Folders of labels: an image that is in several folders has several labels."""

import filecmp
from pathlib import Path

from vitral.data.notes import note_once
from vitral.data.sources.folder import ClassFiles
from vitral.data.sources.label_targets import multi_hot
from vitral.data.sources.source import FileSource
from vitral.errors import UserError

__all__ = ["folder_labels"]


def folder_labels(root: Path, splits: dict[str, ClassFiles]) -> dict[str, FileSource]:
    """The images of each split with the folders that have them as their labels.

    Two files are one image if their path below the folder of the label is the same, and their content is too.

    Args:
        root: the folder of the data.
        splits: the files by split and label, as `list_folder` gives them.

    Raises:
        UserError: there is only one label.
    """
    labels = tuple(splits["train"])
    if len(labels) < 2:
        raise UserError(f"{root} has only the label {''.join(labels)!r}: --data.target multi-label needs at least two")
    numbers = {name: number for number, name in enumerate(labels)}
    sources: dict[str, FileSource] = {}
    for split, by_label in splits.items():
        images = _merge(root, by_label)
        several = sum(len(names) > 1 for names in images.values())
        note_once(
            f"{root}: {several:,} of {len(images):,} {split} images are in several folders, and have each as a label"
        )
        sources[split] = FileSource(
            root=root, files=list(images), labels=multi_hot(list(images.values()), numbers), classes=labels
        )
    return sources


def _merge(root: Path, by_label: ClassFiles) -> dict[str, list[str]]:
    """The labels of each image, by the path of its first file."""
    depth = 0 if all(file.startswith(f"{label}/") for label, files in by_label.items() for file in files) else 1
    with_name: dict[str, list[str]] = {}
    images: dict[str, list[str]] = {}
    for label, files in by_label.items():
        for file in files:
            below = "/".join(file.split("/")[depth + 1 :])
            copies = with_name.setdefault(below, [])
            first = next((copy for copy in copies if _is_same(root / copy, root / file)), None)
            if first is None:
                copies.append(file)
                images[file] = [label]
            elif label not in images[first]:
                images[first].append(label)
    return images


def _is_same(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False  # an unreadable file is reported when it is read
