"""The page about a run, one file that needs nothing else: figures, curves, mistakes, speed, configuration."""

import base64
import json
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitral import __version__
from vitral.card import ModelCard
from vitral.config import to_dict
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, read_from
from vitral.evals.accuracy import Predictions
from vitral.files import printable, write_atomically
from vitral.runs.charts import HEIGHT, WIDTH, Chart, Curve, chart
from vitral.runs.metrics import training_seconds
from vitral.runs.panels import PANELS
from vitral.train.config import RunConfig

__all__ = ["REPORT", "ReportData", "write_report"]

REPORT = "report.html"
"""The page's name in a run's folder."""

SHOWN = 12
"""Images in each row of examples."""

LARGEST_TABLE, LONGEST_LIST = 24, 20
"""Up to so many classes the confusion matrix is a table; otherwise its largest entries are listed."""

SHARES = {
    "top1": "accuracy",
    "top5": "top-5 accuracy",
    "ece": "calibration error",
    "knn": "kNN accuracy",
    "linear": "linear probe",
}
"""Figures that are shares, and what to call them."""

SIDE = 160
"""Pixels of a picture's longer side; one with fewer is shown as it is."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that the page tells of a run."""

    config: RunConfig
    card: ModelCard | None
    """None: the run has not finished."""
    records: list[dict[str, Any]]
    """Its record."""
    speed: dict[str, Any] | None
    """Where its time went; None where that was not measured."""
    data: Mapping[str, Source] | str
    """Its images, or a sentence on why they cannot be had."""
    split: str = "test"
    """The split of the final evaluation."""
    predictions: Predictions | None = None
    """What the model said of that split's images."""


def write_report(folder: Path, findings: ReportData) -> Path:
    """Writes the page into a run's folder.

    Raises:
        OSError: it cannot be written.
    """
    # imported here because a run needs it only when it ends
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(REPORT).render(told(folder, findings))
    path = folder / REPORT
    write_atomically(path, lambda file: file.write(printable(page).encode()))
    return path


def told(folder: Path, findings: ReportData) -> dict[str, Any]:
    """What the page's template asks for, by name."""
    config, card = findings.config, findings.card
    classes = card.classes if card else ()
    versions = card.provenance if card else {}
    return {
        "name": folder.resolve().name,
        "recipe": config.recipe,
        "finished": card is not None,
        "summary": summary(findings),
        "charts": charts(findings.records),
        "size": (WIDTH, HEIGHT),
        "evaluations": evaluations(findings.records),
        "split": findings.split,
        "confusion": confusion(findings.predictions, classes),
        "rows": examples(findings, classes),
        "panels": inlined(folder / PANELS),
        "broken": findings.predictions.unreadable if findings.predictions else (),
        "data": data_table(findings.data),
        "speed": findings.speed,
        "config": json.dumps(to_dict(config), indent=2),
        "commands": config.command,
        "changes": config.changes,
        "versions": {
            "vitral": versions.get("vitral", __version__),
            "torch": versions.get("torch", torch.__version__),
            "python": versions.get("python", platform.python_version()),
        },
    }


