"""The report of a run, one self-contained HTML page: metrics, curves, mistakes, speed, configuration."""

import base64
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitral import __version__
from vitral.card import ModelCard
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source, read_from
from vitral.data.sources.targets import label_counts
from vitral.errors import one_line, translate_parser_errors
from vitral.evals.predictions import Predictions
from vitral.evals.target_predictions import TargetPredictions
from vitral.files import printable, write_atomically
from vitral.runs.assessment import Assessment
from vitral.runs.charts import HEIGHT, WIDTH, Chart, Curve, chart
from vitral.runs.metrics import training_seconds
from vitral.runs.panels import PANELS
from vitral.runs.report_targets import SCATTER, answers, label_rows, worst_images

__all__ = ["REPORT", "ReportData", "write_report"]

REPORT = "report.html"
"""Name of the page in a run's folder, and of its template."""

NUM_SAMPLES = 12
"""Number of images in each row of examples."""

MAX_TABLE, MAX_LIST = 24, 20
"""The confusion matrix of more classes is a list of its largest entries."""

FRACTIONS = {
    "top1": "accuracy",
    "top5": "top-5 accuracy",
    "ece": "calibration error",
    "knn": "kNN accuracy",
    "linear": "linear probe",
    "map": "mAP",
    "map_micro": "mAP, micro",
    "f1": "F1",
    "f1_micro": "F1, micro",
    "exact": "all labels right",
    "logistic_regression": "accuracy of logistic regression",
    "nearest_neighbour": "accuracy of the nearest neighbour",
    "majority_class": "accuracy of the most frequent class",
}
"""Metrics that are shown in percent, and their titles."""

UNITS = ("mae", "rmse")
"""Metrics in the unit of a number that is predicted."""

TITLES = FRACTIONS | {"r2": "R2", "mae": "MAE", "rmse": "RMSE"}
"""Titles of metrics; others have their name."""

THUMBNAIL = 160
"""Pixels of the longer side of an image, at most."""

PIXELATED = 64
"""Images with fewer pixels a side are enlarged without smoothing."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """The content of the page."""

    settings: dict[str, Any]
    """The configuration as in `run.json`."""
    card: ModelCard | None
    """Of the trained model; None while the run is unfinished."""
    records: list[dict[str, Any]]
    """Of `metrics.jsonl`."""
    speed: dict[str, Any] | None
    """Of `speed.json`; None if speed was not measured."""
    data: Mapping[str, Source] | str
    """Images of each split, or the reason why they are missing."""
    split: str = "test"
    """The split of the final evaluation."""
    predictions: Predictions | TargetPredictions | None = None
    """Predictions for that split."""
    assessment: Assessment | None = None
    """The model beside simple methods."""


def write_report(folder: Path, data: ReportData) -> Path:
    """Writes the page into a run's folder.

    Raises:
        UserError: a file of the run is damaged.
        OSError: the page cannot be written.
    """
    # imported here because only the end of a run needs it
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template, path = environment.get_template(REPORT), folder / REPORT
    # their values may be of any type
    with translate_parser_errors(
        lambda error: f"{path} cannot be written, because speed.json or metrics.jsonl is damaged: {one_line(error)}"
    ):
        page = template.render(template_context(folder, data))
    write_atomically(path, lambda file: file.write(printable(page).encode()))
    return path


def template_context(folder: Path, data: ReportData) -> dict[str, Any]:
    """The variables of the template."""
    settings, card = data.settings, data.card
    classes = card.classes if card else ()
    versions = card.provenance if card else {}
    return {
        "name": folder.resolve().name,
        "recipe": settings["recipe"],
        "finished": card is not None,
        "summary": summary(data),
        "charts": charts(data.records),
        "size": (WIDTH, HEIGHT),
        "evaluations": evaluations(data.records),
        "split": data.split,
        "confusion": confusion(data.predictions, classes) if isinstance(data.predictions, Predictions) else None,
        "labels": label_rows(data.predictions, card) if isinstance(data.predictions, TargetPredictions) else (),
        "assessment": data.assessment,
        "scatter": inline_png(folder / SCATTER),
        "rows": examples(data, classes),
        "panels": inline_png(folder / PANELS),
        "unreadable": data.predictions.unreadable if data.predictions else (),
        "data": data_table(data.data),
        "speed": data.speed,
        "config": json.dumps(settings, indent=2),
        "commands": settings["command"],
        "changes": settings["changes"],
        "versions": {
            "vitral": versions.get("vitral", __version__),
            "torch": versions.get("torch", torch.__version__),
            "python": versions.get("python", platform.python_version()),
        },
    }


def summary(data: ReportData) -> list[tuple[str, str]]:
    """The most important numbers, by name."""
    steps = [record for record in data.records if "train/loss" in record]
    rows = []
    for key, value in data.card.metrics.items() if data.card else ():
        split, metric = key.split("/", 1)
        rows.append((f"{split} {TITLES.get(metric, metric)}", format_metric(metric, value)))
    rows.append(("steps", f"{steps[-1]['step'] if steps else 0:,}"))
    seconds = training_seconds(data.records, batch_size=data.settings["train"]["batch_size"])
    rows.append(("training time", f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"))
    if data.speed:
        rows.append(("images per second", f"{data.speed['images_per_second']:,.0f}"))
    return rows


def format_metric(metric: str, value: float) -> str:
    """A fraction in percent; an error in the numbers' unit with four digits; any other metric with four decimals."""
    return f"{value:.2%}" if metric in FRACTIONS else f"{value:,.4g}" if metric in UNITS else f"{value:.4f}"


