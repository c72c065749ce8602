"""`vitral eval MODEL --suite NAME`: evaluates the features of a frozen model, or fine-tunes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from vitral.commands.arguments.checks import check_output
from vitral.commands.arguments.evaluate import TASK_SUITES
from vitral.commands.arguments.flags import parse_config, pop_option
from vitral.commands.evaluate.arguments import check_cache, check_data
from vitral.commands.evaluate.progress import suite_progress
from vitral.commands.evaluate.tables import as_json, print_grids, print_suite, suite_table
from vitral.commands.loading import channels_of, check_channels
from vitral.commands.output import note, print_json, write_table
from vitral.data.config import DataConfig
from vitral.data.extra import optional
from vitral.data.sources.source import Subset
from vitral.data.sources.splits import stratified_split
from vitral.datasets.opening import open_data
from vitral.datasets.registry import tasks_of
from vitral.distributed.world import World, join_processes
from vitral.errors import UserError
from vitral.evals.loop import TIMEOUT
from vitral.evals.splits import final_split
from vitral.models import Model
from vitral.serve.predictor import Precision
from vitral.suites.extractors import feature_extractors
from vitral.suites.finetuning import PROTOCOLS, Protocol, finetune_config, select_protocol
from vitral.suites.published import VTAB1K_PUBLISHED
from vitral.suites.runner import FeatureExtractor, SuiteRunner, Task
from vitral.suites.transfer import FEW_SHOT, LINEAR_GRID, METHODS, RETRIEVAL
from vitral.train.config import RunConfig
from vitral.train.evaluation import evenly_spaced

__all__ = ["Options", "main", "open_data_task"]

MAX_TRAIN = 10_000
"""Default maximum of training images, except for the paper's protocol."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Evaluate the features of a frozen model (the input of its head), or fine-tune it."""

    suite: Literal["knn", "linear", "fewshot", "finetune", "retrieval", "vtab-mini", "vtab1k"]
    """knn: nearest neighbours, their number selected on validation images. linear: logistic regression. fewshot: 1, 5,
    10 and 25 images per class, with the classifiers of `--few-shot`. finetune: train all weights, with the learning
    rate selected on validation images. retrieval: search the other images for the class of each test image by cosine
    similarity. vtab-mini: ten small tasks that need no download, with knn, linear and fewshot, and with finetune if
    `--finetune` is light or paper. vtab1k: the same for the nineteen tasks of VTAB, with data sets in the folders of
    `--data.root`.
    """
    finetune: Literal["none", "light", "paper"] = "none"
    """How to fine-tune. light: 150 steps of 64 images at the model's size, with the best of four learning rates; the
    default of the suite finetune. paper: 512 images per step at 384 pixels; on vtab-mini and vtab1k 2,500 steps with
    the learning rate 0.01, as on VTAB; on other images the steps and learning rates of Table 4 for ImageNet, CIFAR,
    Pets or Flowers, or for the one of these with about as many images.
    """
    data: DataConfig
    """The images of knn, linear, fewshot, finetune and retrieval; by default the run's own."""
    few_shot: tuple[Literal["least-squares", "knn", "logistic"], ...] = ("least-squares",)
    """Classifiers that fewshot, vtab-mini and vtab1k train on the same few images per class: least squares as in
    big_vision, kNN with as many neighbours as images per class, logistic regression with C = 1.
    """
    grid: tyro.conf.FlagCreatePairsOff[bool] = False
    """linear: compare features of the last block and of the last four (class token, mean patch, both), each with six
    learning rates, on validation images, and use the best. Few-shot suites: add least squares with the regularisation
    of 2^-10 to 2^19 that is best over all tasks.
    """
    max_train: int | None = None
    """Maximum number of training images; by default 10,000, and all with `--finetune paper`. The tasks of vtab-mini and
    vtab1k have 1,000 each.
    """
    seeds: tuple[int, ...] = (0, 1, 2)
    """Random seeds of the few-shot samples, and of the final runs of fine-tuning."""
    baselines: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also evaluate the same architecture with random weights, and raw pixels."""
    cache: Path | None = None
    """Folder of cached features, by default MODEL/features; without a cache if MODEL is not a folder."""
    out: Path | None = None
    """File for the table: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, xpu; auto: a GPU if there is one."""
    precision: Precision = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU; of features, not of fine-tuning."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that evaluate frozen features."""
        few_shot = tuple(FEW_SHOT[classifier] for classifier in self.few_shot)
        if self.suite in TASK_SUITES:
            return ("knn", "linear", *few_shot)
        if self.compares_blocks:
            return (LINEAR_GRID,)
        return few_shot if self.suite == "fewshot" else tuple({self.suite} & {*METHODS, RETRIEVAL})

    @property
    def compares_blocks(self) -> bool:
        """Whether the linear probe is a grid of features and learning rates."""
        return self.grid and self.suite == "linear"

    @property
    def finetunes(self) -> bool:
        """Whether the suite fine-tunes."""
        return self.suite == "finetune" or self.finetune != "none"

    def stages(self, compared: Mapping[str, FeatureExtractor]) -> int:
        """Number of parts of each task, for the progress bar."""
        tuned = sum(extractor.initial_weights is not None for extractor in compared.values())
        return 2 * len(compared) * bool(self.methods) + tuned * self.finetunes


