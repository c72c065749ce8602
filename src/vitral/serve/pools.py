"""Where models are computed: in this process, or in others."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, runtime_checkable

from vitral.export.exported import ExportedModel
from vitral.models import Model
from vitral.serve.batching import BatchStats
from vitral.serve.config import ServeConfig
from vitral.serve.engine import Engine, ModelFacts, Outcome, Request
from vitral.serve.predictor import Predictor

__all__ = ["Loader", "LocalPool", "ModelPool", "Observe", "Served", "load_predictors"]

LOG = logging.getLogger("vitral.serve")

Served = Predictor | Model | ExportedModel | str | Path
"""A predictor, a model with its card, or the path or name of one as in `Predictor`."""

Loader = Callable[[], Mapping[str, Served]]
"""Gives the models by name, anew at each call."""

Observe = Callable[[str, BatchStats], None]
"""Takes the name of a model and what happened to a batch."""


@runtime_checkable
class ModelPool(Protocol):
    """Computes what is asked of several models."""

    @property
    def facts(self) -> Mapping[str, ModelFacts]:
        """The models by name; the first is the default."""
        ...

    def start(self) -> Future:
        """Begins to warm up; the result comes when every model is ready, or the error that prevents it."""
        ...

    def ready(self, name: str) -> bool:
        """Whether a model can compute now."""
        ...

    def submit(self, name: str, request: Request) -> Future[Outcome]:
        """Computes an image; cancel the future if its result is no longer needed."""
        ...

    def close(self) -> None:
        """Finishes what is queued and ends."""
        ...


class LocalPool:
    """Computes in threads of this process."""

    def __init__(self, load: Loader, config: ServeConfig, observe: Observe) -> None:
        """
        Args:
            load: gives the models.
            config: how they are batched.
            observe: called in a model's thread after each batch, before its results are set.

        Raises:
            UserError: a model cannot be loaded or served.
        """
        self.engines = {
            name: Engine(name, predictor, config, lambda stats, name=name: observe(name, stats))
            for name, predictor in load_predictors(load).items()
        }
        self.facts = {name: engine.facts for name, engine in self.engines.items()}
        self._ready: set[str] = set()

    def start(self) -> Future:
        """As in `ModelPool`."""
        started: Future = Future()

        def note(name: str, warm: Future) -> None:
            if error := warm.exception():
                if not started.done():
                    started.set_exception(error)
                return
            self._ready.add(name)
            if len(self._ready) == len(self.engines) and not started.done():
                started.set_result(None)

        for name, engine in self.engines.items():
            engine.start().add_done_callback(lambda warm, name=name: note(name, warm))
        return started

    def ready(self, name: str) -> bool:
        """As in `ModelPool`."""
        return name in self._ready

    def submit(self, name: str, request: Request) -> Future[Outcome]:
        """As in `ModelPool`."""
        return self.engines[name].submit(request)

    def close(self) -> None:
        """As in `ModelPool`."""
        self._ready.clear()
        for engine in self.engines.values():
            engine.close()


def load_predictors(load: Loader) -> dict[str, Predictor]:
    """The models that a loader gives, ready to predict.

    Raises:
        UserError: a model cannot be loaded, or has no card.
    """
    return {name: model if isinstance(model, Predictor) else Predictor(model) for name, model in load().items()}
