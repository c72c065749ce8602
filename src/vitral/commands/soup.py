"""`vitral soup`: averages the weights of finished runs."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from vitral.commands.evaluate.command import predict_split
from vitral.commands.evaluate.targets import predict_targets_of
from vitral.commands.output import note, print_json, printable
from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.errors import UserError
from vitral.evals.loop import check_finite
from vitral.evals.multi_label import best_thresholds, evaluate_labels
from vitral.evals.predictions import Predictions
from vitral.evals.regression import evaluate_numbers
from vitral.evals.target_predictions import TargetPredictions
from vitral.files import atomic_folder
from vitral.models import Model
from vitral.serve.predictor import Predictor
from vitral.sweeps.soup import (
    Ingredient,
    average,
    best_runs,
    greedy_soup,
    mean_thresholds,
    read_ingredients,
    same_start,
    shared_split,
    soup_card,
)
from vitral.weights.folder import save_model

__all__ = ["main"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run in the table."""

    ingredient: Ingredient
    metrics: dict[str, float]
    """Final metrics of the run, and for the greedy soup its metric on validation images."""
    kept: bool = True
    """Whether the run is in the average."""


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates models on one kind of images."""

    data: DataConfig
    """How images are read."""
    device: str

    def predict(self, model: Model, images: Source) -> Predictions | TargetPredictions:
        """The predictions of a model.

        Raises:
            UserError: an image cannot be read, or the model's outputs are not finite.
        """
        predictor = Predictor(model, device=self.device)
        if predictor.card.target == "class":
            found = predict_split(predictor, images, self.data)
            check_finite(found.confidence)
            return found
        found = predict_targets_of(predictor, images, self.data)
        check_finite(found.outputs)
        return found

    def metrics(self, model: Model, images: Source, *, thresholds: Sequence[float] = ()) -> dict[str, float]:
        """The metrics by name; the first is higher for a better model."""
        found = self.predict(model, images)
        if isinstance(found, Predictions):
            return dict(found.accuracy().metrics())
        assert model.card is not None
        labels = model.card.target == "multi-label"
        return dict((evaluate_labels(found, thresholds) if labels else evaluate_numbers(found)).metrics())


def main(options: argparse.Namespace) -> None:
    """Averages runs, evaluates and saves the average, and prints it beside the runs."""
    paths = best_runs(options.runs[0], top=options.top) if options.sweep else options.runs
    ingredients = read_ingredients(paths)
    validation = shared_split(ingredients, "val") if options.greedy else None
    if options.greedy and validation is None:
        raise UserError(
            f"--greedy chooses runs on validation images, and {ingredients[0].path} has none: train with "
            "--data.val-fraction 0.1, or leave out --greedy"
        )
    test = shared_split(ingredients, "test")
    split, images = ("val", shared_split(ingredients, "val")) if test is None else ("test", test)
    assert images is not None
    if not same_start(ingredients):
        note(
            "the runs did not start from the same pretrained weights: their average may be far worse than each of them"
        )
    evaluator = Evaluator(data=ingredients[0].config.data, device=options.device)
    if validation is None:
        model, selected = average(ingredients), {}
        rows = [Row(ingredient=each, metrics=each.model.card.metrics) for each in ingredients]
    else:
        model, selected, rows = greedy(ingredients, validation, evaluator)
    chosen = [row.ingredient for row in rows if row.kept]
    thresholds = mean_thresholds(chosen)
    if thresholds and validation is not None:
        predictions = evaluator.predict(model, validation)
        assert isinstance(predictions, TargetPredictions)
        thresholds = best_thresholds(predictions)
    found = evaluator.metrics(model, images, thresholds=thresholds)
    metrics = {f"{split}/{name}": value for name, value in found.items()} | selected
    method = "greedy" if options.greedy else "uniform"
    with atomic_folder(options.out) as folder:
        save_model(folder, model, soup_card(chosen, method=method, metrics=metrics, thresholds=thresholds))
    report(options, rows, metrics, method=method)


def greedy(
    ingredients: Sequence[Ingredient], validation: Source, evaluator: Evaluator
) -> tuple[Model, dict[str, float], list[Row]]:
    """The greedy soup, its metric on validation images, and the runs from best to worst by that metric."""
    name = ""

    def score(model: Model) -> float:
        nonlocal name
        name, value = next(iter(evaluator.metrics(model, validation).items()))
        return value

    model, best, scored = greedy_soup(ingredients, score)
    rows = [
        Row(ingredient=each, metrics={**each.model.card.metrics, f"val/{name}": value}, kept=kept)
        for each, value, kept in scored
    ]
    return model, {f"val/{name}": best}, rows


def report(options: argparse.Namespace, rows: Sequence[Row], metrics: dict[str, float], *, method: str) -> None:
    """Prints the runs and their average; with `--json`, one object."""
    if options.json:
        runs = [{"run": str(row.ingredient.path), "kept": row.kept, "metrics": row.metrics} for row in rows]
        print_json({"soup": str(options.out), "method": method, "runs": runs, "metrics": metrics})
        return
    main_metric = next(iter(metrics))
    name = main_metric.split("/")[1]
    columns = list(dict.fromkeys([f"val/{name}", main_metric] if options.greedy else [main_metric]))
    table = Table("run")
    for column in columns:
        table.add_column(column, justify="right")
    if options.greedy:
        table.add_column("in the soup")
    for row in rows:
        values = [f"{row.metrics[column]:.4f}" if column in row.metrics else "-" for column in columns]
        table.add_row(printable(str(row.ingredient.path)), *values, *(("yes" if row.kept else "no",) * options.greedy))
    Console(highlight=False, markup=False).print(table)
    count = sum(row.kept for row in rows)
    found = ", ".join(f"{column} {metrics[column]:.4f}" for column in columns)
    print(printable(f"{method} soup of {count} run{'s' * (count > 1)}: {found}, in {options.out}"))