def charts(records: list[dict[str, Any]]) -> list[Chart]:
    """Loss, accuracy, learning rate and speed over the steps."""

    def curve(label: str, key: str, kind: str) -> Curve:
        points = [(record["step"], record[key]) for record in records if key in record]
        return Curve(label=label, kind=kind, points=points)

    def held_out(measure: str) -> list[Curve]:
        return [curve(split, f"{split}/{measure}", split) for split in ("val", "test")]

    loss = [curve("training", "train/loss", "train"), *held_out("loss")]
    accuracy = [curve("training", "train/accuracy", "train"), *held_out("top1")]
    labels = [
        curve(f"{split} {title}", f"{split}/{key}", kind)
        for split in ("val", "test")
        for key, title, kind in (("map", "mAP", "test"), ("f1", "F1", "val"))
    ]
    errors = [curve("training", "train/mae", "train"), *held_out("mae")]
    probes = [(split, key) for split in ("val", "test") for key in ("knn", "linear")]
    # one dashed, one not
    kinds = {"knn": "val", "linear": "test"}
    accuracy += [curve(f"{split} {FRACTIONS[key]}", f"{split}/{key}", kinds[key]) for split, key in probes]
    rate, speed = curve("learning rate", "lr", "train"), curve("images per second", "images_per_second", "train")
    drawn = [
        chart("Loss", loss, format_value=lambda value: f"{value:.3g}"),
        chart("Accuracy", accuracy, format_value=lambda value: f"{100 * value:.3g}%"),
        chart("mAP and F1", labels, format_value=lambda value: f"{100 * value:.3g}%"),
        chart("Mean absolute error", errors, format_value=lambda value: f"{value:.3g}"),
        chart("Learning rate", [rate], format_value=lambda value: f"{value:.2g}"),
        chart("Images per second", [speed], format_value=lambda value: f"{value:,.0f}"),
    ]
    return [picture for picture in drawn if picture]


