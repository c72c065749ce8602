"""CIFAR-10 and CIFAR-100 in their binary versions."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vitral.data.sources.source import ArraySource, Source
from vitral.datasets.originals.files import content, holding, lines
from vitral.errors import UserError

__all__ = ["open_cifar10", "open_cifar100"]


def open_cifar10(root: Path) -> dict[str, Source]:
    """CIFAR-10's binary version: each record a label and 3x32x32 bytes.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = holding(root, "data_batch_1.bin", "cifar-10-batches-bin", hint=PICKLED)
    classes = lines(folder / "batches.meta.txt")
    names = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
    return {split: _records(folder, files, classes, label=0, header=1) for split, files in names.items()}


def open_cifar100(root: Path) -> dict[str, Source]:
    """CIFAR-100's binary version: each record a coarse label, a fine one, which counts, and 3x32x32 bytes.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = holding(root, "train.bin", "cifar-100-binary", hint=PICKLED)
    classes = lines(folder / "fine_label_names.txt")
    return {split: _records(folder, [f"{split}.bin"], classes, label=1, header=2) for split in ("train", "test")}


PICKLED = " (of the versions to choose from, the binary one: the others are pickles or for Matlab)"
"""What goes wrong most often with CIFAR."""


def _records(folder: Path, names: list[str], classes: tuple[str, ...], *, label: int, header: int) -> ArraySource:
    parts: list[UInt8[np.ndarray, "n bytes"]] = []
    for name in names:
        read = np.frombuffer(content(folder / name), np.uint8)
        if len(read) == 0 or len(read) % (header + 3072):
            raise UserError(f"{folder / name} is cut short or no file of CIFAR: fetch it again")
        parts.append(read.reshape(-1, header + 3072))
    records = np.concatenate(parts)
    labels = records[:, label].astype(np.int64)
    if labels.max() >= len(classes):
        raise UserError(f"{folder} has the label {labels.max()}, but names only {len(classes)} classes: fetch it again")
    planes = records[:, header:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return ArraySource(title=f"{folder}/{names[0]}", images=images, labels=labels, classes=classes)
