"""`vitral inspect`: draws what a model attends to and what it learned."""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitral.commands.arguments.checks import picture_path
from vitral.commands.arguments.inspect import FIGURES, MAX_IMAGES
from vitral.commands.arguments.weights import source_options
from vitral.commands.evaluate.command import open_split, run_data
from vitral.commands.loading import channels_of, check_finite, load_and_note, output_path
from vitral.commands.output import note, print_json, printable
from vitral.commands.predict import image_files
from vitral.data.images.bands import image_suffixes
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source
from vitral.data.sources.targets import label_text
from vitral.errors import UserError
from vitral.files import font_fallback
from vitral.inspection.document import write_document
from vitral.inspection.drawing import NEEDS_IMAGES, draw
from vitral.inspection.look import Look
from vitral.inspection.picture import save_figure
from vitral.inspection.survey import NUM_DISTANCE_IMAGES, Sample, Survey
from vitral.vit import ViT

__all__ = ["alternate_classes", "main"]

PICTURES, DOCUMENTS = (".png", ".svg", ".pdf"), (".html", ".pdf")


def main(options: argparse.Namespace) -> None:
    """Draws the figure and prints its path; with `--json`, one object with predictions and distances as well."""
    model = load_and_note(options.run, **source_options(options))
    if not isinstance(model, ViT):
        raise UserError(f"{options.run} is a ResNet, which has no attention to draw")
    if options.all:
        names, default, suffixes = tuple(FIGURES), "inspection.html", DOCUMENTS
    else:
        names, default, suffixes = (options.figure,), f"{options.figure}.png", PICTURES
    path = picture_path(options.out, default=output_path(options.run, default), suffixes=suffixes)
    check_finite(model, options.run)
    with_images = any(name in NEEDS_IMAGES for name in names)
    if with_images and (channels := channels_of(model)) is not None:
        note(f"pictures show the mean of {channels} normalised channels")
    survey = Survey(model, sample_passes(model, options), count=MAX_IMAGES if options.images else options.count)
    with font_fallback():
        if options.all:
            skipped = write_document(
                survey, path, model=str(options.run), figures=FIGURES, shared_scale=options.shared_scale
            )
            for name, reason in skipped.items():
                note(f"no figure {name}: {reason}")
        else:
            skipped = {}
            save_figure(draw(options.figure, survey, shared_scale=options.shared_scale), path)
    if options.json:
        print_json(as_json(path, [name for name in names if name not in skipped], survey))
    else:
        print(printable(str(path)))


def as_json(path: Path, names: list[str], survey: Survey) -> dict[str, Any]:
    """The picture's path; predictions for its images, and distances in pixels by layer and head, if it shows them."""
    result: dict[str, Any] = {"picture": str(path), "figures": names}
    if any(name in NEEDS_IMAGES and name != "distance" for name in names):
        result["images"] = [prediction(look) for look in survey.looks]
    if "distance" in names:
        distances, count = survey.distances
        result |= {"distances": distances.tolist(), "distance_images": count}
    return result


def sample_passes(model: ViT, options: argparse.Namespace) -> Callable[[], Iterator[Sample]]:
    """What begins a pass over the images to look at: given files, or held-out images of the run."""
    if not options.images:
        return partial(held_out_samples, model, options.run, seed=options.seed, noted=set())
    most = MAX_IMAGES if options.all or options.figure != "distance" else NUM_DISTANCE_IMAGES
    return partial(file_samples, model, limit(image_files(options.images, image_suffixes(channels_of(model))), most))


def limit(files: list[str], most: int) -> list[str]:
    """At most so many files; a line on standard error reports more."""
    if len(files) > most:
        note(f"only the first {most} of {len(files)} images are drawn")
    return files[:most]


def file_samples(model: ViT, files: list[str]) -> Iterator[Sample]:
    """Image files, whose class is unknown."""
    assert model.card is not None
    for file in map(Path, files):
        yield Sample(name=file.name, image=model.card.preprocessing.read(file, name=str(file)))


def held_out_samples(model: ViT, run: Path, *, seed: int, noted: set[str]) -> Iterator[Sample]:
    """Held-out images of a run, in the order of `alternate_classes`.

    Args:
        model: the run's model.
        run: its folder.
        seed: of the order.
        noted: images that an earlier pass could not read; their sentences are not printed again.

    Raises:
        UserError: the run's configuration or its data is missing, or an image cannot be read, unless the run skips
            such images.
    """
    data = run_data(run)
    if data is None:
        raise UserError(f"{run} has no run.json that names its data: give images to draw")
    _, source = open_split(data, None)
    assert model.card is not None
    for index in alternate_classes(source, seed=seed):
        try:
            image = model.card.preprocessing.read(source.stored(index), name=source.name(index))
        except UnreadableImage as error:
            if data.on_error == "stop":
                raise
            if str(error) not in noted:
                note(f"skipped: {error}")
            noted.add(str(error))
            continue
        yield Sample(name=Path(source.name(index)).name, image=image, truth=label_text(source, index))


def alternate_classes(source: Source, *, seed: int) -> list[int]:
    """Indices of all images in a seeded order in which every class occurs once before any occurs again."""
    order = np.random.default_rng(seed).permutation(len(source))
    labels = source.labels[order]
    if labels.ndim > 1:  # several labels or a number
        return order.tolist()
    turns = np.zeros(len(order), np.int64)
    for label in np.unique(labels):
        turns[labels == label] = np.arange((labels == label).sum())
    return order[np.argsort(turns, kind="stable")].tolist()


def prediction(look: Look) -> dict[str, str | float | None]:
    """The prediction for one image."""
    return {"name": look.name, "truth": look.truth, "class": look.predicted, "probability": look.probability}
