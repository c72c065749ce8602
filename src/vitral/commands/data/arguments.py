"""Arguments of the actions of `vitral data`: the data first, then flags."""

from dataclasses import dataclass
from typing import TypeVar

from vitral.commands.output import parsed_by_tyro
from vitral.data.config import DataConfig
from vitral.data.sources.exclude import exclude_images
from vitral.data.sources.source import Source
from vitral.datasets.infer import infer_source
from vitral.datasets.opening import open_stored
from vitral.errors import UserError

__all__ = ["DataOptions", "every_split", "parse"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options for the data."""

    data: DataConfig
    """The data, with the same keys as in training."""


T = TypeVar("T", bound=DataOptions)


def parse(kind: type[T], words: list[str], *, program: str, places: tuple[str, ...]) -> tuple[T, list[str]]:
    """Parses the options, and the words before them.

    Args:
        kind: a frozen dataclass; all fields but `data` have defaults.
        words: the arguments.
        program: such as `vitral data pack`.
        places: names of the words before the flags; the first is the data.

    Raises:
        UserError: words are missing or too many, the data does not exist, or a flag is wrong.
    """
    positional = words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]
    flags = words[len(positional) :]
    if {"-h", "--help"} & set(flags):
        default = kind(data=DataConfig(source="folder"))
    elif len(positional) != len(places):
        raise UserError(f"{program} takes {' '.join(places)} and then flags: see {program} --help")
    else:
        default = kind(data=infer_source(positional[0]))
    return parsed_by_tyro(kind, default=default, arguments=flags, program=f"{program} {' '.join(places)}"), positional


def every_split(config: DataConfig) -> dict[str, Source]:
    """The splits as stored, without the excluded images; nothing is held out.

    Raises:
        UserError: see `open_stored` and `exclude_images`.
    """
    splits = open_stored(config)
    return splits if config.exclude is None else exclude_images(splits, config.exclude, root=config.root)
