"""`vitral eval MODEL --suite imagenet`: ImageNet's validation images, and the test sets made for the same classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitral.commands.evaluate.imagenet_options import ImageNetOptions, evaluate_classifier
from vitral.commands.output import print_json, print_table, write_table
from vitral.data.config import DataConfig
from vitral.models import Model
from vitral.suites.imagenet import ImageNetResult, evaluate_imagenet

__all__ = ["Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Options(ImageNetOptions):
    """Evaluate a classifier of ImageNet's classes on the validation images, ReaL labels, V2, ObjectNet, A, R and
    Sketch: those that are in the folder --data.root.
    """

    suite: Literal["imagenet"] = "imagenet"
    """This suite."""


def main(run: Path, arguments: list[str], *, model: Model) -> None:
    """Evaluates the test sets that are there; exits with code 1 if one of them cannot be read."""
    default = Options(data=DataConfig(source="folder"))
    evaluate_classifier(
        run,
        arguments,
        model=model,
        default=default,
        suite="imagenet",
        evaluate=evaluate_imagenet,
        show=print_results,
    )


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
