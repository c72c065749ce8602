"""What a run measures of itself now and then, as its objective says: classes told, or representations probed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from vitral.data.batches import UNREADABLE, EvaluationBatches
from vitral.data.sources.source import Source, Subset
from vitral.evals.accuracy import Judgements
from vitral.evals.evaluate import final_split, judged, represented, running_split
from vitral.evals.probe import probe
from vitral.objectives.objective import Panel
from vitral.train.config import RunConfig
from vitral.train.session import Session

__all__ = ["KNOWN", "Examination", "Measured", "drawn_panels", "evenly", "examined", "figures_of"]

KNOWN = 5000
"""Training images that probes learn from at most."""

SHOWN = 8
"""Images that panels show."""


@runtime_checkable
class Measured(Protocol):
    """The figures of one evaluation."""

    @property
    def broken(self) -> tuple[str, ...]:
        """One sentence for each image that could not be read."""
        ...

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The figures by name."""
        ...

    def headline(self) -> str:
        """The most important figures in a few words."""
        ...


@dataclass(frozen=True, kw_only=True)
class Examination:
    """An evaluation, and what was said of each image where classes were told."""

    result: Measured
    judgements: Judgements | None = None


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """The evaluation of images that have no classes to probe by."""

    broken: tuple[str, ...] = ()

    def metrics(self) -> Iterator[tuple[str, float]]:
        """None."""
        yield from ()

    def headline(self) -> str:
        """Says so."""
        return "not evaluated, as the images have no classes"


MEASURES = {"labels": ("top1", "top5", "loss", "ece"), "features": ("knn", "linear")}
"""What is measured of a split."""


def figures_of(config: RunConfig, data: Mapping[str, Source]) -> list[str]:
    """Names of the figures that a run has at its end."""
    splits = dict.fromkeys((running_split(data), final_split(data)))
    return [f"{split}/{measure}" for split in splits for measure in MEASURES[config.objective.judged_by]]


def examined(session: Session, data: Mapping[str, Source], split: str) -> Examination:
    """Evaluates the weights to keep on a split; all processes together. Errors as in `judged`."""
    return {"labels": _told, "features": _probed}[session.config.objective.judged_by](session, data, split)


def _told(session: Session, data: Mapping[str, Source], split: str) -> Examination:
    found = judged(
        session.predict,
        data[split],
        preprocessing=session.preprocessing,
        data=session.config.data,
        world=session.world,
    )
    return Examination(result=found.accuracy(), judgements=found)


def _probed(session: Session, data: Mapping[str, Source], split: str) -> Examination:
    train = data["train"]
    if len(train.classes) < 2:
        return Examination(result=Unlabelled())
    encoded = partial(
        represented,
        session.represent,
        preprocessing=session.preprocessing,
        data=session.config.data,
        world=session.world,
    )
    known, asked = encoded(evenly(train, KNOWN)), encoded(data[split])
    # one process computes, or each would do the same with its own rounding
    return Examination(result=session.world.by_leader(lambda: probe(known, asked, num_classes=len(train.classes))))


def drawn_panels(session: Session, source: Source) -> Sequence[Panel]:
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
