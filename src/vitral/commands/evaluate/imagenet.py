"""`vitral eval MODEL --suite imagenet`: ImageNet's validation images, and the test sets made for the same classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vitral.commands.arguments.checks import check_output
from vitral.commands.arguments.flags import parse_config
from vitral.commands.evaluate.arguments import check_data
from vitral.commands.loading import check_head
from vitral.commands.output import note, print_json, print_table, write_table
from vitral.data.config import DataConfig
from vitral.distributed.world import join_processes
from vitral.errors import UserError
from vitral.evals.loop import TIMEOUT
from vitral.models import Model
from vitral.serve.predictor import Precision, Predictor
from vitral.suites.imagenet import ImageNetResult, evaluate_imagenet
from vitral.weights.class_names.imagenet import imagenet_identifiers

__all__ = ["Options", "check_identifiers", "main"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Evaluate a classifier of ImageNet's classes on the validation images, ReaL labels, V2, ObjectNet, A, R and
    Sketch: those that are in the folder --data.root.
    """

    suite: Literal["imagenet"] = "imagenet"
    """This suite."""
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


def main(run: Path, arguments: list[str], *, model: Model) -> None:
    """Evaluates the test sets that are there; exits with code 1 if one of them cannot be read."""
    default = Options(data=DataConfig(source="folder"))
    options = parse_config(Options, default=default, arguments=arguments, program=f"vitral eval {run}")
    check_output(options.out)
    check_data(options.data, default.data, used=("root", "on_error", "workers"), suite="imagenet")
    check_head(model, run)
    with join_processes(timeout=TIMEOUT) as world:
        predictor = Predictor(model, device=world.device(options.device), precision=options.precision)
        identifiers = check_identifiers(predictor.card.classes, run, suite="imagenet")
        results, failures = evaluate_imagenet(predictor, identifiers, options.data, world, log=note)
    if world.is_main:
        print_results(run, results, failures, options)
    if world.is_main and failures:  # other processes end before: a failure of theirs would end the main process
        raise SystemExit(1)


def check_identifiers(classes: tuple[str, ...], run: Path, *, suite: str) -> tuple[str, ...]:
    """The WordNet identifier of each class of a model.

    Raises:
        UserError: they are not ImageNet's 1,000 classes.
    """
    identifiers = imagenet_identifiers(classes)
    if identifiers is None:
        raise UserError(
            f"--suite {suite} is for models of ImageNet's 1,000 classes, and {run} has {len(classes):,} classes: "
            "evaluate it without --suite, or with --suite knn"
        )
    return identifiers


def print_results(run: Path, results: Sequence[ImageNetResult], failures: dict[str, str], options: Options) -> None:
    """Prints the table, and writes it to `--out`."""
    rows = [["test", "top-1", "top-5", "images", "seconds"]]
    for each in results:
        rows.append([each.test, f"{each.top1:.2%}", f"{each.top5:.2%}", str(each.num_images), f"{each.seconds:.2f}"])
    tests = [vars(each) | {"seconds": round(each.seconds, 3)} for each in results]
    whole = {"model": str(run), "suite": "imagenet", "tests": tests, "failures": failures}
    if options.json:
        print_json(whole)
    else:
        print_table(f"{run}, suite imagenet", rows)
    if options.out is not None:
        write_table(options.out, rows, whole)
