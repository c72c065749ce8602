"""`vitral eval`: what a trained model is worth on held-out images."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vitral.commands.checkpoint import beside, load_checkpoint
from vitral.commands.evaluate import imagenet, segmentation, suite
from vitral.commands.evaluate.suite import SUITES
from vitral.commands.output import (
    check_out,
    note,
    parsed_by_tyro,
    picture_path,
    print_json,
    printable,
    progress_bar,
    split_off,
    write_table,
)
from vitral.config import load_config
from vitral.data.config import DataConfig
from vitral.data.sources.folder import list_folder
from vitral.data.sources.source import FileSource, Source
from vitral.datasets.opening import open_data
from vitral.distributed.world import SINGLE_PROCESS, World, join_processes
from vitral.errors import UserError
from vitral.evals.accuracy import Accuracy, Predictions
from vitral.evals.calibration import calibration
from vitral.evals.confusion import draw_confusion
from vitral.evals.evaluate import TIMEOUT, check_finite, final_split, predict_all, read_by_first
from vitral.evals.relabel import relabel
from vitral.evals.reliability import draw_reliability
from vitral.models import Model
from vitral.serve.predictor import Predictor
from vitral.train.config import RunConfig
from vitral.weights.class_names.imagenet import imagenet_aliases

__all__ = ["Options", "held_out_images", "main", "predictions", "run_data"]

USAGE = """usage: vitral eval RUN [--split test|val|train|all] [--data.KEY VALUE ...] [--out FILE] [--json]

Measures a trained model on images it did not learn from: top-1 and top-5 accuracy, loss, calibration error (ECE)
and the accuracy of every class; draws the confusion matrix into RUN/confusion.png, and confidence beside
accuracy into RUN/reliability.png. --out names another picture (.png), or a file for the table (.md, .csv, .json).

The images are those that the run held out. Others, in one folder a class:
  vitral eval RUN --data.source folder --data.root photos --split all
What its frozen representations are worth, whatever its classifier is:
  vitral eval RUN --suite knn|linear|fewshot|finetune|retrieval [--data.KEY VALUE ...] [--baselines] [--out TABLE.md]
  vitral eval RUN --suite vtab-mini [--finetune light|paper]     ten small tasks that need no download
  vitral eval RUN --suite segmentation --data.root DIR     train/ and test/, images/ and masks/ in each
  vitral eval RUN --suite imagenet --data.root DIR     validation images, ReaL, V2, ObjectNet, A, R, Sketch
  vitral eval RUN --suite vtab1k --data.root DIR [--finetune light|paper]     VTAB's nineteen tasks

A model without its run's record (run.json), another project's file or folder, or hf-hub:OWNER/NAME needs --data.root;
all images there are taken then. Folders are matched to classes by name; ImageNet's may be WordNet's n01440764 as well.

vitral eval RUN --help lists every key with its value."""

OTHERS = {"imagenet": imagenet.main, "segmentation": segmentation.main}
"""Suites that measure neither representations of whole images nor the run's own classes."""

MOST_CLASSES = 100
"""More are not listed one and all."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measures a trained model on images it did not learn from."""

    suite: Literal["accuracy"] = "accuracy"
    """What to measure; knn, linear, fewshot, finetune, retrieval, vtab-mini, vtab1k, imagenet and segmentation have
    options of their own.
    """
    split: Literal["test", "val", "train", "all"] | None = None
    """Which images; by default the held-out ones. all: every image of a folder that has no splits."""
    data: DataConfig
    """The images; by default the run's own."""
    out: Path | None = None
    """File for the table: .md, .csv or .json. Or, as .png, the picture of the confusion matrix, by default
    RUN/confusion.png; here where RUN is no folder. That of confidence and accuracy lies beside it.
    """
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes a GPU where there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(arguments: list[str]) -> None:
    """Measures a model by the suite that is named, by default its classifier's accuracy."""
    if not arguments or arguments[0].startswith("-"):
        asked = arguments[:1] in (["-h"], ["--help"])
        if arguments and not asked:
            raise UserError(f"name the model's folder before {arguments[0]}: vitral eval RUN {arguments[0]} ...")
        print(USAGE)
        raise SystemExit(0 if asked else 2)
    run = Path(arguments[0])
    name, _ = split_off(arguments[1:], "--suite", "vitral eval")
    known = ("accuracy", *SUITES, *OTHERS)
    if name not in (None, *known):
        raise UserError(f"there is no suite {name!r}: --suite takes one of {', '.join(known)}")
    model = load_checkpoint(run)
    recorded = run_data(run)
    if name in OTHERS:
        OTHERS[name](run, arguments[1:], model=model)
    elif name in SUITES:
        suite.main(run, arguments[1:], model=model, recorded=recorded)
    else:
        measure_accuracy(run, arguments[1:], model=model, recorded=recorded)


