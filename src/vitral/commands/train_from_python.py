"""`vitral.train(...)`: what `vitral train` does, from Python."""

import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitral.commands.arguments.flags import parse_config
from vitral.commands.keywords import as_flags
from vitral.commands.own_images import fit_to_machine, flags_of_fit, pop_automatic_batch, pop_minutes
from vitral.commands.train import config_from_recipe
from vitral.distributed.world import SINGLE_PROCESS
from vitral.errors import UserError, unknown_name
from vitral.export.exported import ExportedModel
from vitral.models import Model
from vitral.recipes import RECIPES
from vitral.runs.reporter import LoggedMetrics
from vitral.runs.run import Run
from vitral.serve.predictor import Predictor
from vitral.train.config import RunConfig
from vitral.train.fit import fit

__all__ = ["Trained", "train"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished run."""

    folder: Path
    """Holds the model, its metrics, curves and `report.html`; every command takes it."""
    metrics: dict[str, float]
    """Of the final evaluation, such as `test/top1` (fractions)."""
    predictor: Predictor
    """Classifies images with the trained model; a model trained without labels only gives features."""

    @property
    def model(self) -> Model:
        """The trained model, with its card, in evaluation mode."""
        model = self.predictor.model
        assert not isinstance(model, ExportedModel), "a run's folder holds no exported file"
        return model


def train(
    recipe: str | RunConfig,
    *,
    out: str | Path | None = None,
    minutes: float | None = None,
    callback: Callable[[LoggedMetrics], object] | None = None,
    **keys: Any,
) -> Trained:
    """Trains a recipe to its end, as `vitral train` does.

    Args:
        recipe: a name that `vitral recipes` lists, or a complete configuration.
        out: the run's folder; None: the next free `runs/RECIPE-N`.
        minutes: length of the run, measured as on the command line.
        callback: receives the metrics of each logged step (`train_log="1step"` logs all) and of each evaluation. What
            it raises ends the run, which can be resumed on the command line.
        keys: of the configuration, as on the command line with underscores: `data_root="photos"`,
            `train_batch_size=32`; or as there, `**{"objective.crops.num-local": 4}`.

    Returns:
        The run's folder, its metrics, and the trained model in a predictor.

    Raises:
        UserError: there is no such recipe or key, a value is wrong, the folder is not empty, an image cannot be read,
            or the loss is not finite.
        Interrupted: Ctrl-C; the run is saved.
    """
    limit = [] if minutes is None else ["--minutes", str(minutes)]
    limit, keyed = pop_minutes([*limit, *_flags(recipe, keys)])
    automatic, changes = pop_automatic_batch(keyed)
    if isinstance(recipe, str):
        config = config_from_recipe([recipe, *changes])
    else:
        config = parse_config(RunConfig, default=recipe, arguments=changes, program="vitral.train")
    if out is not None:
        config = replace(config, out=Path(out))
    fitted = fit_to_machine(config, changes, limit, automatic=automatic, world=SINGLE_PROCESS)
    command = ("vitral", "train", fitted.recipe, *changes, *flags_of_fit(config, fitted))
    config = replace(fitted, command=(shlex.join(command),))
    run = Run.create(config.out, recipe=config.recipe)
    with closing(run):
        metrics = fit(run, config, callback=callback)
    predictor = Predictor(run.path, device=config.train.device)
    return Trained(folder=run.path, metrics=metrics, predictor=predictor)


def _flags(recipe: str | RunConfig, keys: dict[str, Any]) -> list[str]:
    """The keys as flags.

    Raises:
        UserError: there is no such recipe, or a key is none of the configuration's.
    """
    if isinstance(recipe, RunConfig):
        return as_flags(keys, recipe)
    if recipe not in RECIPES:
        raise UserError(f"{unknown_name('recipe', recipe, RECIPES)}; vitral recipes describes them")
    if "help" in keys:
        raise UserError(f"vitral.train has no key 'help': vitral train {recipe} --help-all lists all keys")
    entry = RECIPES[recipe]
    return as_flags(keys, entry(None) if entry.takes == "weights" else entry())
