"""What the suites for ImageNet's classes share: their options, and the evaluation of one model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import tyro

from vitral.commands.arguments.checks import check_output
from vitral.commands.arguments.flags import parse_config
from vitral.commands.evaluate.arguments import check_data
from vitral.commands.loading import check_head
from vitral.commands.output import note
from vitral.data.config import DataConfig
from vitral.distributed.world import World, join_processes
from vitral.errors import UserError
from vitral.evals.loop import TIMEOUT
from vitral.models import Model
from vitral.serve.predictor import Precision, Predictor
from vitral.weights.class_names.imagenet import imagenet_identifiers

__all__ = ["ImageNetOptions", "evaluate_classifier"]

Chosen = TypeVar("Chosen", bound="ImageNetOptions")


@dataclass(frozen=True, kw_only=True)
class ImageNetOptions:
    """Options of every suite for ImageNet's classes."""

    data: DataConfig
    """The folder of all test sets, and how to read images."""
    out: Path | None = None
    """File for the table: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto: a GPU if there is one."""
    precision: Precision = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


@runtime_checkable
class Evaluate(Protocol):
    """Evaluates a classifier on every test set in a folder, as `evaluate_imagenet` does."""

    def __call__(
        self,
        predictor: Predictor,
        identifiers: Sequence[str],
        data: DataConfig,
        world: World,
        *,
        log: Callable[[str], None],
    ) -> tuple[Sequence[Any], dict[str, str]]: ...


def evaluate_classifier(
    run: Path,
    arguments: list[str],
    *,
    model: Model,
    default: Chosen,
    suite: str,
    evaluate: Evaluate,
    show: Callable[[Path, Any, dict[str, str], Chosen], None],
) -> None:
    """Evaluates the test sets that are there; exits with code 1 if one of them cannot be read.

    Args:
        run: the run, folder or file of the model.
        arguments: the command's options.
        model: the model.
        default: the options without arguments.
        suite: its name.
        evaluate: returns the results, and by title why another test set could not be read.
        show: prints and writes the results.

    Raises:
        UserError: an option is wrong, the model has other classes, or nothing can be evaluated.
    """
    options = parse_config(type(default), default=default, arguments=arguments, program=f"vitral eval {run}")
    check_output(options.out)
    check_data(options.data, default.data, used=("root", "on_error", "workers"), suite=suite)
    check_head(model, run)
    with join_processes(timeout=TIMEOUT) as world:
        predictor = Predictor(model, device=world.device(options.device), precision=options.precision)
        classes = predictor.card.classes
        identifiers = imagenet_identifiers(classes)
        if identifiers is None:
            raise UserError(
                f"--suite {suite} is for models of ImageNet's 1,000 classes, and {run} has {len(classes):,} classes: "
                "evaluate it without --suite, or with --suite knn"
            )
        results, failures = evaluate(predictor, identifiers, options.data, world, log=note)
    if world.is_main:
        show(run, results, failures, options)
    if world.is_main and failures:  # other processes end before: a failure of theirs would end the main process
        raise SystemExit(1)
