"""`vitral eval MODEL --suite NAME`: what a model's frozen representations are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from vitral.commands.evaluate.arguments import check_cache, check_data
from vitral.commands.evaluate.tables import as_json, show, table_of
from vitral.commands.evaluate.watch import watching
from vitral.commands.output import (
    check_out,
    note,
    parsed_by_tyro,
    print_json,
    split_off,
    write_table,
)
from vitral.data.config import DataConfig
from vitral.data.extra import optional
from vitral.data.sources.source import Subset
from vitral.data.sources.splits import stratified
from vitral.datasets.mini.tasks import VTAB_MINI
from vitral.datasets.opening import open_data
from vitral.datasets.vtab.tasks import VTAB1K
from vitral.distributed.world import World, join_processes
from vitral.errors import UserError
from vitral.evals.evaluate import TIMEOUT, final_split
from vitral.models import Model
from vitral.suites.finetuning import PROTOCOLS, Protocol, configured, own_protocol
from vitral.suites.measuring import Measuring, Subject, Task
from vitral.suites.published import VTAB1K_PUBLISHED
from vitral.suites.subjects import subjects
from vitral.suites.transfer import METHODS, RETRIEVAL
from vitral.train.config import RunConfig
from vitral.train.evaluation import evenly

__all__ = ["SUITES", "Options", "main"]

SUITES = ("knn", "linear", "fewshot", "finetune", "retrieval", "vtab-mini", "vtab1k")
"""What a model can be measured by besides the accuracy of its classifier."""

TASKS = {"vtab-mini": VTAB_MINI, "vtab1k": VTAB1K}
"""Suites of tasks of their own."""

KNOWN = 10_000
"""Training images that are learned from at most, unless as the paper does."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measures what a model's frozen representations are worth: the image representation before the head."""

    suite: Literal["knn", "linear", "fewshot", "finetune", "retrieval", "vtab-mini", "vtab1k"]
    """knn: nearest neighbours, their number chosen on validation images. linear: logistic regression. fewshot: least
    squares on 1, 5, 10 and 25 images a class. finetune: all weights are trained, at a rate chosen on validation images.
    retrieval: test images search the others for their class by cosine similarity.
    vtab-mini: ten small tasks that need no download, by the first three, and by finetune where `--finetune` says how.
    vtab1k: VTAB's nineteen tasks, in the same ways, of the data sets in the folders of `--data.root`.
    """
    finetune: Literal["none", "light", "paper"] = "none"
    """How to fine-tune. light: 150 steps of 64 images at the model's size, one of four rates; what the suite finetune
    does by default. paper: 512 images a step at 384 pixels, on vtab-mini and vtab1k 2,500 steps at the rate 0.01 as on
    VTAB; on other images the steps and rates of Table 4 for ImageNet, CIFAR, Pets or Flowers, or for that of about as
    many images.
    """
    data: DataConfig
    """The images of knn, linear, fewshot, finetune and retrieval; by default the run's own."""
    grid: tyro.conf.FlagCreatePairsOff[bool] = False
    """Few-shot least squares also with the strength of 2^-10 to 2^19 that is best for all tasks together."""
    known: int | None = None
    """Training images that are learned from at most; by default 10,000, and all with `--finetune paper`. The tasks of
    vtab-mini and vtab1k have 1,000 each.
    """
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the draws of few images, and of the final trainings of fine-tuning."""
    baselines: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure the same architecture with random weights, and raw pixels, as well."""
    cache: Path | None = None
    """Folder of the representations, by default MODEL/features; none is kept where MODEL is no folder."""
    out: Path | None = None
    """File for the table: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes a GPU where there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    @property
    def methods(self) -> tuple[str, ...]:
        """What is measured of representations that stay as they are."""
        return tuple(METHODS) if self.suite in TASKS else tuple({self.suite} & {*METHODS, RETRIEVAL})

    @property
    def tunes(self) -> bool:
        """Whether models are fine-tuned."""
        return self.suite == "finetune" or self.finetune != "none"

    def stages(self, compared: Mapping[str, Subject]) -> int:
        """How often something is done with each task."""
        tuned = sum(subject.tuned != "never" for subject in compared.values())
        return 2 * len(compared) * bool(self.methods) + tuned * self.tunes


def main(where: Path, arguments: list[str], *, model: Model, recorded: DataConfig | None) -> None:
    """Extracts representations once for all measures, and prints a table; with `--json`, one object.

    Exits with 1 where a task failed once it was begun; the table then has the others.
    """
    suite = split_off(arguments, "--suite", "vitral eval")[0]
    own = None if suite in TASKS else recorded
    default = Options(suite="knn", data=own or DataConfig(source="folder", **reading(recorded)))
    options = parsed_by_tyro(Options, default=default, arguments=arguments, program=f"vitral eval {where}")
    folder = options.cache or (where / "features" if where.is_dir() else None)
    check(options, default, folder)
    with join_processes(timeout=TIMEOUT) as world:
        if world.size > 1 and options.tunes:
            raise UserError("fine-tuning takes one process: start without torchrun")
        tasks, protocol = suite_tasks(options, world) if options.suite in TASKS else own_task(options)
        if world.is_main and suite == "vtab-mini" and recorded is not None and recorded.source == "digits":
            note("Digits: the run has learned from most of this task's test images, so that its figure is too good")
        # what is asked may be at the edge of an image, so that none is cut in suites of tasks, as in VTAB
        compared = subjects(
            model, device=world.device(options.device), whole=options.suite in TASKS, baselines=options.baselines
        )
        runs = tuned_runs(where, protocol, compared, options) if options.tunes else {}
        with watching(len(tasks) * options.stages(compared), shown=world.is_main and not options.json) as watch:
            say = note if world.is_main else lambda _: None
            measuring = Measuring(compared, tasks, data=options.data, folder=folder, world=world, watch=watch, say=say)
            if options.methods:
                measuring.extract()
            if world.is_main:
                measured(measuring, runs, protocol, options)
    if world.is_main:
        tell(measuring, where, options)
    if world.is_main and measuring.left_out:  # the others are done before, and their failure would end the first
        raise SystemExit(1)


def check(options: Options, default: Options, folder: Path | None) -> None:
    """Refuses, before anything is computed, what cannot be.

    Raises:
        UserError: as it says.
    """
    check_out(options.out)
    check_cache(folder)
    if options.known is not None and options.known < 2:
        raise UserError("--known must be at least 2")
    if not options.seeds or min(options.seeds) < 0 or len({*options.seeds}) < len(options.seeds):
        raise UserError("--seeds takes numbers from 0 on, each once, such as --seeds 0 1 2")
    if options.grid and options.suite not in ("fewshot", *TASKS):
        raise UserError(f"--grid is a form of few-shot least squares: choose --suite fewshot, {' or '.join(TASKS)}")
    if options.suite == RETRIEVAL:
        optional("faiss", purpose=RETRIEVAL)
    if options.suite in TASKS:
        if options.known is not None:
            raise UserError(f"every task of {options.suite} has 1,000 images to learn from: leave out --known")
        check_data(options.data, default.data, used=("root", "on_error", "workers"), suite=options.suite)


def tuned_runs(
    where: Path, protocol: Protocol, compared: Mapping[str, Subject], options: Options
) -> dict[str, RunConfig]:
    """How each subject is fine-tuned that has weights.

    Raises:
        UserError: the model cannot be.
    """
    settings = partial(configured, where, protocol, data=options.data, device=options.device)
    return {
        name: settings(fresh=subject.tuned == "fresh") for name, subject in compared.items() if subject.tuned != "never"
    }


def measured(measuring: Measuring, runs: Mapping[str, RunConfig], protocol: Protocol, options: Options) -> None:
    """Measures what was asked for, representations first."""
    if options.methods:
        measuring.measure(options.methods, seeds=options.seeds, grid=options.grid)
    if runs and protocol.like is not None:
        note(
            f"fine-tuning as the paper does on {protocol.like}: {protocol.steps:,} steps of {protocol.batch_size} "
            f"images of {protocol.image_size} pixels, the rate chosen on {protocol.held_out:.0%} of the training images"
        )
    measuring.tune(runs, protocol, seeds=options.seeds)
    if measuring.kept.taken:
        note(f"{measuring.kept.folder} had {measuring.kept.taken} of the results from before")


def tell(measuring: Measuring, where: Path, options: Options) -> None:
    """Prints what was found, and writes it where it was asked to."""
    groups = {title: task.group for title, task in measuring.tasks.items()}
    known = {"vtab1k": VTAB1K_PUBLISHED}.get(options.suite, {})
    rows = table_of(measuring.scores, groups, known)
    whole = as_json(where, options.suite, measuring.scores, groups, measuring.left_out)
    whole |= {"published": known} if known else {}
    if options.json:
        print_json(whole)
    else:
        show(f"{where}, suite {options.suite}", rows)
    if options.out is not None:
        write_table(options.out, rows, whole)


def own_task(options: Options) -> tuple[dict[str, Task], Protocol]:
    """The run's own images, or those that are named, and how to fine-tune on them.

    Raises:
        UserError: the data is not there, has no classes, or too few images.
    """
    data = open_data(options.data)
    form = "paper" if options.finetune == "paper" else "light"
    known = options.known or (len(data["train"]) if form == "paper" else KNOWN)
    train = evenly(data["train"], known)
    if len(train.classes) < 2:
        raise UserError("the images have no classes to measure by: choose --data.source folder, or --suite vtab-mini")
    protocol = own_protocol(form, options.data.source, num_images=len(train))
    reported = final_split(data)
    # on its own data sets the paper holds a share out, and learns from no other images
    as_in_paper = protocol.like == options.data.source and options.data.val_share is None
    if "val" in data and reported != "val" and not as_in_paper:
        parts = {"train": train, "val": data["val"]}
    else:  # images that are reported choose nothing
        if 1 in (counts := np.bincount(train.labels)):
            raise UserError(
                f"class {train.classes[counts.tolist().index(1)]!r} has a single image among the {len(train):,} to "
                "learn from, so none can be held out to choose by: raise --known or --data.limit, or add images"
            )
        kept, held_out = stratified(train.labels, train.classes, share=protocol.held_out, seed=0)
        parts = {"train": Subset(source=train, indices=kept), "val": Subset(source=train, indices=held_out)}
    return {"data": Task(splits={**parts, "test": data[reported]}, group="data")}, protocol


def suite_tasks(options: Options, world: World) -> tuple[dict[str, Task], Protocol]:
    """The tasks whose images can be had here, and how to fine-tune on them; of others it is said why.

    Raises:
        UserError: there are none.
    """
    tasks, missing = {}, {}
    for task in TASKS[options.suite].values():
        try:
            splits = task.open(options.data.root)
            tasks[task.title] = Task(splits=splits, group=task.group, crop=task.crop, flip=task.flip)
        except UserError as error:
            missing.setdefault(str(error), []).append(task.title)
    if not tasks and len(missing) == 1:
        raise UserError(next(iter(missing)))
    for sentence, titles in missing.items() if world.is_main else ():
        note(f"left out: {' and '.join(titles)}, as {sentence}")
    if not tasks:
        raise UserError(f"{options.data.root} has the images of no task: put those of one there, as told above")
    return tasks, PROTOCOLS["paper" if options.finetune == "paper" else "light"]


def reading(recorded: DataConfig | None) -> dict[str, Any]:
    """How a run read its images, which holds for others too."""
    return {} if recorded is None else {"workers": recorded.workers, "on_error": recorded.on_error}
