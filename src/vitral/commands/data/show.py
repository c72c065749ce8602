"""`vitral data show`: draws what a model is given of some images."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from vitral.commands.arguments.checks import picture_path
from vitral.commands.data.arguments import DataOptions, open_every_split, parse_options
from vitral.commands.data.terminal import show_in_terminal
from vitral.commands.inspect import alternate_classes
from vitral.commands.output import note, print_json, printable
from vitral.data.augment.config import AugmentConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source
from vitral.data.tools.views import Views, views_of
from vitral.distributed.world import SINGLE_PROCESS
from vitral.errors import UserError, unknown_name
from vitral.inspection.contact_sheet import draw_views
from vitral.recipes import RECIPES
from vitral.runs.run import Run
from vitral.train.channels import measure_channels
from vitral.train.config import RunConfig, read_run_config
from vitral.train.targets import with_data

__all__ = ["Options", "main"]

NUM_VIEWS = 6
"""Augmented views of each image."""
MAX_IMAGES = 40


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Draw images as they are stored, as evaluation sees them, and as training augments them."""

    like: str | None = None
    """A recipe or a run's folder, whose preprocessing and augmentation are drawn; None: the data's own, else folder."""
    split: str = "train"
    """Which split: train, val or test."""
    count: int = 8
    """Number of images; classes take turns."""
    seed: int = 0
    """Chooses the images, and augments them."""
    out: Path = Path("data.png")
    """The picture to write."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(arguments: list[str]) -> None:
    """Writes the picture and prints its path; shows it too, in a terminal that can."""
    options, _ = parse_options(Options, arguments, program="vitral data show", positionals=("DATA",))
    if not 1 <= options.count <= MAX_IMAGES:
        raise UserError(f"--count must be between 1 and {MAX_IMAGES}, not {options.count}")
    picture = picture_path(options.out, default=options.out)
    named = options.data.source if options.data.source in RECIPES else "folder"
    config = with_data(config_like(options.like or named), options.data)
    splits = open_every_split(options.data)
    if options.split not in splits:
        raise unknown_name("split", options.split, splits)
    config = config.resolved(num_classes=len(splits["train"].classes))
    config, measured = measure_channels(config, splits["train"], SINGLE_PROCESS)
    for sentence in measured:
        note(sentence)
    rows = read_views(splits[options.split], options, config.preprocessing, config.augment)
    draw_views(rows, picture)
    if options.json:
        print_json({"picture": str(picture), "images": [{"name": row.name, "class": row.label} for row in rows]})
        return
    show_in_terminal(picture)
    print(printable(str(picture)))


def config_like(like: str) -> RunConfig:
    """The configuration of a recipe or a run.

    Raises:
        UserError: there is neither.
    """
    if (Path(like) / "run.json").is_file():
        return read_run_config(Run.open(Path(like)))
    if like not in RECIPES:
        raise UserError(f"{unknown_name('recipe', like, RECIPES)}; --like also takes a run's folder")
    return RECIPES[like](None) if RECIPES[like].takes == "weights" else RECIPES[like]()


def read_views(source: Source, options: Options, preprocessing: Preprocessing, augment: AugmentConfig) -> list[Views]:
    """The views of as many readable images as asked for; notes those that cannot be read.

    Raises:
        UserError: no image can be read.
    """
    rows: list[Views] = []
    for index in alternate_classes(source, seed=options.seed):
        if len(rows) == options.count:
            break
        try:
            views = views_of(
                source, index, preprocessing=preprocessing, augment=augment, count=NUM_VIEWS, seed=options.seed
            )
        except UnreadableImage as error:
            note(f"skipped: {error}")
            continue
        rows.append(views)
    if not rows:
        raise UserError("none of the images can be read: see vitral data check")
    return rows
