"""Scores kept on disk, so that a suite that was stopped goes on with the task it was at."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitral.errors import UserError
from vitral.evals.cache import name_of, unusable, warn_on_failure
from vitral.files import write_json
from vitral.suites.transfer import Score

__all__ = ["Kept"]


class Kept:
    """Scores in a folder, each file under a key of all that they depend on: model, images, settings, this version.

    Args:
        folder: where they are; made when the first are kept. None: nothing is kept or found.
        say: is told of a file that cannot be used.
    """

    def __init__(self, folder: Path | None, *, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self.taken = 0
        """How often something was found."""

    def of(self, key: tuple[str, ...], measure: Callable[[], list[Score]]) -> list[Score]:
        """The scores under a key, measured where there are none, and kept; where that fails, it is said."""
        if self.folder is None:
            return measure()
        name = name_of(key)
        path = self.folder / f"{name[:24]}.json"
        found = self._read(path, name) if path.exists() else None
        if found is not None:
            self.taken += 1
            return found
        scores = measure()
        with warn_on_failure(path, self.say):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {"key": name, "scores": [vars(score) for score in scores]})
        return scores

    def _read(self, path: Path, name: str) -> list[Score] | None:
        """What a file holds; None where that cannot be used."""
        try:
            kept = json.loads(path.read_text())
            if kept["key"] != name:
                raise UserError("it holds scores of another model, of other images or of other settings")
            return [_score(**row) for row in kept["scores"]]
        except (OSError, KeyError, TypeError, ValueError) as error:
            self.say(f"{unusable(path, error)}: its scores are measured again")
            return None


def _score(*, method: str, values: list[Any], num_images: int, seconds: float) -> Score:
    """A score as a file has it.

    Raises:
        TypeError: a figure is missing, or is none.
    """
    if not values or not all(isinstance(value, int | float) for value in (*values, num_images, seconds)):
        raise TypeError(f"its figures of {method} are damaged")
    return Score(method=method, values=list(map(float, values)), num_images=num_images, seconds=seconds)
