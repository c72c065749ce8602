"""The part of `vitral data check` that needs a model: likely wrong labels, outliers, ambiguous images."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.nn.functional import interpolate

from vitral.commands.loading import check_channels, load_and_note
from vitral.commands.output import printable
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch
from vitral.data.sources.exclude import relative_name
from vitral.data.sources.source import ConcatSource, Source, Subset, read_from
from vitral.errors import UserError
from vitral.evals.features import extract_features
from vitral.evals.suspects import Suspects, find_suspects
from vitral.files import as_csv, write_atomically
from vitral.inspection.sheet import SheetImage, draw_sheet
from vitral.serve.predictor import Predictor

__all__ = ["PROBLEMS", "Suspect", "draw_suspects", "print_suspects", "suspects_of", "write_csv"]

PROBLEMS = {
    "label": "the label is probably wrong",
    "outlier": "resembles no other image",
    "ambiguous": "could be of two classes",
}
"""Kinds of suspects and their meaning."""

LISTED = 0.1
"""Fraction of the images whose labels are listed, the most doubtful first."""

PIXELS = 28
"""Height and width that images are shrunk to, beside the features."""

MAX_DRAWN, MAX_PRINTED = 24, 10
"""Images of each kind on the contact sheet, and in the table."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image to look at."""

    problem: str
    """One of `PROBLEMS`."""
    index: int
    """In the source."""
    name: str
    label: str
    likely: str
    """The most probable class."""
    score: float
    """How well the label fits, from 0 to 1; of an outlier, the distance to its neighbours."""
    exclude: bool
    """Whether `--data.exclude` excludes it: labels that confident learning takes for wrong."""


def suspects_of(
    splits: Mapping[str, Source], data: DataConfig, model: str, *, device: str, reading: Mapping[str, Any]
) -> tuple[Source, list[Suspect]]:
    """The images of all splits as one source, and those to look at.

    Raises:
        UserError: the images have no classes, the model cannot be loaded or has other channels, cleanlab is not
            installed, or there are too few images.
    """
    if data.target != "class" or data.source == "images":
        raise UserError("--model finds wrong labels of images with one class each: leave it out")
    source, *others = splits.values()
    for other in others:
        source = ConcatSource(first=source, second=other)
    loaded = load_and_note(model, **reading)
    check_channels(loaded, data)
    predictor = Predictor(loaded, device=device)
    predictor.preprocessing.check_one_size("--model")

    def features_and_pixels(images: PixelBatch) -> Float[Tensor, "b d"]:
        shrunk = interpolate(
            images.float().permute(0, 3, 1, 2).mean(1, keepdim=True), size=(PIXELS, PIXELS), mode="area"
        )
        return torch.cat([predictor.extract_features(images).cpu(), shrunk.flatten(1).cpu()], dim=1)

    found = extract_features(
        features_and_pixels,
        source,
        preprocessing=predictor.card.preprocessing,
        data=replace(data, on_error="skip"),  # the check lists them
    )
    source = Subset(source=source, indices=np.flatnonzero(found.readable.numpy()))
    features, pixels = found.features[:, : -(PIXELS**2)], found.features[:, -(PIXELS**2) :]
    return source, listed(source, find_suspects(features, found.labels, pixels=pixels))


def listed(source: Source, suspects: Suspects) -> list[Suspect]:
    """The images to look at, by kind."""
    most = max(int(suspects.wrong.sum()), round(LISTED * len(source)))
    rows = {"label": suspects.ranking[:most], "outlier": suspects.outliers, "ambiguous": suspects.ambiguous}
    # what is taken for wrong but is low on the list follows it
    rest = np.setdiff1d(np.flatnonzero(suspects.wrong), rows["label"])
    rows["label"] = np.concatenate([rows["label"], rest])
    return [
        Suspect(
            problem=problem,
            index=index,
            name=source.name(index),
            label=source.classes[source.labels[index]],
            likely=source.classes[suspects.likely[index]],
            score=float((suspects.distances if problem == "outlier" else suspects.quality)[index]),
            exclude=problem == "label" and bool(suspects.wrong[index]),
        )
        for problem, indices in rows.items()
        for index in indices.tolist()
    ]


def write_csv(path: Path, suspects: list[Suspect], *, root: Path | None) -> None:
    """Writes all suspects as CSV. `--data.exclude` excludes the rows with `yes` in the column `exclude`."""
    rows = [["image", "exclude", "problem", "label", "likely", "score"]]
    for one in suspects:
        exclude = "yes" if one.exclude else "no"
        name = relative_name(one.name, root)
        rows.append([name, exclude, one.problem, one.label, one.likely, f"{one.score:.4f}"])
    write_atomically(path, lambda file: file.write(as_csv(rows).encode(errors="surrogateescape")))


def draw_suspects(path: Path, source: Source, suspects: list[Suspect], *, root: Path | None) -> None:
    """Draws the worst of each kind on a contact sheet."""
    channels = 3
    sections = {}
    for problem, meaning in PROBLEMS.items():
        some = [one for one in suspects if one.problem == problem and (one.exclude or problem != "label")]
        sections[f"{problem}: {meaning}"] = [
            SheetImage(
                image=read_from(source, one.index, channels=channels),
                name=relative_name(one.name, root),
                note=one.label if one.likely == one.label else f"{one.label}, or {one.likely}?",
            )
            for one in some[:MAX_DRAWN]
        ]
    draw_sheet({title: images for title, images in sections.items() if images}, path)


def print_suspects(suspects: list[Suspect], *, root: Path | None) -> None:
    """Prints the number of suspects of each kind, and the worst."""
    console = Console(highlight=False)
    for problem, meaning in PROBLEMS.items():
        some = [one for one in suspects if one.problem == problem and (one.exclude or problem != "label")]
        console.print(f"\n{problem}: {meaning}: {len(some):,}", style="bold")
        if not some:
            continue
        table = Table("image", "label", "most probable")
        table.add_column("distance" if problem == "outlier" else "fit", justify="right")
        for one in some[:MAX_PRINTED]:
            cells = (relative_name(one.name, root), one.label, one.likely)
            table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells), f"{one.score:.3f}")
        console.print(table)
        if len(some) > MAX_PRINTED:
            console.print(f"and {len(some) - MAX_PRINTED:,} more, which --json and --csv list")