def measure_accuracy(run: Path, arguments: list[str], *, model: Model, recorded: DataConfig | None) -> None:
    """Evaluates and prints tables; with `--json`, one object with the same figures and the confusion matrix."""
    if (run / "run.json").is_file() and load_config(RunConfig, run / "run.json").objective.evaluate_by != "labels":
        raise UserError(
            f"{run} has learned without classes, so there is no accuracy: measure it with --suite knn or linear, or "
            "fine-tune it first"
        )
    default = recorded or DataConfig(source="folder")
    options = parsed(run, arguments, data=default)
    if recorded is None and options.data == default:
        raise UserError(f"{run} has no run.json that tells its data: name the images with --data.root")
    check_out(options.out, endings=(".png", ".md", ".csv", ".json"))
    drawn = options.out if options.out and options.out.suffix.lower() == ".png" else None
    picture = picture_path(drawn, default=beside(run, "confusion.png"))
    reliability = picture.with_name(f"{picture.stem}-reliability.png" if drawn else "reliability.png")
    unsplit = recorded is None and options.split is None and options.data.source == "folder"
    split, source = held_out_images(options.data, "all" if unsplit else options.split)
    with join_processes(timeout=TIMEOUT) as world:
        predictor = Predictor(model, device=world.device(options.device))
        classes = predictor.card.classes
        source = relabel(source, classes, aliases=imagenet_aliases(classes))
        start = time.perf_counter()
        told = predictions(predictor, source, options.data, world=world)
        seconds = time.perf_counter() - start
    if not world.is_main:
        return
    check_finite(told.confidence)
    classes, result = occurring(classes, told.accuracy())
    for sentence in result.unreadable:
        note(f"left out: {sentence}")
    whole = as_json(run, split, classes, result, picture) | {"seconds": round(seconds, 3)}
    if options.json:
        print_json(whole)
    else:
        print_tables(run, split, classes, result, seconds)
    # last, as a full disk must not cost the figures
    if options.out is not None and drawn is None:
        write_table(options.out, as_rows(classes, result, seconds), whole)
    draw_confusion(result.confusion(), classes, picture)
    draw_reliability(calibration(told.confidence, told.top[:, 0] == told.truth), reliability)
    if not options.json:
        print(printable(f"confusion matrix: {picture}\nconfidence and accuracy: {reliability}"))


def parsed(run: Path, arguments: list[str], *, data: DataConfig) -> Options:
    """The command's arguments; `data` gives way altogether where they name a source of another kind."""
    program = f"vitral eval {run}"
    options = parsed_by_tyro(Options, default=Options(data=data), arguments=arguments, program=program)
    if options.data.source == data.source:
        return options
    default = Options(data=DataConfig(source=options.data.source))
    return parsed_by_tyro(Options, default=default, arguments=arguments, program=program)


def run_data(run: Path) -> DataConfig | None:
    """The data a run was trained on; None where its record did not come along with the model."""
    record = run / "run.json"
    return load_config(RunConfig, record).data if record.is_file() else None


def held_out_images(config: DataConfig, split: str | None) -> tuple[str, Source]:
    """The images of a split, by default of the one that a run reports at its end, and the split's name.

    Raises:
        UserError: the data is not there, or has no such split.
    """
    if split == "all":
        return split, every_image(config)
    data = open_data(config)
    split = split or final_split(data)
    if split not in data:
        raise UserError(f"the data has no {split} split, only {' and '.join(data)}: choose --split {final_split(data)}")
    return split, data[split]