def summary(findings: ReportData) -> list[tuple[str, str]]:
    """The figures to see first, by name."""
    config, steps = findings.config, [record for record in findings.records if "train/loss" in record]
    last = steps[-1] if steps else {"step": 0}
    figures = []
    for name, value in findings.card.metrics.items() if findings.card else ():
        what = SHARES.get(name.split("/")[1])
        figures.append((f"{name.split('/')[0]} {what or 'loss'}", f"{value:.2%}" if what else f"{value:.4f}"))
    figures.append(("steps", f"{last['step']:,}"))
    seconds = training_seconds(findings.records, batch_size=config.train.batch_size)
    figures.append(("time of training", f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"))
    if findings.speed:
        figures.append(("images a second", f"{findings.speed['images_per_second']:,.0f}"))
    return figures


def charts(records: list[dict[str, Any]]) -> list[Chart]:
    """Loss, accuracy, learning rate and speed over the steps."""

    def curve(label: str, key: str, kind: str) -> Curve:
        points = [(record["step"], record[key]) for record in records if key in record]
        return Curve(label=label, kind=kind, points=points)

    def held_out(measure: str) -> list[Curve]:
        return [curve(split, f"{split}/{measure}", split) for split in ("val", "test")]

    loss = [curve("training", "train/loss", "train"), *held_out("loss")]
    accuracy = [curve("training", "train/accuracy", "train"), *held_out("top1")]
    probes = [(split, key) for split in ("val", "test") for key in ("knn", "linear")]
    # one dashed, one not
    kinds = {"knn": "val", "linear": "test"}
    accuracy += [curve(f"{split} {SHARES[key]}", f"{split}/{key}", kinds[key]) for split, key in probes]
    rate, speed = curve("learning rate", "lr", "train"), curve("images a second", "images_per_second", "train")
    drawn = [
        chart("Loss", loss, write=lambda value: f"{value:.3g}"),
        chart("Accuracy", accuracy, write=lambda value: f"{100 * value:.3g}%"),
        chart("Learning rate", [rate], write=lambda value: f"{value:.2g}"),
        chart("Images a second", [speed], write=lambda value: f"{value:,.0f}"),
    ]
    return [picture for picture in drawn if picture]


def evaluations(records: list[dict[str, Any]]) -> list[tuple[int, str, float, float]]:
    """Step, split, accuracy and loss of every evaluation."""
    return [
        (record["step"], split, record[f"{split}/top1"], record[f"{split}/loss"])
        for record in records
        for split in ("val", "test")
        if f"{split}/top1" in record
    ]


def confusion(found: Predictions | None, classes: tuple[str, ...]) -> dict[str, Any] | None:
    """The confusion matrix as a table, or its largest entries where there are many classes."""
    if found is None:
        return None
    count = len(classes)
    predicted, every = found.top[:, 0], found.truth.bincount(minlength=count)
    hits = found.truth[predicted == found.truth].bincount(minlength=count)
    wrong = predicted != found.truth
    # not the matrix itself, which would take gigabytes for tens of thousands of classes
    pairs, counts = (found.truth[wrong] * count + predicted[wrong]).unique(return_counts=True)
    most = counts.argsort(descending=True, stable=True)[:LONGEST_LIST]
    present = every.nonzero()[:, 0]
    worst = present[(hits[present] / every[present]).argsort(stable=True)][:LONGEST_LIST].tolist()
    return {
        "whole": count <= LARGEST_TABLE,
        "classes": classes,
        "cells": cells(found, count) if count <= LARGEST_TABLE else [],
        "pairs": [
            (classes[pair // count], classes[pair % count], number, int(every[pair // count]))
            for pair, number in zip(pairs[most].tolist(), counts[most].tolist(), strict=True)
        ],
        "worst": [(classes[row], int(hits[row]) / int(every[row]), int(every[row])) for row in worst],
    }


def cells(found: Predictions, count: int) -> list[list[tuple[int, float]]]:
    """Number of images and share of its row of every cell of the confusion matrix."""
    matrix = (found.truth * count + found.top[:, 0]).bincount(minlength=count**2).reshape(count, count)
    shares = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    return [list(zip(*rows, strict=True)) for rows in zip(matrix.tolist(), shares.tolist(), strict=True)]


def examples(findings: ReportData, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of images: the mistakes that the model was surest of, and some taken evenly from all."""
    found, data = findings.predictions, findings.data
    if found is None or isinstance(data, str) or findings.split not in data:
        return []
    wrong = (found.top[:, 0] != found.truth).nonzero()[:, 0]
    surest = wrong[found.confidence[wrong].argsort(descending=True, stable=True)][:SHOWN].tolist()
    evenly = np.linspace(0, len(found.truth) - 1, min(SHOWN, len(found.truth))).round().astype(int).tolist()
    return [
        {"title": title, "images": [example(findings, data[findings.split], classes, row) for row in rows]}
        for title, rows in (("Most confident mistakes", surest), ("Images taken evenly from all", evenly))
        if rows
    ]


def example(findings: ReportData, source: Source, classes: tuple[str, ...], row: int) -> dict[str, Any]:
    """One image and what was said of it."""
    found = findings.predictions
    assert found is not None
    index = int(found.positions()[row])
    predicted, truth = int(found.top[row, 0]), int(found.truth[row])
    return {
        "name": source.name(index),
        "picture": picture(source, index),
        "small": findings.config.preprocessing.image_size[0] < 64,
        "truth": classes[truth],
        "predicted": classes[predicted],
        "right": predicted == truth,
        "confidence": float(found.confidence[row]),
    }


def picture(source: Source, index: int) -> str | None:
    """An image as an address that holds it; None where it cannot be read any more."""
    try:
        image = read_from(source, index, channels=3)
    except (UnreadableImage, OSError):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    form = "PNG" if max(image.size) < 64 else "JPEG"
    buffer = BytesIO()
    image.save(buffer, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def inlined(path: Path) -> str | None:
    """A PNG file as an address that holds it; None where there is none."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.is_file() else None


def data_table(data: Mapping[str, Source] | str) -> dict[str, Any]:
    """Images by split and class; of many classes those with the most."""
    if isinstance(data, str):
        return {"missing": data, "splits": {}, "rows": [], "more": 0}
    counts = {split: Counter(np.asarray(source.labels).tolist()) for split, source in data.items()}
    classes = next(iter(data.values())).classes
    order = list(range(len(classes)))
    if len(classes) > 5 * LONGEST_LIST:
        order = sorted(order, key=lambda number: -sum(count[number] for count in counts.values()))[: 5 * LONGEST_LIST]
    return {
        "missing": "",
        "splits": {split: len(source) for split, source in data.items()},
        "rows": [(classes[number], [count[number] for count in counts.values()]) for number in order],
        "more": len(classes) - len(order),
    }
