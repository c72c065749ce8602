"""`vitral eval MODEL --suite segmentation`: what frozen patch tokens tell of every pixel."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.commands.evaluate.arguments import check_data
from vitral.commands.output import check_out, note, parsed_by_tyro, print_json, show_table, write_table
from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.images.masks import largest_class, mask_pairs, read_mask
from vitral.data.images.preprocess import Preprocessing
from vitral.distributed.world import join_processes
from vitral.errors import UserError
from vitral.evals.evaluate import TIMEOUT
from vitral.evals.segmentation import Segmentation, fit_segmentation, segmentation
from vitral.models import Model, fresh
from vitral.serve.predictor import Predictor
from vitral.vit import ViT

__all__ = ["Options", "main"]

BATCH_SIZE = 32
Pair = tuple[Path, Path]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fits a linear head on frozen patch tokens to masks, and measures the mean intersection over union (IoU).

    --data.root is a folder with train/images, train/masks, test/images and test/masks; a mask is a PNG file with the
    class of each pixel, 255 where it has none.
    """

    suite: Literal["segmentation"] = "segmentation"
    """This one."""
    data: DataConfig
    """The folder."""
    baselines: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure the same architecture with random weights as well."""
    out: Path | None = None
    """File for the table: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes a GPU where there is one."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(where: Path, arguments: list[str], *, model: Model) -> None:
    """Prints a table of mean IoU; with `--json`, one object that has every class."""
    default = Options(data=DataConfig(source="folder"))
    options = parsed_by_tyro(Options, default=default, arguments=arguments, program=f"vitral eval {where}")
    check_out(options.out)
    check_data(options.data, default.data, used=("root", "on_error"), suite="segmentation")
    if not isinstance(model, ViT):
        raise UserError(f"--suite segmentation reads patch tokens, and {where} has none: measure a Vision Transformer")
    if (root := options.data.root) is None:
        raise UserError("no folder is named: give one with images/ and masks/ in train/ and in test/ as --data.root")
    with join_processes(timeout=TIMEOUT) as world:
        if world.size > 1:
            raise UserError("--suite segmentation takes one process: start without torchrun")
    skip = options.data.on_error == "skip"
    train, test = (readable(mask_pairs(root / part), skip=skip) for part in ("train", "test"))
    num_classes = 1 + max(train.values())
    for (_, mask), value in test.items():
        if value >= num_classes:
            raise UserError(
                f"{mask} has pixels of class {value}, and no mask in {root / 'train'} has: add one, or give them the "
                "value 255, which is no class"
            )
    compared: dict[str, Model] = {"model": model}
    if options.baselines:
        compared["random weights"] = fresh(model)
    found, seconds = {}, {}
    for name, each in compared.items():
        start = time.perf_counter()
        found[name] = measured(each, list(train), list(test), num_classes, options)
        seconds[name] = time.perf_counter() - start
    cells = [["of", "mean IoU", "pixels right", "classes", "images", "seconds"]]
    for name, each in found.items():
        shares = (f"{each.mean_iou:.2%}", f"{each.accuracy:.2%}")
        cells.append([name, *shares, str(num_classes), str(each.num_images), f"{seconds[name]:.2f}"])
    rows = [as_row(name, each) | {"seconds": round(seconds[name], 3)} for name, each in found.items()]
    whole = {"model": str(where), "suite": "segmentation", "found": rows}
    if options.json:
        print_json(whole)
    else:
        show_table(f"{where}, suite segmentation", cells)
    if options.out is not None:
        write_table(options.out, cells, whole)


def as_row(name: str, found: Segmentation) -> dict[str, object]:
    """Figures by name; the IoU of a class that does not occur is None."""
    each = [None if value.isnan() else value.item() for value in found.iou]
    return {"of": name, **dict(found.metrics()), "num_images": found.num_images, "iou": each}


def measured(
    model: Model, train: Sequence[Pair], test: Sequence[Pair], num_classes: int, options: Options
) -> Segmentation:
    """Fits the head to some images and measures it on others."""
    predictor = Predictor(model, device=options.device)
    head = fit_segmentation(seen(predictor, train, num_classes), num_classes=num_classes)
    return segmentation(head, seen(predictor, test, num_classes), num_classes=num_classes)


def readable(pairs: Sequence[Pair], *, skip: bool) -> dict[Pair, int]:
    """The pairs of which both files can be read, with the largest class of each mask; of the others it is said.

    Raises:
        UserError: there are others, unless they may be skipped, or there is no pair left.
    """
    kept = {}
    for image, mask in pairs:
        try:
            read_image(image, channels=1)
            largest = largest_class(mask)
        except UnreadableImage as error:
            if not skip:
                raise UserError(
                    f"{error}; remove image and mask, or leave such files out with --data.on-error skip"
                ) from error
            note(f"left out: {error}")
        else:
            kept[image, mask] = largest
    if not kept:
        raise UserError(f"none of the {len(pairs)} images in {pairs[0][0].parent} can be read")
    return kept


def seen(
    predictor: Predictor, pairs: Sequence[Pair], num_classes: int
) -> Iterator[tuple[Float[Tensor, "b gh gw d"], Int64[Tensor, "b h w"]]]:
    """Patch tokens and masks, batch by batch; images are squashed to the model's size, and masks with them."""
    preprocessing: Preprocessing = replace(predictor.card.preprocessing, resize="squash")
    for start in range(0, len(pairs), BATCH_SIZE):
        some = pairs[start : start + BATCH_SIZE]
        images = [preprocessing.pixels(read_image(image, channels=preprocessing.channels)) for image, _ in some]
        masks = [read_mask(mask, size=preprocessing.image_size, num_classes=num_classes) for _, mask in some]
        yield predictor.patches(torch.from_numpy(np.stack(images))), torch.from_numpy(np.stack(masks)).long()
