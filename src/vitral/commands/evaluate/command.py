"""`vitral eval`: evaluates a trained model on held-out images."""

import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vitral.commands.arguments.checks import check_output, picture_path
from vitral.commands.arguments.flags import parse_config
from vitral.commands.arguments.weights import source_options
from vitral.commands.evaluate import imagenet, imagenet_c, segmentation, suite
from vitral.commands.evaluate.targets import check_target, predict_targets_of, report_targets
from vitral.commands.loading import channels_of, check_channels, check_head, load_classifier, output_path
from vitral.commands.output import note, print_json, printable, progress_bar, write_table
from vitral.data.config import DataConfig
from vitral.data.images.bands import image_suffixes
from vitral.data.images.preprocess import PixelBatch
from vitral.data.sources.folder import list_folder
from vitral.data.sources.source import FileSource, Source
from vitral.datasets.opening import open_data, open_stored
from vitral.distributed.world import SINGLE_PROCESS, World, join_processes
from vitral.errors import UserError
from vitral.evals.accuracy import Accuracy
from vitral.evals.calibration import calibration
from vitral.evals.confusion import draw_confusion
from vitral.evals.loop import TIMEOUT, check_finite, num_images_on_main
from vitral.evals.predictions import Predictions, predict_all
from vitral.evals.relabel import relabel
from vitral.evals.reliability import draw_reliability
from vitral.evals.splits import final_split
from vitral.evals.target_predictions import TargetPredictions
from vitral.evals.tta import TTA
from vitral.export.exported import ExportedModel
from vitral.models import Model
from vitral.runs.run import Run
from vitral.serve.predictor import Precision, Predictor
from vitral.train.config import read_run_config
from vitral.weights.class_names.imagenet import imagenet_aliases

__all__ = ["Options", "main", "open_split", "predict_split", "run_data"]

OTHER_SUITES = {"imagenet": imagenet.main, "imagenet-c": imagenet_c.main, "segmentation": segmentation.main}
"""Suites that evaluate neither features of whole images nor the run's classes."""

MAX_CLASSES = 100
"""With more classes, only those that occur are listed."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Evaluate a trained model on held-out images."""

    suite: Literal["accuracy"] = "accuracy"
    """What to evaluate; knn, linear, fewshot, finetune, retrieval, vtab-mini, vtab1k, imagenet, imagenet-c and
    segmentation have their own options.
    """
    split: Literal["test", "val", "train", "all"] | None = None
    """Which images; by default the held-out ones. all: every image of a folder without splits."""
    data: DataConfig
    """The images; by default the run's own."""
    out: Path | None = None
    """File for the table: .md, .csv or .json. Or, as .png, the picture of the confusion matrix, by default
    RUN/confusion.png, or here if RUN is not a folder. The reliability diagram is written beside it.
    """
    tta: TTA = "none"
    """Test-time augmentation: probabilities are averaged over views of each image. flip: it and its mirror image.
    five-crop: the centre and the corners. ten-crop: these and their mirror images.
    """
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, xpu; auto: a GPU if there is one."""
    precision: Precision = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(options: Namespace) -> None:
    """Evaluates a model with the suite of `--suite`, by default its classifier's accuracy."""
    adapted = {"image_size": options.image_size, "token_merging": options.token_merging}
    model = load_classifier(options.run, **adapted, **source_options(options))
    if options.suite == "accuracy":
        evaluate_accuracy(options.run, options.rest, model=model, recorded=run_data(options.run))
    elif isinstance(model, ExportedModel):
        raise UserError(
            f"{options.run} gives logits only: evaluate the model it was made from with --suite {options.suite}"
        )
    elif options.suite in OTHER_SUITES:
        OTHER_SUITES[options.suite](options.run, options.rest, model=model)
    else:
        reading = source_options(options)
        suite.main(options.run, options.rest, model=model, recorded=run_data(options.run), reading=reading)


