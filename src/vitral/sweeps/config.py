"""Configuration of a sweep: its settings, seeds and metric."""

import itertools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitral.config import read_json
from vitral.errors import UserError

__all__ = ["SWEEP", "Range", "SweepConfig", "read_sweep_config"]

SWEEP = "sweep.json"
"""The file of the configuration in a sweep's folder."""

Range = tuple[int, int, bool] | tuple[float, float, bool]
"""Lowest and highest value, and whether to search on a logarithmic scale."""

DEFAULT_TRIALS = 20

RESERVED_KEYS = {"seed": "--seeds", "out": "--out"}
"""Keys that the sweep sets for each run, and the option of the sweep to use instead."""

HELD_OUT_KEYS = ("data.val-fraction", "data.val-fold", "data.train-on-val")
"""Keys of the validation images, which cross-validation sets."""

MUTABLE_FIELDS = ("trials", "retrain")
"""Fields that may change when a sweep is resumed, because no trial depends on them."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Configuration of a sweep.

    Raises:
        UserError: there is nothing to try, or fields contradict each other.
    """

    recipe: list[str]
    """The recipe's name and the settings of all runs, as typed."""
    grid: dict[str, list[str]] = field(default_factory=dict)
    """Values of each key; every combination is a trial. Empty with folds: one trial of the recipe as it is."""
    search: dict[str, Range] = field(default_factory=dict)
    """Range of each key; its ends are integers if they were written as integers."""
    trials: int | None = None
    """Number of trials of a search; 20 when None. A grid has one trial for each combination."""
    seeds: list[int]
    """Seeds of each trial's runs."""
    folds: int | None = None
    """Number of parts of the training images, each of which is the validation images of one run of each trial and seed;
    None: all runs have the same validation images.
    """
    metric: str
    """The metric to compare trials by, a mean over seeds and folds; higher is better, unless its name ends in loss,
    ece, mae or rmse.
    """
    retrain: list[int] = field(default_factory=list)
    """Seeds of the final runs, which train the best settings on all training images; empty for no final runs."""

    def __post_init__(self) -> None:
        if (self.grid and self.search) or not (self.grid or self.search or self.folds):
            raise UserError(
                "a sweep needs --grid KEY=V1,V2 or --search KEY=LOW:HIGH, one or more of one kind, or --folds 5 for "
                "cross-validation"
            )
        if self.folds is not None and self.folds < 2:
            raise UserError(f"--folds must be at least 2, not {self.folds}")
        if not self.search and self.trials is not None:
            raise UserError("--trials is the number of combinations that --search tries: leave out --trials")
        if self.total < 1 or not self.seeds:
            raise UserError("a sweep needs at least one trial and one seed")
        for key, option in RESERVED_KEYS.items():
            if self._is_given(key):
                raise UserError(f"a sweep sets the {key} of each run: leave out --{key} and use {option}")
        for key in HELD_OUT_KEYS if self.folds else ():
            if self._is_given(key):
                raise UserError(f"--folds holds out each part of the training images in turn: leave out --{key}")

    def _is_given(self, key: str) -> bool:
        """Whether all runs, or some, have a value for a key."""
        in_recipe = any(word.split("=")[0].replace("_", "-") == f"--{key}" for word in self.recipe)
        return in_recipe or key in self.grid or key in self.search

    @property
    def keys(self) -> list[str]:
        """The settings that differ between trials."""
        return list(self.grid or self.search)

    @property
    def combinations(self) -> list[dict[str, str]]:
        """The settings of every trial of a grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    @property
    def runs(self) -> list[tuple[int | None, int]]:
        """Fold, from 1 and None without folds, and seed of each run of a trial."""
        folds = range(1, self.folds + 1) if self.folds else (None,)
        return list(itertools.product(folds, self.seeds))

    def run_folder(self, number: int, fold: int | None, seed: int) -> str:
        """Name of the folder of a run, in the sweep's."""
        return f"{number:03}-seed{seed}" if fold is None else f"{number:03}-fold{fold}-seed{seed}"

    @property
    def run_names(self) -> list[str]:
        """What tells the runs of a trial apart, in words."""
        if self.folds is None:
            return [f"seed {seed}" for seed in self.seeds]
        return [f"fold {fold}" + (f" seed {seed}" if len(self.seeds) > 1 else "") for fold, seed in self.runs]

    @property
    def total(self) -> int:
        """Number of trials."""
        if not self.search:
            return len(self.combinations)
        return DEFAULT_TRIALS if self.trials is None else self.trials

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss or an error."""
        return self.metric.endswith(("loss", "ece", "mae", "rmse"))

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that must be equal to resume a sweep."""
        return {name: value for name, value in asdict(self).items() if name not in MUTABLE_FIELDS}


def read_sweep_config(folder: Path) -> SweepConfig:
    """The configuration of a sweep.

    Raises:
        UserError: the folder's `sweep.json` is damaged.
    """
    try:
        content = read_json(folder / SWEEP)
        return SweepConfig(**{**content, "search": {key: tuple(bounds) for key, bounds in content["search"].items()}})
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder / SWEEP} is not the configuration of a sweep: choose another folder") from None
