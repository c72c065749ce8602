"""`vitral eval` of a model for several labels an image, or for a number."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from vitral.card import ModelCard
from vitral.commands.output import finite, note, print_json, printable, progress_bar, write_table
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch
from vitral.data.sources.source import Source
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.evals.loop import check_finite, num_images_on_main
from vitral.evals.multi_label import MultiLabelResult, evaluate_labels
from vitral.evals.regression import RegressionResult, evaluate_numbers
from vitral.evals.scatter import draw_scatter
from vitral.evals.target_predictions import TargetPredictions, predict_targets
from vitral.serve.predictor import Predictor

__all__ = ["check_target", "predict_targets_of", "report_targets"]

Result = MultiLabelResult | RegressionResult

Rows = list[list[str]]


def check_target(card: ModelCard | None, data: DataConfig) -> None:
    """Checks that data has what a model predicts.

    Raises:
        UserError: it has other targets.
    """
    if card is not None and data.target != card.target:
        raise UserError(
            f"--data.target is {data.target}, and the model predicts {card.target}: give --data.target {card.target}"
        )


def predict_targets_of(
    predictor: Predictor, source: Source, data: DataConfig, *, world: World = SINGLE_PROCESS
) -> TargetPredictions:
    """The outputs for all images, with a progress bar on the main process."""
    with progress_bar(enabled=world.is_main) as bar:
        task = bar.add_task("evaluating", total=num_images_on_main(len(source), world))

        def predict(images: PixelBatch) -> Any:
            bar.advance(task, len(images))
            return predictor.logits(images)

        return predict_targets(predict, source, preprocessing=predictor.preprocessing, data=data, world=world)


def report_targets(
    options: Namespace, found: TargetPredictions, card: ModelCard, *, split: str, picture: Path | None
) -> None:
    """Prints the metrics; with `--json`, one object; writes the table and the picture that were asked for.

    Args:
        options: run, out (a table's path), json, tta and seconds.
        found: predictions for a split.
        card: of the model.
        split: its name.
        picture: where the scatter plot of numbers goes; None: nowhere.
    """
    check_finite(found.outputs)
    result: Result = (
        evaluate_labels(found, card.thresholds) if card.target == "multi-label" else evaluate_numbers(found)
    )
    for sentence in result.unreadable:
        note(f"skipped: {sentence}")
    values = {"run": str(options.run), "split": split, "num_images": result.num_images, **dict(result.metrics())}
    details = _label_json(result, card) if isinstance(result, MultiLabelResult) else {}
    if isinstance(result, RegressionResult):
        values |= {"target": card.classes[0], "baseline_mae": result.baseline_mae, "picture": str(picture)}
    details |= {"tta": options.tta, "unreadable": list(result.unreadable)}
    whole = values | details | {"seconds": round(options.seconds, 3)}
    if options.json:
        print_json(finite(whole))
    else:
        _print(options.run, split, result, card, options.seconds)
    if options.out is not None:
        write_table(options.out, _rows(result, card), finite(whole))
    if picture is not None and card.target == "regression":
        draw_scatter(found, card.classes[0], picture)
        if not options.json:
            print(printable(f"scatter plot: {picture}"))


def _label_json(result: MultiLabelResult, card: ModelCard) -> dict[str, Any]:
    columns = (
        *(result.counts, result.average_precision, result.label_f1, result.precision, result.recall),
        np.array(result.thresholds),
    )
    keys = ("num_images", "average_precision", "f1", "precision", "recall", "threshold")
    labels = zip(card.classes, *(column.tolist() for column in columns), strict=True)
    return {"labels": [{"name": name, **dict(zip(keys, values, strict=True))} for name, *values in labels]}


def _metric_rows(result: Result, card: ModelCard) -> list[tuple[str, str]]:
    """The metrics of all images in words."""
    if isinstance(result, MultiLabelResult):
        return [
            ("mAP (macro)", f"{result.map:.2%}"),
            ("mAP (micro)", f"{result.map_micro:.2%}"),
            ("F1 (macro)", f"{result.f1:.2%}"),
            ("F1 (micro)", f"{result.f1_micro:.2%}"),
            ("all labels right", f"{result.exact:.2%}"),
            ("loss (nats)", f"{result.loss:.4f}"),
        ]
    return [
        ("R2", f"{result.r2:.4f}"),
        (f"mean absolute error (MAE), {card.classes[0]}", f"{result.mae:.4g}"),
        ("root mean squared error (RMSE)", f"{result.rmse:.4g}"),
        ("MAE of always predicting the median", f"{result.baseline_mae:.4g}"),
    ]


def _rows(result: Result, card: ModelCard) -> Rows:
    """A header and rows: of the labels, or of the metrics of a number."""
    if isinstance(result, RegressionResult):
        return [["metric", "value"], ["images", str(result.num_images)], *map(list, _metric_rows(result, card))]
    rows = [["label", "average precision", "F1", "precision", "recall", "threshold", "images"]]
    rows.append(["all", f"{result.map:.2%}", f"{result.f1:.2%}", "", "", "", str(result.num_images)])
    columns = (result.average_precision, result.label_f1, result.precision, result.recall)
    for row, name in enumerate(card.classes):
        scores = (f"{column[row]:.2%}" if result.counts[row] else "-" for column in columns)
        rows.append([name, *scores, f"{result.thresholds[row]:.2f}", str(result.counts[row])])
    return rows


def _print(run: Path, split: str, result: Result, card: ModelCard, seconds: float) -> None:
    console = Console(highlight=False)
    console.print(printable(f"{run}, {split} images"), markup=False, soft_wrap=True)
    metrics = [("images", f"{result.num_images:,}")]
    if result.unreadable:
        metrics.append(("unreadable, skipped", f"{len(result.unreadable):,}"))
    _print_table(console, [("metric", "value"), *metrics, *_metric_rows(result, card), ("seconds", f"{seconds:.2f}")])
    if isinstance(result, MultiLabelResult):
        header, _, *rows = _rows(result, card)
        _print_table(console, [header, *rows])


def _print_table(console: Console, rows: Sequence[Sequence[str]]) -> None:
    header, *rest = rows
    table = Table(header[0])
    for name in header[1:]:
        table.add_column(name, justify="right")
    for row in rest:
        table.add_row(*map(printable, row))
    console.print(table)
