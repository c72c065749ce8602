"""`vitral eval MODEL --suite imagenet`: ImageNet's validation images, and what was made to test the same classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vitral.commands.output import check_out, note, parsed_by_tyro, print_json, show_table, write_table
from vitral.data.config import DataConfig
from vitral.data.originals.imagenet_tests import TESTS, Right, TestSet
from vitral.data.sources import Subset
from vitral.models import Model
from vitral.serve.predictor import Predictor
from vitral.train.evaluation import TIMEOUT, judged
from vitral.train.world import World, joined
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


def main(where: Path, arguments: list[str], *, model: Model) -> None:
    """Measures what there is, and says what is not."""
    default = Options(data=DataConfig(source="folder"))
    options = parsed_by_tyro(Options, default=default, arguments=arguments, program=f"vitral eval {where}")
    check_out(options.out)
    with joined(timeout=TIMEOUT) as world:
        predictor = Predictor(model, device=world.device(options.device))
        identifiers = imagenet_identifiers(predictor.card.classes)
        if identifiers is None:
            raise ValueError(
                f"--suite imagenet is for models of ImageNet's 1,000 classes, and {where} tells "
                f"{len(predictor.card.classes):,} classes: measure it without --suite, or with --suite knn"
            )
        rows = found(predictor, identifiers, options.data, world)
    if not world.leads:
        return
    cells = [["test", "top-1", "top-5", "images"]]
    cells += [[row.test, f"{row.top1:.2%}", f"{row.top5:.2%}", f"{row.num_images:,}"] for row in rows]
    whole = {"model": str(where), "suite": "imagenet", "tests": [vars(row) for row in rows]}
    if options.json:
        print_json(whole)
    else:
        show_table(f"{where}, suite imagenet", cells)
    if options.out is not None:
        write_table(options.out, cells, whole)


def found(predictor: Predictor, identifiers: Sequence[str], data: DataConfig, world: World) -> list[Row]:
    """A row for each test that is there; a sentence on the others, of the first process.

    Raises:
        ValueError: there are none, or one is damaged.
    """
    root = data.root
    if root is None or not root.is_dir():
        found = "no folder is named" if root is None else f"{root} is no folder"
        raise ValueError(f"{found}: give that of ImageNet's test sets as --data.root")
    here = [test for test in TESTS if (root / test.place).exists()]
    if not here:
        raise ValueError(f"{root} has none of {', '.join(test.place for test in TESTS)}: put one there")
    for test in TESTS:
        if world.leads and test not in here:
            note(f"left out: {test.title} needs {test.place} in {root}, from {test.origin}")
    rows = []
    for test in here:
        found = measured(predictor, test.open(root, identifiers), test.title, data, world)
        if world.leads and found.num_images != test.num_images:
            note(f"{test.title} has {found.num_images:,} images that count here, and {test.num_images:,} when complete")
        rows.append(found)
    return rows


def measured(predictor: Predictor, asked: TestSet, title: str, data: DataConfig, world: World) -> Row:
    """Top-1 and top-5 accuracy over the images that have a right answer."""
    counted = np.flatnonzero((asked.right >= 0).any(1))
    told = judged(
        choosing(predictor.logits, asked.among),
        Subset(source=asked.source, indices=counted),
        preprocessing=predictor.card.preprocessing,
        data=data,
        world=world,
    )
    for sentence in told.broken if world.leads else ():
        note(f"left out: {sentence}")
    hits = hit(told.top, asked.right[counted][told.positions().numpy()])
    return Row(
        test=title,
        top1=hits[:, 0].double().mean().item(),
        top5=hits.any(1).double().mean().item(),
        num_images=len(hits),
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
