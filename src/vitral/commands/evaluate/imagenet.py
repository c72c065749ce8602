"""`vitral eval MODEL --suite imagenet`: ImageNet's validation images, and what was made to test the same classes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vitral.commands.evaluate.arguments import check_data
from vitral.commands.output import check_out, note, parsed_by_tyro, print_json, show_table, write_table
from vitral.data.config import DataConfig
from vitral.data.sources.source import Subset
from vitral.datasets.originals.imagenet_tests import TESTS, Right, TestSet
from vitral.distributed.world import World, join_processes
from vitral.errors import UserError
from vitral.evals.evaluate import TIMEOUT, check_finite, predict_all
from vitral.models import Model
from vitral.serve.predictor import Predictor
from vitral.weights.class_names.imagenet import imagenet_identifiers

__all__ = ["Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measures a classifier of ImageNet's classes on its validation images, on ReaL labels, V2, ObjectNet, A, R and
    Sketch, as far as they are in the folder --data.root.
    """

    suite: Literal["imagenet"] = "imagenet"
    """This one."""
    data: DataConfig
    """The folder of all images, and how they are read."""
    out: Path | None = None
    """File for the table: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes a GPU where there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found on one test."""

    test: str
    top1: float
    top5: float
    num_images: int
    seconds: float


def main(where: Path, arguments: list[str], *, model: Model) -> None:
    """Measures what there is, and says what is not; exits with 1 where a test that is there cannot be read."""
    default = Options(data=DataConfig(source="folder"))
    options = parsed_by_tyro(Options, default=default, arguments=arguments, program=f"vitral eval {where}")
    check_out(options.out)
    check_data(options.data, default.data, used=("root", "on_error", "workers"), suite="imagenet")
    with join_processes(timeout=TIMEOUT) as world:
        predictor = Predictor(model, device=world.device(options.device))
        identifiers = imagenet_identifiers(predictor.card.classes)
        if identifiers is None:
            raise UserError(
                f"--suite imagenet is for models of ImageNet's 1,000 classes, and {where} tells "
                f"{len(predictor.card.classes):,} classes: measure it without --suite, or with --suite knn"
            )
        rows, left_out = found(predictor, identifiers, options.data, world)
    if world.is_main:
        tell(where, rows, left_out, options)
    if world.is_main and left_out:  # the others are done before, and their failure would end the first
        raise SystemExit(1)


def tell(where: Path, rows: Sequence[Row], left_out: dict[str, str], options: Options) -> None:
    """Prints what was found, and writes it where it was asked to."""
    cells = [["test", "top-1", "top-5", "images", "seconds"]]
    for row in rows:
        cells.append([row.test, f"{row.top1:.2%}", f"{row.top5:.2%}", str(row.num_images), f"{row.seconds:.2f}"])
    tests = [vars(row) | {"seconds": round(row.seconds, 3)} for row in rows]
    whole = {"model": str(where), "suite": "imagenet", "tests": tests, "left_out": left_out}
    if options.json:
        print_json(whole)
    else:
        show_table(f"{where}, suite imagenet", cells)
    if options.out is not None:
        write_table(options.out, cells, whole)


def found(
    predictor: Predictor, identifiers: Sequence[str], data: DataConfig, world: World
) -> tuple[list[Row], dict[str, str]]:
    """A row for each test that is there, and why others that are there could not be read.

    The first process says what is missing.

    Raises:
        UserError: there are none, or none can be read.
    """
    root = data.root
    if root is None or not root.is_dir():
        reason = "no folder is named" if root is None else f"{root} is no folder"
        raise UserError(f"{reason}: give that of ImageNet's test sets as --data.root")
    here = [test for test in TESTS if (root / test.place).exists()]
    if not here:
        raise UserError(f"{root} has none of {', '.join(test.place for test in TESTS)}: put one there")
    say = note if world.is_main else str
    for test in TESTS:
        if test not in here:
            say(f"left out: {test.title} needs {test.place} in {root}, from {test.origin}")
    rows: list[Row] = []
    left_out: dict[str, str] = {}
    for test in here:
        try:
            row = measured(predictor, test.open(root, identifiers), test.title, data, world)
        except UserError as error:
            if len(here) == len(left_out) + 1:
                raise
            left_out[test.title] = str(error)
            say(f"left out: {test.title}, as {error}")
            continue
        if row.num_images != test.num_images:
            say(f"{test.title} has {row.num_images:,} images that count here, and {test.num_images:,} when complete")
        rows.append(row)
    return rows, left_out


def measured(predictor: Predictor, asked: TestSet, title: str, data: DataConfig, world: World) -> Row:
    """Top-1 and top-5 accuracy over the images that have a right answer."""
    start = time.perf_counter()
    counted = np.flatnonzero((asked.right >= 0).any(1))
    told = predict_all(
        choosing(predictor.logits, asked.among),
        Subset(source=asked.source, indices=counted),
        preprocessing=predictor.card.preprocessing,
        data=data,
        world=world,
    )
    for sentence in told.unreadable if world.is_main else ():
        note(f"left out: {sentence}")
    check_finite(told.confidence)
    hits = hit(told.top, asked.right[counted][told.positions().numpy()])
    return Row(
        test=title,
        top1=hits[:, 0].double().mean().item(),
        top5=hits.any(1).double().mean().item(),
        num_images=len(hits),
        seconds=time.perf_counter() - start,
    )


def choosing(
    logits: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]], among: Sequence[int] | None
) -> Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]]:
    """A classifier that chooses among some classes only."""
    if among is None:
        return logits

    def chosen(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b classes"]:
        told = logits(images)
        only = torch.full_like(told, -torch.inf)
        only[:, among] = told[:, among]
        return only

    return chosen


def hit(top: Int64[Tensor, "n five"], right: Right) -> Bool[Tensor, "n five"]:
    """Whether each of the classes that were told is a right one."""
    return (top[:, :, None] == torch.from_numpy(right)[:, None, :]).any(2)
