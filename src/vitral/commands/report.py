"""`vitral report`: the page about a run, built again from what the run left."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from vitral.card import ModelCard
from vitral.commands.evaluate.command import predictions
from vitral.commands.output import note, print_json, printable
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.evals.accuracy import Predictions
from vitral.evals.evaluate import final_split
from vitral.runs.fingerprint import fingerprint
from vitral.runs.metrics import read_metrics
from vitral.runs.predictions import SavedPredictions, load_predictions, save_predictions
from vitral.serve.predictor import Predictor
from vitral.train.config import RunConfig
from vitral.train.report import ReportData, write_report
from vitral.train.run import Run
from vitral.weights.folder import load_model, read_config

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Writes the page and says where it is; with `--json`, one object."""
    options = parsed(arguments)
    if not (options.run / "run.json").is_file():
        raise UserError(f"{options.run} is no folder of a training run: it has no run.json")
    run, config = Run.open(options.run)
    card = read_config(run.path).card if (run.path / "config.json").is_file() else None
    data = opened(config)
    split, found = judged(run, config, card, data, device=options.device)
    speed = json.loads(run.speed_path.read_text()) if run.speed_path.is_file() else None
    page = write_report(
        run.path,
        ReportData(
            config=config,
            card=card,
            records=read_metrics(run.metrics_path),
            speed=speed,
            data=data,
            split=split,
            predictions=found,
        ),
    )
    if options.json:
        print_json({"run": str(run.path), "report": str(page), "finished": card is not None, "speed": speed})
    else:
        print(printable(f"report: {page}"))


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vitral report",
        description="Writes RUN/report.html, the page about a run: figures, curves, mistakes, speed, configuration. "
        "A run writes it when it ends; this builds it again, or that of a run that has not finished.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument("--device", default="auto", help="where to evaluate, if that was not kept (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def opened(config: RunConfig) -> Mapping[str, Source] | str:
    """The run's images, or why they cannot be had."""
    try:
        return open_data(config.data)
    except (UserError, OSError) as error:
        note(f"the page comes without images: {error}")
        return " ".join(str(error).split())


def judged(
    run: Run, config: RunConfig, card: ModelCard | None, data: Mapping[str, Source] | str, *, device: str
) -> tuple[str, Predictions | None]:
    """The split of the final evaluation and what the model said of it: as kept, else evaluated again."""
    kept = load_predictions(run.path)
    if kept and card and (isinstance(data, str) or len(kept.predictions.readable) == len(data.get(kept.split, ()))):
        return kept.split, kept.predictions
    if card is None or isinstance(data, str):
        return "test", None
    split = final_split(data)
    if config.objective.evaluate_by != "labels":
        return split, None
    found = predictions(Predictor(load_model(run.path), device=device), data[split], config.data)
    save_predictions(run.path, SavedPredictions(split=split, images=fingerprint(data[split]), predictions=found))
    return split, found