def main(
    run: Path, arguments: list[str], *, model: Model, recorded: DataConfig | None, reading: Mapping[str, Any]
) -> None:
    """Extracts features once for all methods, and prints a table; with `--json`, one object.

    Exits with code 1 if a task failed after it was started; the table then has the others.

    Args:
        run: the run, folder or file of the model.
        arguments: the command's options.
        model: the model.
        recorded: the data of the run, if it is one.
        reading: how the model's file was read, as in `load_with_report`.
    """
    suite = pop_option(arguments, "--suite", "vitral eval")[0]
    own = None if suite in TASK_SUITES else recorded
    default = Options(suite="knn", data=own or DataConfig(source="folder", **reading_settings(recorded, model)))
    options = parse_config(Options, default=default, arguments=arguments, program=f"vitral eval {run}")
    folder = options.cache or (run / "features" if run.is_dir() else None)
    check(options, default, folder)
    check_channels(model, options.data)
    with join_processes(timeout=TIMEOUT) as world:
        if world.size > 1 and options.finetunes:
            raise UserError("fine-tuning runs in one process: start it without torchrun")
        tasks, protocol = open_tasks(options, world) if options.suite in TASK_SUITES else open_data_task(options)
        if world.is_main and suite == "vtab-mini" and recorded is not None and recorded.source == "digits":
            note("Digits: the run was trained on most of this task's test images, so its accuracy is too high")
        # a task's answer may be at the edge of an image, so suites of tasks do not crop, as in VTAB
        compared = feature_extractors(
            model,
            device=world.device(options.device),
            squash=options.suite in TASK_SUITES,
            baselines=options.baselines,
            precision=options.precision,
            blocks=options.compares_blocks,
        )
        runs = finetuning_configs(run, protocol, compared, options, reading) if options.finetunes else {}
        with suite_progress(len(tasks) * options.stages(compared), enabled=world.is_main and not options.json) as bar:
            log = note if world.is_main else lambda _: None
            measuring = SuiteRunner(
                compared, tasks, data=options.data, folder=folder, world=world, progress=bar, log=log
            )
            if options.methods:
                measuring.extract()
            if world.is_main:
                evaluate(measuring, runs, protocol, options)
    if world.is_main:
        print_results(measuring, run, options)
    if world.is_main and measuring.failures:  # other processes end before: a failure of theirs would end this one
        raise SystemExit(1)


def check(options: Options, default: Options, folder: Path | None) -> None:
    """Checks the options before anything is computed.

    Raises:
        UserError: an option is out of range, or has no effect with the suite, or a package is missing.
    """
    check_output(options.out)
    check_cache(folder)
    if options.max_train is not None and options.max_train < 2:
        raise UserError("--max-train must be at least 2")
    if not options.seeds or min(options.seeds) < 0 or len({*options.seeds}) < len(options.seeds):
        raise UserError("--seeds takes numbers from 0 on, each once, such as --seeds 0 1 2")
    few_shot = options.suite in ("fewshot", *TASK_SUITES)
    if options.grid and not (few_shot or options.compares_blocks):
        raise UserError(f"--grid is for --suite linear, fewshot, {' and '.join(TASK_SUITES)}: leave it out")
    if options.compares_blocks and options.finetunes:
        raise UserError("--grid probes frozen blocks: run --finetune by itself")
    if options.few_shot != default.few_shot and not few_shot:
        raise UserError(f"--few-shot is for few-shot suites: choose --suite fewshot, {' or '.join(TASK_SUITES)}")
    if not options.few_shot or len({*options.few_shot}) < len(options.few_shot):
        raise UserError(f"--few-shot takes classifiers, each once, such as --few-shot {' '.join(FEW_SHOT)}")
    if options.suite == RETRIEVAL:
        optional("faiss", purpose=RETRIEVAL)
    if options.suite in TASK_SUITES:
        if options.max_train is not None:
            raise UserError(f"every task of {options.suite} has 1,000 training images: leave out --max-train")
        check_data(options.data, default.data, used=("root", "on_error", "workers"), suite=options.suite)


def finetuning_configs(
    run: Path,
    protocol: Protocol,
    compared: Mapping[str, FeatureExtractor],
    options: Options,
    reading: Mapping[str, Any],
) -> dict[str, RunConfig]:
    """The fine-tuning run of each feature extractor with weights.

    Raises:
        UserError: the model cannot be fine-tuned.
    """
    settings = partial(finetune_config, run, protocol, data=options.data, device=options.device, **reading)
    return {
        name: settings(fresh=extractor.initial_weights == "random")
        for name, extractor in compared.items()
        if extractor.initial_weights is not None
    }