def evaluate_accuracy(
    run: Path, arguments: list[str], *, model: Model | ExportedModel, recorded: DataConfig | None
) -> None:
    """Prints tables; with `--json`, one object with the same metrics and the confusion matrix."""
    if (run / "run.json").is_file() and read_run_config(Run.open(run)).objective.evaluate_by != "labels":
        raise UserError(
            f"{run} was trained without classes, so it has no accuracy: evaluate it with --suite knn or linear, or "
            "fine-tune it first"
        )
    check_head(model, run)
    target = model.card.target if model.card else "class"
    default = recorded or DataConfig(source="folder", channels=channels_of(model), target=target)
    options = parse_options(run, arguments, data=default)
    if recorded is None and options.data == default:
        raise UserError(f"{run} has no run.json that names its data: give the images with --data.root")
    check_channels(model, options.data)
    check_target(model.card, options.data)
    check_output(options.out, suffixes=(".png", ".md", ".csv", ".json"))
    drawn = options.out if options.out and options.out.suffix.lower() == ".png" else None
    name = "confusion.png" if target == "class" else "scatter.png"
    picture = picture_path(drawn, default=output_path(run, name))
    reliability = picture.with_name(f"{picture.stem}-reliability.png" if drawn else "reliability.png")
    unsplit = recorded is None and options.split is None and options.data.source == "folder"
    split, source = open_split(options.data, "all" if unsplit else options.split)
    with join_processes(timeout=TIMEOUT) as world:
        predictor = Predictor(model, device=world.device(options.device), precision=options.precision, tta=options.tta)
        classes = predictor.card.classes
        source = relabel(source, classes, aliases=imagenet_aliases(classes))
        if options.tta != "none" and world.is_main:
            note(f"test-time augmentation: {options.tta}")
        start = time.perf_counter()
        predict = predict_split if target == "class" else predict_targets_of
        predictions = predict(predictor, source, options.data, world=world)
        seconds = time.perf_counter() - start
    if not world.is_main:
        return
    if isinstance(predictions, TargetPredictions):
        out = None if drawn else options.out
        request = Namespace(run=run, out=out, json=options.json, seconds=seconds, tta=options.tta)
        report_targets(request, predictions, predictor.card, split=split, picture=picture)
        return
    check_finite(predictions.confidence)
    classes, result = select_classes(classes, predictions.accuracy())
    for sentence in result.unreadable:
        note(f"skipped: {sentence}")
    whole = as_json(run, split, classes, result, picture) | {"tta": options.tta, "seconds": round(seconds, 3)}
    if options.json:
        print_json(whole)
    else:
        print_tables(run, split, classes, result, seconds)
    # last, so that a full disk does not lose the results
    if options.out is not None and drawn is None:
        write_table(options.out, as_rows(classes, result, seconds), whole)
    draw_confusion(result.confusion(), classes, picture)
    draw_reliability(calibration(predictions.confidence, predictions.top[:, 0] == predictions.truth), reliability)
    if not options.json:
        print(printable(f"confusion matrix: {picture}\nreliability diagram: {reliability}"))


def parse_options(run: Path, arguments: list[str], *, data: DataConfig) -> Options:
    """The command's options; if they name a source of another kind, nothing of `data` is used."""
    program = f"vitral eval {run}"
    options = parse_config(Options, default=Options(data=data), arguments=arguments, program=program)
    if options.data.source == data.source:
        return options
    default = Options(data=DataConfig(source=options.data.source, channels=data.channels, target=data.target))
    return parse_config(Options, default=default, arguments=arguments, program=program)


def run_data(run: Path) -> DataConfig | None:
    """The data that a run was trained on; None for a model without run.json."""
    return read_run_config(Run.open(run)).data if (run / "run.json").is_file() else None


def open_split(config: DataConfig, split: str | None) -> tuple[str, Source]:
    """A split's name and images, by default of the split that a run is evaluated on at its end.

    Raises:
        UserError: the data is missing, or has no such split.
    """
    if split == "all":
        return split, open_all(config)
    data = open_data(config)
    split = split or final_split(data)
    if split not in data:
        raise UserError(f"the data has no {split} split, only {' and '.join(data)}: choose --split {final_split(data)}")
    return split, data[split]


def open_all(config: DataConfig) -> Source:
    """All images of a folder without splits, which may have a single class, and single images of a class; of several
    labels or numbers, all images of any data without splits.

    Raises:
        UserError: the data is not such a folder.
    """
    if config.target != "class":
        splits = open_stored(config)
        if len(splits) > 1:
            raise UserError(f"{config.root} has splits: choose one with --split, of {', '.join(splits)}")
        return splits["train"]
    if config.source != "folder":
        raise UserError(f"--split all is for folders of images: --data.source {config.source} has splits")
    root = config.root
    if root is None or not root.is_dir():
        raise UserError(f"{root or '--data.root'} is not a folder: give the folder of the images as --data.root")
    splits = list_folder(root, suffixes=image_suffixes(config.channels))
    if len(splits) > 1:
        raise UserError(f"{root} has splits: choose one with --split, of {', '.join(splits)}")
    classes = splits["train"]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    files = tuple(file for members in classes.values() for file in members)
    return FileSource(root=root, files=files, labels=labels, classes=tuple(classes))


