"""Hyperparameter search with optuna, as a function of the finished trials."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from vitral.data.order import random_bits
from vitral.errors import UserError
from vitral.sweeps.config import SweepConfig
from vitral.sweeps.results import TrialResult

__all__ = ["import_optuna", "suggest"]


def import_optuna() -> Any:
    """The package optuna.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("searches need the package optuna: pip install 'vitral[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def suggest(config: SweepConfig, results: Sequence[TrialResult], *, integer_keys: Collection[str]) -> dict[str, str]:
    """The settings of the next trial.

    They depend on the finished trials only: optuna's study is built again for each trial.

    Args:
        config: of the sweep.
        results: of all trials so far.
        integer_keys: keys that take integers only.
    """
    optuna = import_optuna()
    fractions, integers = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    ranges = {
        key: (integers if key in integer_keys else fractions)(low, high, log=log)
        for key, (low, high, log) in config.search.items()
    }
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=int(random_bits(config.seeds[0], len(results))[0] >> 33)),
        direction="minimize" if config.lower_is_better else "maximize",
    )
    for result in results:
        # JSON gives integers for integer keys, and floats for others
        params = {key: json.loads(value) for key, value in result.settings.items()}
        state = optuna.trial.TrialState.COMPLETE if result.values else optuna.trial.TrialState.FAIL
        value = result.mean if result.values else None
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value, state=state))
    return {key: json.dumps(value) for key, value in study.ask(ranges).params.items()}
