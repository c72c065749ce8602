"""`vitral inspect`: draws a model's attention."""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from vitral.commands.arguments.checks import picture_path
from vitral.commands.arguments.inspect import MAX_IMAGES
from vitral.commands.arguments.weights import source_options
from vitral.commands.evaluate.command import open_split, run_data
from vitral.commands.loading import channels_of, load_and_note, output_path
from vitral.commands.output import note, print_json, printable
from vitral.commands.predict import image_files
from vitral.data.images.bands import image_suffixes
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source
from vitral.data.sources.targets import label_text
from vitral.errors import UserError
from vitral.inspection.look import Look, look
from vitral.inspection.picture import draw_looks
from vitral.vit import ViT

__all__ = ["alternate_classes", "main"]


def main(options: argparse.Namespace) -> None:
    """Draws the picture and prints its path; with `--json`, one object with the predictions as well."""
    model = load_and_note(options.run, **source_options(options))
    if not isinstance(model, ViT):
        raise UserError(f"{options.run} is a ResNet, which has no attention to draw")
    picture = picture_path(options.out, default=output_path(options.run, "attention.png"))
    if (channels := channels_of(model)) is not None:
        note(f"pictures show the mean of {channels} normalised channels")
    if options.images:
        looks = list(inspect_files(model, limit(image_files(options.images, image_suffixes(channels)))))
    else:
        looks = list(islice(inspect_held_out(model, options.run, seed=options.seed), options.count))
    if not looks:
        raise UserError("no held-out image can be read: give images to draw")
    draw_looks(looks, picture)
    if options.json:
        print_json({"picture": str(picture), "images": [as_json(look) for look in looks]})
    else:
        print(printable(str(picture)))


def limit(files: list[str]) -> list[str]:
    """As many files as a picture has rows; a line on standard error reports more."""
    if len(files) > MAX_IMAGES:
        note(f"only the first {MAX_IMAGES} of {len(files)} images are drawn")
    return files[:MAX_IMAGES]


def inspect_files(model: ViT, files: list[str]) -> Iterator[Look]:
    """Attention and prediction for image files, whose class is unknown."""
    assert model.card is not None
    for file in map(Path, files):
        yield look(model, model.card.preprocessing.read(file, name=str(file)), name=file.name)


def inspect_held_out(model: ViT, run: Path, *, seed: int) -> Iterator[Look]:
    """Attention and prediction for held-out images of a run, in the order of `alternate_classes`.

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
            note(f"skipped: {error}")
            continue
        name = Path(source.name(index)).name
        yield look(model, image, name=name, truth=label_text(source, index))


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


def as_json(look: Look) -> dict[str, str | float | None]:
    """The prediction for one image."""
    return {"name": look.name, "truth": look.truth, "class": look.predicted, "probability": look.probability}
