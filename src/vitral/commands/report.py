"""`vitral report`: writes the page about a run again, from the run's files."""

import argparse
from collections.abc import Mapping

from vitral.card import ModelCard
from vitral.commands.evaluate.command import predict_split
from vitral.commands.evaluate.targets import predict_targets_of
from vitral.commands.output import note, print_json, printable
from vitral.config import to_dict
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.evals.predictions import Predictions
from vitral.evals.splits import final_split
from vitral.evals.target_predictions import TargetPredictions
from vitral.runs.assessment import load_assessment
from vitral.runs.fingerprint import fingerprint
from vitral.runs.metrics import read_metrics, read_speed
from vitral.runs.predictions import SavedPredictions, load_predictions, save_predictions
from vitral.runs.report import ReportData, write_report
from vitral.runs.report_targets import save_scatter
from vitral.runs.run import Run
from vitral.serve.predictor import Predictor
from vitral.train.config import RunConfig, read_run_config
from vitral.weights.folder import load_model, read_config

__all__ = ["main"]


def main(options: argparse.Namespace) -> None:
    """Writes the page and prints its path; with `--json`, one object."""
    run = Run.open(options.run)
    config = read_run_config(run)
    card = read_config(run.path).card if (run.path / "config.json").is_file() else None
    data = load_data(config)
    split, predictions = load_or_predict(run, config, card, data, device=options.device)
    speed = read_speed(run.speed_path)
    page = write_report(
        run.path,
        ReportData(
            settings=to_dict(config),
            card=card,
            records=read_metrics(run.metrics_path),
            speed=speed,
            data=data,
            split=split,
            predictions=predictions,
            assessment=load_assessment(run.path),
        ),
    )
    if options.json:
        print_json({"run": str(run.path), "report": str(page), "finished": card is not None, "speed": speed})
    else:
        print(printable(f"report: {page}"))


def load_data(config: RunConfig) -> Mapping[str, Source] | str:
    """The run's images by split, or why they cannot be read."""
    try:
        return open_data(config.data)
    except (UserError, OSError) as error:
        note(f"the page is written without images: {error}")
        return " ".join(str(error).split())


def load_or_predict(
    run: Run, config: RunConfig, card: ModelCard | None, data: Mapping[str, Source] | str, *, device: str
) -> tuple[str, Predictions | TargetPredictions | None]:
    """The split of the final evaluation and the model's predictions: as saved, or computed and saved."""
    saved = load_predictions(run.path)
    if saved and card and (isinstance(data, str) or len(saved.predictions.readable) == len(data.get(saved.split, ()))):
        return saved.split, saved.predictions
    if card is None or isinstance(data, str):
        return "test", None
    split = final_split(data)
    if config.objective.evaluate_by != "labels":
        return split, None
    predict = predict_split if config.data.target == "class" else predict_targets_of
    predictions = predict(Predictor(load_model(run.path), device=device), data[split], config.data)
    if isinstance(predictions, TargetPredictions) and card.target == "regression":
        save_scatter(run.path, predictions, card)
    save_predictions(run.path, SavedPredictions(split=split, images=fingerprint(data[split]), predictions=predictions))
    return split, predictions
