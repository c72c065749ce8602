"""`vitral eval MODEL --suite segmentation`: a linear head on frozen patch tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from vitral.commands.arguments.checks import check_output
from vitral.commands.arguments.flags import parse_config
from vitral.commands.evaluate.arguments import check_data
from vitral.commands.output import note, print_json, print_table, write_table
from vitral.data.config import DataConfig
from vitral.distributed.world import join_processes
from vitral.errors import UserError
from vitral.evals.loop import TIMEOUT
from vitral.evals.segmentation import Segmentation
from vitral.models import Model, fresh
from vitral.serve.predictor import Precision, Predictor
from vitral.suites.segmentation import evaluate_segmentation, open_segmentation
from vitral.vit import ViT

__all__ = ["Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train a linear head on frozen patch tokens to predict masks, and report the mean intersection over union (IoU).

    --data.root is a folder with train/images, train/masks, test/images and test/masks; a mask is a PNG file with the
    class of each pixel, 255 for none.
    """

    suite: Literal["segmentation"] = "segmentation"
    """This suite."""
    data: DataConfig
    """The folder."""
    baselines: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also evaluate the same architecture with random weights."""
    out: Path | None = None
    """File for the table: .md, .csv or .json."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, xpu; auto: a GPU if there is one."""
    precision: Precision = "auto"
    """auto: bfloat16 on a GPU, float32 on a CPU."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(run: Path, arguments: list[str], *, model: Model) -> None:
    """Prints a table of mean IoU; with `--json`, one object with the IoU of every class."""
    default = Options(data=DataConfig(source="folder"))
    options = parse_config(Options, default=default, arguments=arguments, program=f"vitral eval {run}")
    check_output(options.out)
    check_data(options.data, default.data, used=("root", "on_error"), suite="segmentation")
    if not isinstance(model, ViT):
        raise UserError(f"--suite segmentation needs patch tokens, and {run} has none: use a Vision Transformer")
    if options.data.root is None:
        raise UserError("no folder is given: give one with images/ and masks/ in train/ and in test/ as --data.root")
    with join_processes(timeout=TIMEOUT) as world:
        if world.size > 1:
            raise UserError("--suite segmentation runs in one process: start it without torchrun")
    data = open_segmentation(options.data.root, skip=options.data.on_error == "skip", log=note)
    models: dict[str, Model] = {"model": model}
    if options.baselines:
        models["random weights"] = fresh(model)
    predictors = {
        name: Predictor(each, device=options.device, precision=options.precision) for name, each in models.items()
    }
    results = evaluate_segmentation(predictors, data)
    rows = [["of", "mean IoU", "pixels right", "classes", "images", "seconds"]]
    for name, (result, seconds) in results.items():
        metrics = (f"{result.mean_iou:.2%}", f"{result.accuracy:.2%}")
        rows.append([name, *metrics, str(data.num_classes), str(result.num_images), f"{seconds:.2f}"])
    results_json = [
        as_row(name, result) | {"seconds": round(seconds, 3)} for name, (result, seconds) in results.items()
    ]
    whole = {"model": str(run), "suite": "segmentation", "results": results_json}
    if options.json:
        print_json(whole)
    else:
        print_table(f"{run}, suite segmentation", rows)
    if options.out is not None:
        write_table(options.out, rows, whole)


def as_row(name: str, result: Segmentation) -> dict[str, object]:
    """Metrics by name; the IoU of a class that does not occur is None."""
    iou = [None if value.isnan() else value.item() for value in result.iou]
    return {"of": name, **dict(result.metrics()), "num_images": result.num_images, "iou": iou}
