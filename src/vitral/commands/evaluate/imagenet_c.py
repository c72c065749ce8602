"""`vitral eval MODEL --suite imagenet-c`: errors on the corrupted images of ImageNet-C."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitral.commands.evaluate.imagenet_options import ImageNetOptions, evaluate_classifier
from vitral.commands.output import print_json, print_table, write_table
from vitral.data.config import DataConfig
from vitral.datasets.originals.imagenet_c import SEVERITIES
from vitral.models import Model
from vitral.suites.imagenet_c import CorruptionResult, evaluate_imagenet_c, mean_corruption_error

__all__ = ["Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Options(ImageNetOptions):
    """Evaluate a classifier of ImageNet's classes on ImageNet-C: fifteen corruptions at five severities, each in
    --data.root/CORRUPTION/SEVERITY/CLASS. Files of --out have the error at every severity.
    """

    suite: Literal["imagenet-c"] = "imagenet-c"
    """This suite."""


def main(run: Path, arguments: list[str], *, model: Model) -> None:
    """Evaluates the corruptions that are there; exits with code 1 if one of them cannot be read."""
    default = Options(data=DataConfig(source="folder"))
    evaluate_classifier(
        run,
        arguments,
        model=model,
        default=default,
        suite="imagenet-c",
        evaluate=evaluate_imagenet_c,
        show=print_results,
    )


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
