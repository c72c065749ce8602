"""CIFAR-10 and CIFAR-100 in their binary versions."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vitral.data.sources.source import ArraySource, Source
from vitral.datasets.originals.files import find_folder, read_file, read_lines
from vitral.errors import UserError

__all__ = ["open_cifar10", "open_cifar100"]


def open_cifar10(root: Path) -> dict[str, Source]:
    """CIFAR-10's binary version: each record is a label and 3x32x32 bytes.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "data_batch_1.bin", "cifar-10-batches-bin", hint=HINT)
    classes = read_lines(folder / "batches.meta.txt")
    names = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
    return {split: _records(folder, files, classes, label=0, header=1) for split, files in names.items()}


def open_cifar100(root: Path) -> dict[str, Source]:
    """CIFAR-100's binary version: each record is a coarse label, the fine label that is used, and 3x32x32 bytes.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "train.bin", "cifar-100-binary", hint=HINT)
    classes = read_lines(folder / "fine_label_names.txt")
    return {split: _records(folder, [f"{split}.bin"], classes, label=1, header=2) for split in ("train", "test")}


HINT = " (the binary version; the others are pickles or for Matlab)"
"""Of CIFAR's versions, people most often unpack another."""


def _records(folder: Path, names: list[str], classes: tuple[str, ...], *, label: int, header: int) -> ArraySource:
    parts: list[UInt8[np.ndarray, "n bytes"]] = []
    for name in names:
        content = np.frombuffer(read_file(folder / name), np.uint8)
        if len(content) == 0 or len(content) % (header + 3072):
            raise UserError(f"{folder / name} is truncated or not a file of CIFAR: download it again")
        parts.append(content.reshape(-1, header + 3072))
    records = np.concatenate(parts)
    labels = records[:, label].astype(np.int64)
    if labels.max() >= len(classes):
        raise UserError(
            f"{folder} has the label {labels.max()}, but names only {len(classes)} classes: download it again"
        )
    planes = records[:, header:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return ArraySource(title=f"{folder}/{names[0]}", images=images, labels=labels, classes=classes)
