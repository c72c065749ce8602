"""What the actions of `vitral data` take alike: the data first, then flags."""

from dataclasses import dataclass
from typing import TypeVar

from vitral.commands.output import parsed_by_tyro
from vitral.data.config import DataConfig
from vitral.data.sources.exclude import without
from vitral.data.sources.source import Source
from vitral.datasets.guess import guessed
from vitral.datasets.opening import open_stored
from vitral.errors import UserError

__all__ = ["DataOptions", "every_split", "parsed"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options that name the data."""

    data: DataConfig
    """The data, as in training."""


T = TypeVar("T", bound=DataOptions)


def parsed(kind: type[T], words: list[str], *, program: str, places: tuple[str, ...]) -> tuple[T, list[str]]:
    """The options, and the words before them.

    Args:
        kind: a frozen dataclass whose fields but `data` have defaults.
        words: the arguments.
        program: such as `vitral data pack`.
        places: what the words before the flags are; the first is the data.

    Raises:
        UserError: words are missing or too many, the data is nothing, or a flag is wrong.
    """
    given = words[: next((at for at, word in enumerate(words) if word.startswith("-")), len(words))]
    asked = words[len(given) :]
    if {"-h", "--help"} & set(asked):
        default = kind(data=DataConfig(source="folder"))
    elif len(given) != len(places):
        raise UserError(f"{program} takes {' '.join(places)} and then flags: {program} --help tells more")
    else:
        default = kind(data=guessed(given[0]))
    return parsed_by_tyro(kind, default=default, arguments=asked, program=f"{program} {' '.join(places)}"), given


def every_split(config: DataConfig) -> dict[str, Source]:
    """The data's own splits, nothing held out, without the images that `exclude` lists.

    Raises:
        UserError: as `open_data`.
    """
    splits = open_stored(config)
    return splits if config.exclude is None else without(splits, config.exclude, root=config.root)
