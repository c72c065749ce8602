"""The description that TensorFlow Datasets writes beside its TFRecord files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitral.config import parse_json
from vitral.data.sources.remote import as_url, read_if_there
from vitral.data.sources.spool import is_pipe
from vitral.errors import UserError

__all__ = ["INFO", "Description", "describe"]

INFO = "dataset_info.json"
"""The file that every prepared data set has."""

TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
"""Names of the files, if the description does not say otherwise."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """Files, features and classes of a data set."""

    folder: str
    """Path or URL."""
    shards: dict[str, list[str]]
    """Names of the files of each split."""
    lengths: dict[str, int]
    """Number of records in each file."""
    image: str | None
    """The only feature that is an image; None: there is none, or several."""
    label: str | None
    """The only feature that is a class; None: there is none, or several."""

    def classes(self, label: str | None) -> tuple[str, ...]:
        """Names of the classes of a feature, empty if they are not known."""
        text = None if label is None else _read(self.folder, f"{label.replace('/', '.')}.labels.txt")
        return () if text is None else tuple(line.strip() for line in text.decode().splitlines() if line.strip())


def describe(root: Path) -> Description | None:
    """The description in a folder, or in the only folder inside it that has one; None if there is none.

    Raises:
        UserError: it is damaged, there are several, or the files are of another format.
    """
    folder = _folder(root)
    content = None if folder is None else _read(folder, INFO)
    if folder is None or content is None:
        return None
    try:
        info = parse_json(content, origin=INFO)
        format_name = info.get("fileFormat", "tfrecord")
        stored = [split for split in info["splits"] if split.get("shardLengths")]
        splits = {split["name"]: [int(length) for length in split["shardLengths"]] for split in stored}
        templates = {split["name"]: split.get("filepathTemplate") or TEMPLATE for split in stored}
        features = _features(folder)
        name = info["name"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{folder}/{INFO} is damaged, or not of TensorFlow Datasets: download it again") from None
    if format_name != "tfrecord":
        raise UserError(
            f"{folder} is stored as {format_name}, which Vitral does not read: prepare it again with "
            "file_format='tfrecord', or as Parquet for --data.source hub"
        )
    shards = {
        split: [_name(templates[split], name, split, number, len(lengths)) for number in range(len(lengths))]
        for split, lengths in splits.items()
    }
    lengths = {
        file: length for split, files in shards.items() for file, length in zip(files, splits[split], strict=True)
    }
    image, label = _only(features, "Image"), _only(features, "ClassLabel")
    return Description(folder=folder, shards=shards, lengths=lengths, image=image, label=label)


def _folder(root: Path) -> str | None:
    """The folder of the description, as the data set's own folder has one for each configuration and version."""
    if is_pipe(str(root)):
        return None
    if url := as_url(root):
        return url
    if not root.is_dir() or (root / INFO).is_file():
        return str(root)
    found = sorted({*root.glob(f"*/{INFO}"), *root.glob(f"*/*/{INFO}")})
    if len(found) > 1:
        raise UserError(f"{root} has {len(found)} data sets: choose one, such as --data.root {found[-1].parent}")
    return str(found[0].parent) if found else str(root)


def _read(folder: str, name: str) -> bytes | None:
    if as_url(Path(folder)):
        return None if "{" in folder or "*" in folder else read_if_there(f"{folder}/{name}")
    file = Path(folder) / name
    return file.read_bytes() if file.is_file() else None


def _features(folder: str) -> dict[str, str]:
    """The class of each feature, such as Image or ClassLabel, from either form of features.json."""
    content = _read(folder, "features.json")
    tree: Any = {} if content is None else parse_json(content, origin="features.json")
    features = tree["featuresDict"]["features"] if "featuresDict" in tree else tree.get("content", {})
    return {
        name: str(feature.get("pythonClassName") or feature.get("type")).rpartition(".")[2]
        for name, feature in features.items()
    }


def _only(features: dict[str, str], kind: str) -> str | None:
    names = [name for name, found in features.items() if found == kind]
    return names[0] if len(names) == 1 else None


def _name(template: str, data_set: str, split: str, number: int, count: int) -> str:
    """The name of a file."""
    values = {
        "DATASET": data_set,
        "SPLIT": split,
        "FILEFORMAT": "tfrecord",
        "SHARD_INDEX": f"{number:05d}",
        "NUM_SHARDS": f"{count:05d}",
        "SHARD_X_OF_Y": f"{number:05d}-of-{count:05d}",
    }
    return template.format(**values).rpartition("/")[2]