def evaluations(records: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of every evaluation: column titles, and rows of step, split and values."""
    evaluated = []
    for record, split in product(records, ("val", "test")):
        metrics = {key.removeprefix(f"{split}/"): value for key, value in record.items() if key.startswith(f"{split}/")}
        if metrics:
            evaluated.append((record["step"], split, metrics))
    names = list(dict.fromkeys(name for _, _, metrics in evaluated for name in metrics))
    return {
        "titles": [TITLES.get(name, name) for name in names],
        "rows": [
            (step, split, [format_metric(name, metrics[name]) if name in metrics else "" for name in names])
            for step, split, metrics in evaluated
        ],
    }


def confusion(predictions: Predictions | None, classes: tuple[str, ...]) -> dict[str, Any] | None:
    """The confusion matrix as a table, or its largest entries if there are many classes."""
    if predictions is None:
        return None
    count = len(classes)
    predicted, num_images = predictions.top[:, 0], predictions.truth.bincount(minlength=count)
    num_correct = predictions.truth[predicted == predictions.truth].bincount(minlength=count)
    wrong = predicted != predictions.truth
    # not the whole matrix, which would take gigabytes for tens of thousands of classes
    pairs, counts = (predictions.truth[wrong] * count + predicted[wrong]).unique(return_counts=True)
    most = counts.argsort(descending=True, stable=True)[:MAX_LIST]
    present = num_images.nonzero()[:, 0]
    worst = present[(num_correct[present] / num_images[present]).argsort(stable=True)][:MAX_LIST].tolist()
    return {
        "whole": count <= MAX_TABLE,
        "classes": classes,
        "cells": cells(predictions, count) if count <= MAX_TABLE else [],
        "pairs": [
            (classes[pair // count], classes[pair % count], number, int(num_images[pair // count]))
            for pair, number in zip(pairs[most].tolist(), counts[most].tolist(), strict=True)
        ],
        "worst": [(classes[row], int(num_correct[row]) / int(num_images[row]), int(num_images[row])) for row in worst],
    }


def cells(predictions: Predictions, count: int) -> list[list[tuple[int, float]]]:
    """For each cell of the confusion matrix the number of images, and the fraction of its row."""
    matrix = (predictions.truth * count + predictions.top[:, 0]).bincount(minlength=count**2).reshape(count, count)
    fractions = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    return [list(zip(*rows, strict=True)) for rows in zip(matrix.tolist(), fractions.tolist(), strict=True)]


def examples(data: ReportData, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of images: the most confident mistakes, and evenly spaced images of the split."""
    predictions, splits = data.predictions, data.data
    if predictions is None or isinstance(splits, str) or data.split not in splits or data.card is None:
        return []
    title, worst = "Most confident mistakes", []
    if isinstance(predictions, TargetPredictions):
        title, worst = worst_images(predictions, data.card, count=NUM_SAMPLES)
    else:
        wrong = (predictions.top[:, 0] != predictions.truth).nonzero()[:, 0]
        worst = wrong[predictions.confidence[wrong].argsort(descending=True, stable=True)][:NUM_SAMPLES].tolist()
    count = len(predictions.truth)
    spaced = np.linspace(0, count - 1, min(NUM_SAMPLES, count)).round().astype(int).tolist()
    return [
        {"title": title, "images": [example(data, splits[data.split], classes, row) for row in rows]}
        for title, rows in ((title, worst), ("Evenly spaced images", spaced))
        if rows
    ]


def example(data: ReportData, source: Source, classes: tuple[str, ...], row: int) -> dict[str, Any]:
    """One image and its prediction."""
    predictions = data.predictions
    assert predictions is not None
    assert data.card is not None
    index = int(predictions.positions()[row])
    if isinstance(predictions, TargetPredictions):
        answer = answers(predictions, data.card, row) | {"confidence": None}
    else:
        predicted, truth = int(predictions.top[row, 0]), int(predictions.truth[row])
        answer = {
            "truth": classes[truth],
            "predicted": classes[predicted],
            "correct": predicted == truth,
            "confidence": float(predictions.confidence[row]),
        }
    return {
        "name": source.name(index),
        "picture": inline_image(source, index, data.card.preprocessing),
        "pixelated": data.settings["preprocessing"]["image_size"][0] < PIXELATED,
        **answer,
    }


def inline_image(source: Source, index: int, preprocessing: Preprocessing | None) -> str | None:
    """An image as a data URL; None if it is no longer readable."""
    try:
        if preprocessing is not None and preprocessing.bands:
            image = preprocessing.picture(preprocessing.read(source.stored(index), name=source.name(index)))
        else:
            image = read_from(source, index, channels=3)
    except (UnreadableImage, OSError):
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    form = "PNG" if max(image.size) < PIXELATED else "JPEG"
    buffer = BytesIO()
    image.save(buffer, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def inline_png(path: Path) -> str | None:
    """A PNG file as a data URL; None if there is no such file."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else None


def data_table(data: Mapping[str, Source] | str) -> dict[str, Any]:
    """Number of images by split and class; if there are many classes, of the largest ones."""
    if isinstance(data, str):
        return {"missing": data, "splits": {}, "rows": [], "more": 0}
    counts = {split: label_counts(source) for split, source in data.items()}
    classes = next(iter(data.values())).classes
    order = list(range(len(classes)))
    if len(classes) > 5 * MAX_LIST:
        order = sorted(order, key=lambda number: -sum(int(count[number]) for count in counts.values()))[: 5 * MAX_LIST]
    return {
        "missing": "",
        "splits": {split: len(source) for split, source in data.items()},
        "rows": [(classes[number], [int(count[number]) for count in counts.values()]) for number in order],
        "more": len(classes) - len(order),
    }
