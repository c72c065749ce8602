"""What a sweep tries, how often, and by which figure it chooses."""

import itertools
from dataclasses import asdict, dataclass, field
from typing import Any

from vitral.errors import UserError

__all__ = ["Range", "SweepConfig"]

Range = tuple[int, int, bool] | tuple[float, float, bool]
"""Lowest and highest value, and whether the logarithm is drawn."""

TRIALS = 20
"""Trials of a search, where their number is not told."""

OWN = {"seed": "--seeds", "out": "--out"}
"""What the sweep gives each run itself, and the option that says how."""

CHANGEABLE = ("trials", "retrain")
"""What may be another when a sweep is gone on with: no trial depends on it."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """What a sweep tries; the same words go on with it.

    Raises:
        UserError: there is nothing to try, or too many words for it.
    """

    recipe: list[str]
    """The recipe's name and what all runs share, as typed."""
    grid: dict[str, list[str]] = field(default_factory=dict)
    """Values of each key; all combinations are tried."""
    search: dict[str, Range] = field(default_factory=dict)
    """Range of each key, in whole numbers where it was written in such."""
    trials: int | None = None
    """Combinations that a search tries, 20 when None; a grid tries all."""
    seeds: list[int]
    """Runs of each combination."""
    metric: str
    """What is compared, the mean over seeds; higher is better, unless its name ends in loss."""
    retrain: list[int] = field(default_factory=list)
    """Seeds of the final runs, of the best combination on all training images; empty for no such runs."""

    def __post_init__(self) -> None:
        if bool(self.grid) == bool(self.search):
            raise UserError("a sweep tries --grid KEY=V1,V2 or --search KEY=LOW:HIGH: give one or more of either kind")
        if self.grid and self.trials is not None:
            raise UserError("a grid tries all its combinations: leave out --trials")
        if self.total < 1 or not self.seeds:
            raise UserError("a sweep needs a trial and a seed at least")
        for key, option in OWN.items():
            shared = any(word.split("=")[0] == f"--{key}" for word in self.recipe)
            if shared or key in self.grid or key in self.search:
                raise UserError(f"a sweep gives each run its {key} itself: leave --{key} to {option}")

    @property
    def keys(self) -> list[str]:
        """What differs between trials."""
        return list(self.grid or self.search)

    @property
    def combinations(self) -> list[dict[str, str]]:
        """Every combination of a grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    @property
    def total(self) -> int:
        """Combinations to try."""
        if self.grid:
            return len(self.combinations)
        return TRIALS if self.trials is None else self.trials

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss or an error of calibration."""
        return self.metric.endswith(("loss", "ece"))

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it another sweep."""
        return {name: value for name, value in asdict(self).items() if name not in CHANGEABLE}