def predict_split(
    predictor: Predictor, source: Source, data: DataConfig, *, world: World = SINGLE_PROCESS
) -> Predictions:
    """Predictions for all images, with a progress bar on the main process."""
    with progress_bar(enabled=world.is_main) as bar:
        task = bar.add_task("evaluating", total=num_images_on_main(len(source), world))

        def predict(images: PixelBatch) -> Float[Tensor, "b classes"]:
            bar.advance(task, len(images))
            return predictor.logits(images)

        return predict_all(predict, source, preprocessing=predictor.preprocessing, data=data, world=world)


def select_classes(classes: tuple[str, ...], result: Accuracy) -> tuple[tuple[str, ...], Accuracy]:
    """All classes, or of many only those that are the true or predicted class of an image; and the result for these."""
    if len(classes) <= MAX_CLASSES:
        return classes, result
    present = torch.cat([result.truth, result.predicted]).unique()
    names = tuple(classes[index] for index in present.tolist())
    truth, predicted = (torch.searchsorted(present, labels) for labels in (result.truth, result.predicted))
    return names, replace(result, truth=truth, predicted=predicted, num_classes=len(names))


def as_json(run: Path, split: str, classes: tuple[str, ...], result: Accuracy, picture: Path) -> dict[str, Any]:
    """All results; accuracies are fractions."""
    return {
        "run": str(run),
        "split": split,
        "num_images": result.num_images,
        **dict(result.metrics()),
        "classes": [
            {"name": name, "num_images": count, "accuracy": accuracy}
            for name, count, accuracy in by_class(classes, result)
        ],
        "confusion": result.confusion().tolist(),
        "unreadable": list(result.unreadable),
        "picture": str(picture),
    }


def as_rows(classes: tuple[str, ...], result: Accuracy, seconds: float) -> list[list[str]]:
    """A header, then one row for all images and one for each class."""
    rows = [["class", "top-1", "top-5", "loss", "ECE", "images", "seconds"]]
    whole = (f"{result.top1:.2%}", f"{result.top5:.2%}", f"{result.loss:.4f}", f"{result.ece:.2%}")
    rows.append(["all", *whole, str(result.num_images), f"{seconds:.2f}"])
    for name, count, accuracy in by_class(classes, result):
        rows.append([name, f"{accuracy:.2%}" if count else "-", "", "", "", str(count), ""])
    return rows


def by_class(classes: tuple[str, ...], result: Accuracy) -> Iterator[tuple[str, int, float]]:
    """The name of each class, its number of images, and its accuracy."""
    counts = result.truth.bincount(minlength=len(classes)).tolist()
    return zip(classes, counts, result.per_class().tolist(), strict=True)


def print_tables(run: Path, split: str, classes: tuple[str, ...], result: Accuracy, seconds: float) -> None:
    """Prints the metrics of all images, then of every class."""
    console = Console(highlight=False)
    console.print(printable(f"{run}, {split} images"), markup=False, soft_wrap=True)
    whole = Table("metric")
    whole.add_column("value", justify="right")
    whole.add_row("images", f"{result.num_images:,}")
    if result.unreadable:
        whole.add_row("unreadable, skipped", f"{len(result.unreadable):,}")
    whole.add_row("top-1 accuracy", f"{result.top1:.2%}")
    whole.add_row("top-5 accuracy", f"{result.top5:.2%}")
    whole.add_row("loss (nats)", f"{result.loss:.4f}")
    whole.add_row("calibration error (ECE)", f"{result.ece:.2%}")
    whole.add_row("seconds", f"{seconds:.2f}")
    console.print(whole)
    table = Table("class")
    table.add_column("accuracy", justify="right")
    table.add_column("images", justify="right")
    for name, count, accuracy in by_class(classes, result):
        table.add_row(printable(name), f"{accuracy:.2%}" if count else "-", f"{count:,}")
    console.print(table)
