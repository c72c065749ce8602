"""Arguments of the actions of `vitral data`: the data first, then flags."""

from dataclasses import dataclass
from typing import TypeVar

from vitral.commands.arguments.flags import parse_config
from vitral.data.config import DataConfig
from vitral.data.sources.exclude import exclude_images
from vitral.data.sources.source import Source
from vitral.datasets.infer import infer_source
from vitral.datasets.opening import open_stored
from vitral.errors import UserError

__all__ = ["DataOptions", "check_pictures", "check_workers", "open_every_split", "parse_options"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options that name the data."""

    data: DataConfig
    """The data, as in training."""


T = TypeVar("T", bound=DataOptions)


def parse_options(
    cls: type[T], arguments: list[str], *, program: str, positionals: tuple[str, ...]
) -> tuple[T, list[str]]:
    """The options, and the positional arguments before them.

    Args:
        cls: a frozen dataclass with defaults for all fields but `data`.
        arguments: as typed.
        program: such as `vitral data pack`.
        positionals: names of the positional arguments; the first is the data.

    Raises:
        UserError: an argument is missing or there are too many, the data does not exist, or a flag is wrong.
    """
    values = arguments[: next((n for n, word in enumerate(arguments) if word.startswith("-")), len(arguments))]
    flags = arguments[len(values) :]
    if {"-h", "--help"} & set(flags):
        default = cls(data=DataConfig(source="folder"))
    elif len(values) != len(positionals):
        raise UserError(f"{program} takes {' '.join(positionals)} and then flags: see {program} --help")
    else:
        default = cls(data=infer_source(values[0]))
    return parse_config(cls, default=default, arguments=flags, program=f"{program} {' '.join(positionals)}"), values


def check_pictures(config: DataConfig, *, program: str) -> None:
    """Checks that the data are pictures.

    Raises:
        UserError: their channels are given.
    """
    if config.channels is not None:
        raise UserError(f"{program} takes pictures, not images of {config.channels} channels (--data.channels)")


def check_workers(workers: int) -> None:
    """Checks the value of `--workers`.

    Raises:
        UserError: it is below 1.
    """
    if workers < 1:
        raise UserError(f"--workers must be at least 1, not {workers}")


def open_every_split(config: DataConfig) -> dict[str, Source]:
    """The data's splits as stored, with no images held out, and without those that `exclude` lists.

    Raises:
        UserError: as `open_data`.
    """
    splits = open_stored(config)
    return splits if config.exclude is None else exclude_images(splits, config.exclude, root=config.root)
