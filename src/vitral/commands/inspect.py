"""`vitral inspect`: a picture of what a model looks at."""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from vitral.commands.checkpoint import beside, load_checkpoint
from vitral.commands.evaluate.command import held_out_images, run_data
from vitral.commands.output import note, picture_path, print_json, printable
from vitral.commands.predict import image_files
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.sources.source import Source, read_from
from vitral.errors import UserError
from vitral.inspection.look import Look, look
from vitral.inspection.picture import draw_looks
from vitral.vit import ViT

__all__ = ["main", "spread_over_classes"]

MOST_IMAGES = 32
"""Rows of one picture."""


def main(arguments: list[str]) -> None:
    """Draws the picture and prints where it is; with `--json`, one object with the predictions as well."""
    options = parsed(arguments)
    if not 1 <= options.count <= MOST_IMAGES:
        raise UserError(f"a picture shows between 1 and {MOST_IMAGES} images, not {options.count}")
    if options.seed < 0:
        raise UserError(f"--seed must be at least 0, not {options.seed}")
    model = load_checkpoint(options.run)
    if not isinstance(model, ViT):
        raise UserError(f"{options.run} is a ResNet, which has no attention to draw")
    picture = picture_path(options.out, default=beside(options.run, "attention.png"))
    if options.images:
        looks = list(looks_at_files(model, first(image_files(options.images))))
    else:
        looks = list(islice(looks_at_held_out(model, options.run, seed=options.seed), options.count))
    if not looks:
        raise UserError("not one held-out image could be read: name images to look at")
    draw_looks(looks, picture)
    if options.json:
        print_json({"picture": str(picture), "images": [as_json(look) for look in looks]})
    else:
        print(printable(str(picture)))


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vitral inspect",
        description="Draws what a trained model looks at: each image, the attention rollout laid over it, and the "
        "attention of single layers.",
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a trained model, another project's file, or hf-hub:OWNER/NAME"
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help=f"image files and folders, of which the first {MOST_IMAGES} images are drawn; without any, some that "
        "the run held out",
    )
    parser.add_argument("--count", type=int, default=4, metavar="N", help="how many held-out images (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="which held-out images (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="the picture (default: attention.png in RUN)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def first(files: list[str]) -> list[str]:
    """As many files as a picture has rows; a line on standard error tells of more."""
    if len(files) > MOST_IMAGES:
        note(f"only the first {MOST_IMAGES} of {len(files)} images are drawn")
    return files[:MOST_IMAGES]


def looks_at_files(model: ViT, files: list[str]) -> Iterator[Look]:
    """Looks at image files; what they show is not known."""
    for file in map(Path, files):
        yield look(model, read_image(file, channels=model.config.channels), name=file.name)


def looks_at_held_out(model: ViT, run: Path, *, seed: int) -> Iterator[Look]:
    """Looks at images that a run held out, in the order of `spread_over_classes`.

    Raises:
        UserError: the run's record is not there, or its data is not, or an image cannot be read, unless the run skips
            such images.
    """
    data = run_data(run)
    if data is None:
        raise UserError(f"{run} has no run.json that tells its data: name images to look at")
    _, source = held_out_images(data, None)
    for index in spread_over_classes(source, seed=seed):
        try:
            image = read_from(source, index, channels=model.config.channels)
        except UnreadableImage as error:
            if data.on_error == "stop":
                raise
            note(f"left out: {error}")
            continue
        name = Path(source.name(index)).name
        yield look(model, image, name=name, truth=source.classes[source.labels[index]])


def spread_over_classes(source: Source, *, seed: int) -> list[int]:
    """Every image in a seeded order in which each class comes once before any comes again."""
    order = np.random.default_rng(seed).permutation(len(source))
    labels = source.labels[order]
    turns = np.zeros(len(order), np.int64)
    for label in np.unique(labels):
        turns[labels == label] = np.arange((labels == label).sum())
    return order[np.argsort(turns, kind="stable")].tolist()


def as_json(look: Look) -> dict[str, str | float | None]:
    """What the model said of one image."""
    return {"name": look.name, "truth": look.truth, "class": look.predicted, "probability": look.probability}
