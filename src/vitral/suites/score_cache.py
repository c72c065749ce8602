"""Scores cached on disk, so that an interrupted suite continues with the task it was at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitral.config import read_json
from vitral.errors import UserError
from vitral.evals.cache import describe_unusable, hash_key, warn_on_write_error
from vitral.files import write_json
from vitral.suites.transfer import Score

__all__ = ["ScoreCache"]


class ScoreCache:
    """A folder of scores, each file under a key of everything they depend on: model, images, settings, version.

    Args:
        folder: created when the first scores are written. None: nothing is cached.
        warn: called with a message about a file that cannot be read or written.
    """

    def __init__(self, folder: Path | None, *, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.warn = warn
        self.hits = 0
        """How often scores were read instead of computed."""

    def get_or_compute(self, key: tuple[str, ...], compute: Callable[[], list[Score]]) -> list[Score]:
        """The scores under a key; if there are none, computes and writes them. A failure to write is only a warning."""
        if self.folder is None:
            return compute()
        name = hash_key(key)
        path = self.folder / f"{name[:24]}.json"
        cached = self._read(path, name) if path.exists() else None
        if cached is not None:
            self.hits += 1
            return cached
        scores = compute()
        with warn_on_write_error(path, self.warn):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {"key": name, "scores": [vars(score) for score in scores]})
        return scores

    def _read(self, path: Path, name: str) -> list[Score] | None:
        """The scores in a file; None if it is damaged."""
        try:
            content = read_json(path)
            if content["key"] != name:
                raise UserError("it holds the scores of another model, other images or other settings")
            return [_parse_score(**{"grid": {}, **row}) for row in content["scores"]]
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            self.warn(f"{describe_unusable(path, error)}: its scores are computed again")
            return None


def _parse_score(
    *, method: str, values: list[Any], num_images: int, seconds: float, grid: dict[str, dict[str, Any]]
) -> Score:
    """A score from a file.

    Raises:
        TypeError: a number is missing or is not a number.
    """
    compared = [accuracy for row in grid.values() for accuracy in row.values()]
    if not values or not all(isinstance(value, int | float) for value in (*values, num_images, seconds, *compared)):
        raise TypeError(f"its scores of {method} are damaged")
    return Score(method=method, values=list(map(float, values)), num_images=num_images, seconds=seconds, grid=grid)
