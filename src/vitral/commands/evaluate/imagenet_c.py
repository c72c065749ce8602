"""`vitral eval MODEL --suite imagenet-c`: errors on the corrupted images of ImageNet-C."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from vitral.commands.arguments.checks import check_output
from vitral.commands.arguments.flags import parse_config
from vitral.commands.evaluate.arguments import check_data
from vitral.commands.evaluate.imagenet import check_identifiers
from vitral.commands.loading import check_head
from vitral.commands.output import note, print_json, print_table, write_table
from vitral.data.config import DataConfig
from vitral.datasets.originals.imagenet_c import SEVERITIES
from vitral.distributed.world import join_processes
from vitral.evals.loop import TIMEOUT
from vitral.models import Model
from vitral.serve.predictor import Precision, Predictor
from vitral.suites.imagenet_c import CorruptionResult, evaluate_imagenet_c, mean_corruption_error

__all__ = ["Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Evaluate a classifier of ImageNet's classes on ImageNet-C: fifteen corruptions at five severities, each in
    --data.root/CORRUPTION/SEVERITY/CLASS.
    """

    suite: Literal["imagenet-c"] = "imagenet-c"
    """This suite."""
    data: DataConfig
    """The folder of all corruptions, and how to read images."""
    out: Path | None = None
    """File for the table, which has every severity: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto: a GPU if there is one."""
    precision: Precision = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(run: Path, arguments: list[str], *, model: Model) -> None:
    """Evaluates the corruptions that are there; exits with code 1 if one of them cannot be read."""
    default = Options(data=DataConfig(source="folder"))
    options = parse_config(Options, default=default, arguments=arguments, program=f"vitral eval {run}")
    check_output(options.out)
    check_data(options.data, default.data, used=("root", "on_error", "workers"), suite="imagenet-c")
    check_head(model, run)
    with join_processes(timeout=TIMEOUT) as world:
        predictor = Predictor(model, device=world.device(options.device), precision=options.precision)
        identifiers = check_identifiers(predictor.card.classes, run, suite="imagenet-c")
        results, failures = evaluate_imagenet_c(predictor, identifiers, options.data, world, log=note)
    if world.is_main:
        print_results(run, results, failures, options)
    if world.is_main and failures:  # other processes end before: a failure of theirs would end the main process
        raise SystemExit(1)


def print_results(run: Path, results: Sequence[CorruptionResult], failures: dict[str, str], options: Options) -> None:
    """Prints the table, and writes it to `--out` with every severity."""
    rows = table(results)
    whole = as_json(run, results, failures)
    if options.json:
        print_json(whole)
    else:
        severities = len(SEVERITIES)
        print_table(f"{run}, suite imagenet-c", [[row[0], *row[1 + severities :]] for row in rows])
    if options.out is not None:
        write_table(options.out, rows, whole)


def table(results: Sequence[CorruptionResult]) -> list[list[str]]:
    """A header, a row for each corruption, and the means; CE is the error as a fraction of AlexNet's."""
    severities = [f"severity {severity}" for severity in SEVERITIES]
    rows = [["corruption", *severities, "error", "CE", "images", "seconds"]]
    for each in results:
        errors = (f"{error:.2%}" for error in (*each.errors, each.error))
        rows.append([each.corruption.title, *errors, f"{each.ce:.2%}", str(each.num_images), f"{each.seconds:.2f}"])
    mce = mean_corruption_error(results)
    means = (statistics.fmean(column) for column in zip(*((*each.errors, each.error) for each in results), strict=True))
    rows.append(["mean", *(f"{mean:.2%}" for mean in means), "-" if mce is None else f"{mce:.2%} (mCE)", "", ""])
    return rows


def as_json(run: Path, results: Sequence[CorruptionResult], failures: dict[str, str]) -> dict[str, Any]:
    """All results; errors are fractions."""
    rows = [
        {
            "corruption": each.corruption.name,
            "group": each.corruption.group,
            "errors": list(each.errors),
            "error": each.error,
            "ce": each.ce,
            "num_images": each.num_images,
            "seconds": round(each.seconds, 3),
        }
        for each in results
    ]
    means = {"mean_error": statistics.fmean(each.error for each in results), "mce": mean_corruption_error(results)}
    return {"model": str(run), "suite": "imagenet-c", "corruptions": rows, **means, "failures": failures}
