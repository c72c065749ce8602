"""Finds shards by folder, pattern or URL, and which split each belongs to."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from vitral.data.config import ROLES, DataConfig
from vitral.data.sources.folder import SPLITS
from vitral.data.sources.remote import RemoteFile, as_typed, as_url, list_urls
from vitral.data.sources.spool import is_pipe, located
from vitral.errors import UserError

__all__ = ["ShardFile", "find_shards", "named_files"]

ShardFile = Path | RemoteFile

T = TypeVar("T")


def find_shards(
    config: DataConfig, *, is_shard: Callable[[str], bool], example: str
) -> dict[str, tuple[ShardFile, ...]]:
    """Files of each split, in order: of a folder, or those that a pattern or URL names.

    Args:
        config: names them in `root` and `splits`.
        is_shard: whether a file of a folder is a shard, by its name.
        example: the usual ending of their names, for errors.

    Raises:
        UserError: there are none, one does not exist, or its split is unclear.
    """
    assert config.root is not None
    root, url = config.root, as_url(config.root)
    if config.splits:
        given = dict(entry.split("=", 1) for entry in config.splits)
        return {split: _expand(_inside(root, given[split])) for split in ROLES if split in given}
    if is_pipe(str(root)) or (url is not None and "." in root.name):
        return {"train": _expand(root)}
    if url is not None:
        names = [name.removeprefix(f"{url}/") for name in list_urls(url) if is_shard(name)]
        return {
            split: tuple(located([f"{url}/{name}" for name in files]))
            for split, files in _by_split(names, root, example).items()
        }
    if not root.is_dir():
        return {"train": _expand(root)}
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if is_shard(path.name))
    splits = _by_split(names, root, example)
    return {split: tuple(root / name for name in files) for split, files in splits.items()}


def _by_split(names: Sequence[str], root: Path, example: str) -> dict[str, list[str]]:
    """The shards of a folder by split, from the words of their names; "train" if no name has such a word."""
    if not names:
        raise UserError(f"{as_typed(root)} has no {example} files: unpack compressed ones, or give another --data.root")
    by_split: dict[str | None, list[str]] = {}
    for name in names:
        words = re.split(r"[^a-z]+", name.lower())
        by_split.setdefault(next((SPLITS[word] for word in words if word in SPLITS), None), []).append(name)
    if list(by_split) == [None]:
        return {"train": list(names)}
    if None in by_split or "train" not in by_split:
        unclear = Path(by_split.get(None, names)[0]).name
        raise UserError(
            f"{as_typed(root)}: the split of {unclear} is unclear, so give it, such as "
            f"--data.splits train=train-{{000..146}}{example} test=val-*{example}"
        )
    return {split: by_split[split] for split in ROLES if split in by_split}


def named_files(folder: str, names: Sequence[str]) -> tuple[ShardFile, ...]:
    """Files of a folder or a URL.

    Raises:
        UserError: one does not exist or cannot be read.
    """
    if as_url(Path(folder)):
        return tuple(located([f"{folder}/{name}" for name in names]))
    return tuple(_existing([Path(folder) / name for name in names]))


def _inside(root: Path, given: str) -> Path:
    """A pattern of `--data.splits`: inside the root, unless it is a URL or a command itself."""
    return Path(given) if as_url(Path(given)) or is_pipe(given) else root / given


def _existing(files: list[Path]) -> list[Path]:
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(f"{missing[0]} does not exist: download it, or change --data.root or --data.splits")
    return files


def _expand(pattern: Path) -> tuple[ShardFile, ...]:
    """The files that match a pattern with `{000..146}`, `{a,b}`, `*` or `?`; all files of a range must exist."""
    names = list(_braces(as_typed(pattern)))
    if is_pipe(names[0]):
        return tuple(located(names))
    if as_url(pattern):
        names = [url for name in names for url in (list_urls(name) if "*" in name else [name])]
        return tuple(located(_some(names, pattern)))
    files = _existing([Path(name) for name in names if not re.search(r"[*?]", name)])
    for name in names:
        if re.search(r"[*?]", name):
            files += sorted(Path(name).parent.glob(Path(name).name))
    return tuple(_some(files, pattern))


def _some(files: list[T], pattern: Path) -> list[T]:
    if not files:
        raise UserError(f"{as_typed(pattern)} matches no file: change --data.root or --data.splits")
    return files


def _braces(pattern: str) -> Iterator[str]:
    """Expands `{000..146}` and `{a,b}` as a shell does."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    first, last, words = match.groups()
    choices = words.split(",") if words else (f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1))
    for choice in choices:
        yield from _braces(pattern[: match.start()] + choice + pattern[match.end() :])