def every_image(config: DataConfig) -> FileSource:
    """All images of a folder without splits, even if it has one class alone, or a single image of some.

    Raises:
        UserError: the data is no such folder.
    """
    if config.source != "folder":
        raise UserError(f"--split all is for folders of images: --data.source {config.source} has splits of its own")
    root = config.root
    if root is None or not root.is_dir():
        raise UserError(f"{root or '--data.root'} is no folder: give the folder of the images as --data.root")
    splits = list_folder(root)
    if len(splits) > 1:
        raise UserError(f"{root} has splits of its own: choose one with --split, of {', '.join(splits)}")
    classes = splits["train"]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    files = tuple(file for members in classes.values() for file in members)
    return FileSource(root=root, files=files, labels=labels, classes=tuple(classes))


def predictions(
    predictor: Predictor, source: Source, data: DataConfig, *, world: World = SINGLE_PROCESS
) -> Predictions:
    """Evaluates with a progress bar, which is the first process's own of all that share the work."""
    with progress_bar(shown=world.is_main) as bar:
        task = bar.add_task("evaluating", total=read_by_first(len(source), world))

        def predict(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b classes"]:
            bar.advance(task, len(images))
            return predictor.logits(images)

        return predict_all(predict, source, preprocessing=predictor.card.preprocessing, data=data, world=world)


def occurring(classes: tuple[str, ...], result: Accuracy) -> tuple[tuple[str, ...], Accuracy]:
    """All classes, of many those alone that some image has or is taken for; and the result for these."""
    if len(classes) <= MOST_CLASSES:
        return classes, result
    seen = torch.cat([result.truth, result.predicted]).unique()
    kept = tuple(classes[index] for index in seen.tolist())
    truth, predicted = (torch.searchsorted(seen, part) for part in (result.truth, result.predicted))
    return kept, replace(result, truth=truth, predicted=predicted, num_classes=len(kept))


def as_json(run: Path, split: str, classes: tuple[str, ...], result: Accuracy, picture: Path) -> dict[str, Any]:
    """Everything that was measured; accuracies are fractions."""
    return {
        "run": str(run),
        "split": split,
        "num_images": result.num_images,
        **dict(result.metrics()),
        "classes": [
            {"name": name, "num_images": count, "accuracy": share} for name, count, share in of_classes(classes, result)
        ],
        "confusion": result.confusion().tolist(),
        "unreadable": list(result.unreadable),
        "picture": str(picture),
    }


def as_rows(classes: tuple[str, ...], result: Accuracy, seconds: float) -> list[list[str]]:
    """A head, then one row for all images and one for each class."""
    rows = [["class", "top-1", "top-5", "loss", "ECE", "images", "seconds"]]
    whole = (f"{result.top1:.2%}", f"{result.top5:.2%}", f"{result.loss:.4f}", f"{result.ece:.2%}")
    rows.append(["all", *whole, str(result.num_images), f"{seconds:.2f}"])
    for name, count, share in of_classes(classes, result):
        rows.append([name, f"{share:.2%}" if count else "-", "", "", "", str(count), ""])
    return rows


def of_classes(classes: tuple[str, ...], result: Accuracy) -> Iterator[tuple[str, int, float]]:
    """Of each class its name, its images and its accuracy."""
    counts = result.truth.bincount(minlength=len(classes)).tolist()
    return zip(classes, counts, result.per_class().tolist(), strict=True)


def print_tables(run: Path, split: str, classes: tuple[str, ...], result: Accuracy, seconds: float) -> None:
    """Overall figures, then those of every class."""
    console = Console(highlight=False)
    console.print(printable(f"{run}, {split} images"), markup=False, soft_wrap=True)
    whole = Table("measure")
    whole.add_column("value", justify="right")
    whole.add_row("images", f"{result.num_images:,}")
    if result.unreadable:
        whole.add_row("left out, unreadable", f"{len(result.unreadable):,}")
    whole.add_row("top-1 accuracy", f"{result.top1:.2%}")
    whole.add_row("top-5 accuracy", f"{result.top5:.2%}")
    whole.add_row("loss (nats)", f"{result.loss:.4f}")
    whole.add_row("calibration error (ECE)", f"{result.ece:.2%}")
    whole.add_row("seconds", f"{seconds:.2f}")
    console.print(whole)
    table = Table("class")
    table.add_column("accuracy", justify="right")
    table.add_column("images", justify="right")
    for name, count, share in of_classes(classes, result):
        table.add_row(printable(name), f"{share:.2%}" if count else "-", f"{count:,}")
    console.print(table)
