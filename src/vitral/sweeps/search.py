"""Settings that optuna searches, as a function of the trials so far."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from vitral.data.order import random_bits
from vitral.errors import UserError
from vitral.sweeps.config import SweepConfig
from vitral.sweeps.results import Result

__all__ = ["MISSING", "check_optuna", "drawn"]

MISSING = "searches need the package optuna: pip install 'vitral[sweep]'"


def check_optuna() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError(MISSING) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def drawn(config: SweepConfig, tried: Sequence[Result], *, whole: Collection[str]) -> dict[str, str]:
    """What is searched next, from the trials so far alone: optuna's memory is built anew each time.

    Args:
        config: what is searched.
        tried: all trials so far.
        whole: keys of which whole numbers are drawn.
    """
    optuna = check_optuna()
    fractions, integers = optuna.distributions.FloatDistribution, optuna.distributions.IntDistribution
    ranges = {
        key: (integers if key in whole else fractions)(low, high, log=log)
        for key, (low, high, log) in config.search.items()
    }
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=int(random_bits(config.seeds[0], len(tried))[0] >> 33)),
        direction="minimize" if config.lower_is_better else "maximize",
    )
    for result in tried:
        # through JSON, so that numbers are of their key's kind
        params = {key: json.loads(value) for key, value in result.settings.items()}
        state = optuna.trial.TrialState.COMPLETE if result.values else optuna.trial.TrialState.FAIL
        value = result.mean if result.values else None
        study.add_trial(optuna.trial.create_trial(params=params, distributions=ranges, value=value, state=state))
    return {key: json.dumps(value) for key, value in study.ask(ranges).params.items()}
