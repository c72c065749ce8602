"""The files of a finished run: model, predictions, panels, curves, speed and report."""

import math
import platform
from collections.abc import Mapping

import torch

from vitral import __version__
from vitral.card import ModelCard
from vitral.config import to_dict
from vitral.data.sources.source import Source
from vitral.evals.target_predictions import TargetPredictions
from vitral.files import write_json
from vitral.runs.assessment import save_assessment
from vitral.runs.curves import draw_curves
from vitral.runs.fingerprint import fingerprint
from vitral.runs.metrics import read_metrics
from vitral.runs.panels import PANELS, draw_panels
from vitral.runs.predictions import SavedPredictions, save_predictions
from vitral.runs.report import ReportData, write_report
from vitral.runs.report_targets import save_scatter
from vitral.runs.run import Run
from vitral.train.evaluation import SplitEvaluation, draw_samples
from vitral.train.profiling.profiler import Profiler
from vitral.train.session import Session
from vitral.weights.folder import save_model

__all__ = ["BEST", "save_artefacts", "save_if_best"]

BEST = "best"
"""Folder in a run's folder, with the model that was best on validation images."""


def save_if_best(run: Run, session: Session, metrics: dict[str, float], *, thresholds: tuple[float, ...]) -> None:
    """Saves the model in the folder `best` if its first metric is the highest so far; all processes together.

    Earlier values come from `metrics.jsonl`, from which a resumed run removes the steps that it repeats.
    """
    name, value = next(iter(metrics.items()))
    world = session.world
    earlier = [
        record[name] for record in read_metrics(run.metrics_path) if name in record and record["step"] < session.step
    ]
    if world.run_on_main(lambda: value > max(earlier, default=-math.inf)):
        model = session.export_model()
        if world.is_main:
            save_model(run.path / BEST, model, model_card(session, metrics, thresholds=thresholds))


def save_artefacts(
    run: Run,
    session: Session,
    data: Mapping[str, Source],
    profiler: Profiler,
    *,
    split: str,
    evaluation: SplitEvaluation,
) -> None:
    """Saves the trained model and everything about it in the run's folder; all processes together.

    Args:
        run: its folder.
        session: after its last step.
        data: images of each split.
        profiler: of the run.
        split: of the final evaluation.
        evaluation: the final evaluation.
    """
    panels, model = draw_samples(session, data[split]), session.export_model()
    if not session.world.is_main:
        return
    metrics = {f"{split}/{name}": value for name, value in evaluation.result.metrics()}
    if evaluation.assessment:
        save_assessment(run.path, evaluation.assessment)
        metrics |= {f"{split}/{name}": value for name, value in evaluation.assessment.baselines.accuracies().items()}
    card = model_card(session, metrics, thresholds=evaluation.thresholds)
    records, speed = read_metrics(run.metrics_path), profiler.table()
    save_model(run.path, model, card)
    if evaluation.predictions:
        images = fingerprint(data[split])
        save_predictions(run.path, SavedPredictions(split=split, images=images, predictions=evaluation.predictions))
    if card.target == "regression" and isinstance(evaluation.predictions, TargetPredictions):
        save_scatter(run.path, evaluation.predictions, card)
    draw_panels(panels, run.path / PANELS)
    write_json(run.speed_path, speed)
    draw_curves(records, run.curves_path)
    report = ReportData(
        settings=to_dict(session.config),
        card=card,
        records=records,
        speed=speed,
        data=data,
        split=split,
        predictions=evaluation.predictions,
        assessment=evaluation.assessment,
    )
    write_report(run.path, report)


def model_card(session: Session, metrics: dict[str, float], *, thresholds: tuple[float, ...] = ()) -> ModelCard:
    """The card of the session's model.

    Args:
        session: at the step of the metrics.
        metrics: of its evaluation.
        thresholds: of the labels, if images have several.
    """
    config = session.config
    provenance = {
        "vitral": __version__,
        "recipe": config.recipe,
        "seed": config.seed,
        "steps": session.step,
        "data": config.data.source if config.data.root is None else str(config.data.root),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if session.best is not None and session.best.card is not None:
        provenance["best_step"] = session.best.card.provenance["steps"]
    if config.model.weights:
        provenance["weights"] = str(config.model.weights)
    if config.changes:
        provenance["changes"] = "; ".join(config.changes)
    trained_head = config.objective.evaluate_by == "labels"
    return ModelCard(
        preprocessing=session.preprocessing,
        classes=session.classes if trained_head else (),
        provenance=provenance,
        metrics=metrics,
        target=config.data.target,
        thresholds=thresholds,
    )
