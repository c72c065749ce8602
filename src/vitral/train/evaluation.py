"""Evaluation of a run, as its objective requires: predictions for labels, or probes on frozen features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitral.data.augment.mixing import Examples
from vitral.data.batches import EvaluationBatches, readable
from vitral.data.images.preprocess import PixelBatch
from vitral.data.order import OBJECTIVE, random_bits
from vitral.data.sources.source import Source, Subset
from vitral.evals.features import extract_features
from vitral.evals.multi_label import best_thresholds, evaluate_labels
from vitral.evals.predictions import Predictions, predict_all
from vitral.evals.probe import probe
from vitral.evals.regression import evaluate_numbers
from vitral.evals.result import EvalResult
from vitral.evals.splits import final_split, running_split
from vitral.evals.target_predictions import TargetPredictions, predict_targets
from vitral.objectives.objective import Panel
from vitral.objectives.self_supervised import Learner
from vitral.runs.assessment import Assessment
from vitral.train.config import RunConfig
from vitral.train.session import Session

__all__ = [
    "MAX_PROBE_IMAGES",
    "MAX_THRESHOLD_IMAGES",
    "SplitEvaluation",
    "draw_samples",
    "evaluate_split",
    "evenly_spaced",
    "features_fn",
    "metric_names",
    "predict_fn",
]

MAX_PROBE_IMAGES = 5000
"""Maximum number of training images that a probe is fitted on."""

MAX_THRESHOLD_IMAGES = 1000
"""Maximum number of training images that thresholds are chosen on, without validation images."""

NUM_SAMPLES = 8
"""Number of images in panels."""

METRICS = {
    "class": ("top1", "top5", "loss", "ece"),
    "multi-label": ("map", "map_micro", "f1", "f1_micro", "exact", "loss"),
    "regression": ("r2", "mae", "rmse"),
}
"""Metrics of a split by the target of the run; the first is the higher, the better."""

FEATURE_METRICS = ("knn", "linear")
"""Metrics of a split, if the objective learns without labels."""


@dataclass(frozen=True, kw_only=True)
class SplitEvaluation:
    """The evaluation of a split."""

    result: EvalResult
    predictions: Predictions | TargetPredictions | None = None
    """None if the objective is not evaluated by labels."""
    thresholds: tuple[float, ...] = ()
    """Of the labels, if images have several."""
    note: str = ""
    """For the user; empty: none."""
    assessment: Assessment | None = None
    """Of a final evaluation, where there is one."""


@dataclass(frozen=True, kw_only=True)
class NoLabels:
    """The evaluation of features where images have no labels for a probe."""

    unreadable: tuple[str, ...] = ()

    def metrics(self) -> Iterator[tuple[str, float]]:
        """No metrics."""
        yield from ()

    def headline(self) -> str:
        """The reason."""
        return "not evaluated, as the images have no classes"


def metric_names(config: RunConfig, data: Mapping[str, Source]) -> list[str]:
    """Names of the metrics of a finished run."""
    splits = dict.fromkeys((running_split(data), final_split(data)))
    names = METRICS[config.data.target] if config.objective.evaluate_by == "labels" else FEATURE_METRICS
    return [f"{split}/{metric}" for split in splits for metric in names]


def evaluate_split(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    """Evaluates the session's model on a split; all processes together. Errors as in `predict_all`."""
    if session.config.objective.evaluate_by == "features":
        return evaluate_features(session, data, split)
    evaluate = {
        "class": evaluate_classifier,
        "multi-label": evaluate_label_sets,
        "regression": evaluate_regression,
    }
    return evaluate[session.config.data.target](session, data, split)


def evaluate_classifier(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    predictions = predict_all(
        predict_fn(session),
        data[split],
        preprocessing=session.preprocessing,
        data=session.config.data,
        world=session.world,
    )
    return SplitEvaluation(result=predictions.accuracy(), predictions=predictions)


def evaluate_label_sets(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    """Thresholds come from the validation images, also for these themselves; without any, from training images."""
    found = predict_targets_of(session, data[split])
    if split == "val":
        thresholds = best_thresholds(found)
    else:
        chosen_on = data["val"] if "val" in data else evenly_spaced(data["train"], MAX_THRESHOLD_IMAGES)
        thresholds = best_thresholds(predict_targets_of(session, chosen_on))
    note = (
        "the thresholds of labels are chosen on training images, which is worse than on validation images: "
        "--data.val-fraction 0.1 holds some out"
    )
    return SplitEvaluation(
        result=evaluate_labels(found, thresholds),
        predictions=found,
        thresholds=thresholds,
        note="" if "val" in data else note,
    )


def evaluate_regression(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    found = predict_targets_of(session, data[split])
    return SplitEvaluation(result=evaluate_numbers(found), predictions=found)


def predict_targets_of(session: Session, source: Source) -> TargetPredictions:
    """The outputs of the session's evaluation model for every image."""
    return predict_targets(
        predict_fn(session),
        source,
        preprocessing=session.preprocessing,
        data=session.config.data,
        world=session.world,
    )


def evaluate_features(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    train = data["train"]
    if len(train.classes) < 2:
        return SplitEvaluation(result=NoLabels())
    extract = partial(
        extract_features,
        features_fn(session),
        preprocessing=session.preprocessing,
        data=session.config.data,
        world=session.world,
    )
    reference, query = extract(evenly_spaced(train, MAX_PROBE_IMAGES)), extract(data[split])
    # fitted in one process, or rounding would differ between processes
    return SplitEvaluation(
        result=session.world.run_on_main(lambda: probe(reference, query, num_classes=len(train.classes)))
    )


def predict_fn(session: Session) -> Callable[[PixelBatch], Float[Tensor, "b classes"]]:
    """A function that predicts logits from images as read, with the session's evaluation model."""

    @torch.no_grad()
    def predict(images: PixelBatch) -> Float[Tensor, "b classes"]:
        model = session.eval_model.eval()
        with session.autocast():
            return model(session.preprocessing.normalise(images.to(session.device)))

    return predict


def features_fn(session: Session) -> Callable[[PixelBatch], Float[Tensor, "b d"]]:
    """A function that extracts features from images as read, for objectives that are evaluated by features."""

    @torch.no_grad()
    def features(images: PixelBatch) -> Float[Tensor, "b d"]:
        learner = session.eval_learner.eval()
        assert isinstance(learner, Learner)
        with session.autocast():
            return learner.extract_features(session.preprocessing.normalise(images.to(session.device)))

    return features


@torch.no_grad()
def draw_samples(session: Session, source: Source) -> Sequence[Panel]:
    """Panels of a few images of a source, the same for each seed; none if the objective has no panels."""
    batch = EvaluationBatches(
        source=evenly_spaced(source, NUM_SAMPLES), preprocessing=session.preprocessing, batch_size=NUM_SAMPLES
    )[0]
    images = batch.images[readable(batch.labels)]
    keys = random_bits(OBJECTIVE, session.config.seed, np.arange(len(images))) >> np.uint64(1)
    examples = Examples(
        images=session.preprocessing.normalise(images.to(session.device)),
        labels=torch.zeros(len(images), dtype=torch.int64, device=session.device),
        keys=torch.from_numpy(keys.astype(np.int64)).to(session.device),
    )
    with session.autocast():
        return session.objective.panels(session.eval_learner.eval(), examples)


def evenly_spaced(source: Source, count: int) -> Source:
    """At most `count` images of a source, evenly spaced."""
    if len(source) <= count:
        return source
    return Subset(source=source, indices=np.linspace(0, len(source) - 1, count).round().astype(np.int64))