def evaluate(measuring: SuiteRunner, runs: Mapping[str, RunConfig], protocol: Protocol, options: Options) -> None:
    """Evaluates the features, then fine-tunes."""
    if options.methods:
        measuring.evaluate(options.methods, seeds=options.seeds, grid=options.grid and not options.compares_blocks)
    if runs and protocol.table4_dataset is not None:
        note(
            f"fine-tuning as the paper does on {protocol.table4_dataset}: {protocol.steps:,} steps of "
            f"{protocol.batch_size} images of {protocol.image_size} pixels, the learning rate selected on "
            f"{protocol.val_fraction:.0%} of the training images"
        )
    measuring.finetune(runs, protocol, seeds=options.seeds)
    if measuring.score_cache.hits:
        note(f"{measuring.score_cache.hits} results were read from the cache {measuring.score_cache.folder}")


def print_results(measuring: SuiteRunner, run: Path, options: Options) -> None:
    """Prints the results, and writes them to `--out`."""
    groups = {title: task.group for title, task in measuring.tasks.items()}
    published = {"vtab1k": VTAB1K_PUBLISHED}.get(options.suite, {})
    rows = suite_table(measuring.scores, groups, published)
    results = as_json(run, options.suite, measuring.scores, groups, measuring.failures)
    results |= {"published": published} if published else {}
    if options.json:
        print_json(results)
    else:
        print_suite(f"{run}, suite {options.suite}", rows)
        print_grids(measuring.scores)
    if options.out is not None:
        write_table(options.out, rows, results)


def open_data_task(options: Options) -> tuple[dict[str, Task], Protocol]:
    """One task from the images of `--data`, and how to fine-tune on it.

    Raises:
        UserError: the data is missing, has no classes, or too few images.
    """
    if options.data.target != "class":
        raise UserError(
            f"--suite {options.suite} needs one class for each image, and --data.target is {options.data.target}: "
            "leave out --suite, or name images with classes, and --data.target class"
        )
    data = open_data(options.data)
    form = "paper" if options.finetune == "paper" else "light"
    max_train = options.max_train or (len(data["train"]) if form == "paper" else MAX_TRAIN)
    train = evenly_spaced(data["train"], max_train)
    if len(train.classes) < 2:
        raise UserError("the images have fewer than two classes: choose --data.source folder, or --suite vtab-mini")
    protocol = select_protocol(form, options.data.source, num_images=len(train))
    reported = final_split(data)
    # on its own data sets the paper holds out a fraction of the training images, and uses no other images
    as_in_paper = protocol.table4_dataset == options.data.source and options.data.val_fraction is None
    if "val" in data and reported != "val" and not as_in_paper:
        parts = {"train": train, "val": data["val"]}
    else:  # the reported images select nothing
        if 1 in (counts := np.bincount(train.labels)):
            raise UserError(
                f"class {train.classes[counts.tolist().index(1)]!r} has a single image among the {len(train):,} "
                "training images, so none can be held out for validation: raise --max-train or --data.limit, or add "
                "images"
            )
        if options.data.group_column or options.data.group_pattern:
            note("the validation images are not split by groups: give --data.val-fraction to hold out whole groups")
        train_part, val_part = stratified_split(train.labels, train.classes, fraction=protocol.val_fraction, seed=0)
        parts = {
            "train": Subset(source=train, indices=train_part),
            "val": Subset(source=train, indices=val_part),
        }
    return {"data": Task(splits={**parts, "test": data[reported]}, group="data")}, protocol


def open_tasks(options: Options, world: World) -> tuple[dict[str, Task], Protocol]:
    """The tasks of the suite whose images are here, and how to fine-tune on them; the main process lists the others.

    Raises:
        UserError: no task has its images here.
    """
    tasks, missing = {}, {}
    for task in tasks_of(options.suite).values():
        try:
            splits = task.open(options.data.root)
            tasks[task.title] = Task(splits=splits, group=task.group, crop=task.crop, flip=task.flip)
        except UserError as error:
            missing.setdefault(str(error), []).append(task.title)
    if not tasks and len(missing) == 1:
        raise UserError(next(iter(missing)))
    for sentence, titles in missing.items() if world.is_main else ():
        note(f"skipped: {' and '.join(titles)}: {sentence}")
    if not tasks:
        raise UserError(f"{options.data.root} has the images of no task: add those of one of the tasks above")
    return tasks, PROTOCOLS["paper" if options.finetune == "paper" else "light"]


def reading_settings(recorded: DataConfig | None, model: Model) -> dict[str, Any]:
    """Settings of a run and its model that apply to reading any images."""
    channels = {"channels": channels_of(model)}
    return channels if recorded is None else {**channels, "workers": recorded.workers, "on_error": recorded.on_error}
