"""What a run measures of itself now and then, as its objective says: classes told, or representations probed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from vitral.data.batches import UNREADABLE, EvaluationBatches
from vitral.data.sources.source import Source, Subset
from vitral.evals.accuracy import Predictions
from vitral.evals.evaluate import extract_features, final_split, predict_all, running_split
from vitral.evals.probe import probe
from vitral.objectives.objective import Panel
from vitral.train.config import RunConfig
from vitral.train.session import Session

__all__ = ["KNOWN", "EvalResult", "SplitEvaluation", "draw_samples", "evaluate_split", "evenly", "metric_names"]

KNOWN = 5000
"""Training images that probes learn from at most."""

SHOWN = 8
"""Images that panels show."""


@runtime_checkable
class EvalResult(Protocol):
    """The figures of one evaluation."""

    @property
    def unreadable(self) -> tuple[str, ...]:
        """One sentence for each image that could not be read."""
        ...

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The figures by name."""
        ...

    def headline(self) -> str:
        """The most important figures in a few words."""
        ...


@dataclass(frozen=True, kw_only=True)
class SplitEvaluation:
    """An evaluation, and what was said of each image where classes were told."""

    result: EvalResult
    predictions: Predictions | None = None


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """The evaluation of images that have no classes to probe by."""

    unreadable: tuple[str, ...] = ()

    def metrics(self) -> Iterator[tuple[str, float]]:
        """None."""
        yield from ()

    def headline(self) -> str:
        """Says so."""
        return "not evaluated, as the images have no classes"


MEASURES = {"labels": ("top1", "top5", "loss", "ece"), "features": ("knn", "linear")}
"""What is measured of a split."""


def metric_names(config: RunConfig, data: Mapping[str, Source]) -> list[str]:
    """Names of the figures that a run has at its end."""
    splits = dict.fromkeys((running_split(data), final_split(data)))
    return [f"{split}/{measure}" for split in splits for measure in MEASURES[config.objective.evaluate_by]]


def evaluate_split(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    """Evaluates the weights to keep on a split; all processes together. Errors as in `predict_all`."""
    return {"labels": evaluate_classifier, "features": evaluate_features}[session.config.objective.evaluate_by](
        session, data, split
    )


def evaluate_classifier(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    found = predict_all(
        session.predict,
        data[split],
        preprocessing=session.preprocessing,
        data=session.config.data,
        world=session.world,
    )
    return SplitEvaluation(result=found.accuracy(), predictions=found)


def evaluate_features(session: Session, data: Mapping[str, Source], split: str) -> SplitEvaluation:
    train = data["train"]
    if len(train.classes) < 2:
        return SplitEvaluation(result=Unlabelled())
    encoded = partial(
        extract_features,
        session.extract_features,
        preprocessing=session.preprocessing,
        data=session.config.data,
        world=session.world,
    )
    known, asked = encoded(evenly(train, KNOWN)), encoded(data[split])
    # one process computes, or each would do the same with its own rounding
    return SplitEvaluation(
        result=session.world.run_on_main(lambda: probe(known, asked, num_classes=len(train.classes)))
    )


def draw_samples(session: Session, source: Source) -> Sequence[Panel]:
    """A few images of a source and what the model made of them; none where the objective shows nothing."""
    some = evenly(source, SHOWN)
    batches = EvaluationBatches(source=some, preprocessing=session.preprocessing, batch_size=SHOWN)
    batch = batches[0]
    return session.panels(batch.images[batch.labels != UNREADABLE])


def evenly(source: Source, count: int) -> Source:
    """Some images of a source, as far apart as they can be."""
    if len(source) <= count:
        return source
    return Subset(source=source, indices=np.linspace(0, len(source) - 1, count).round().astype(np.int64))
