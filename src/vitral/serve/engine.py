"""One model with its threads: reads images and computes them in batches."""

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitral.card import ModelCard
from vitral.errors import UserError
from vitral.export.exported import ExportedModel
from vitral.export.registry import BACKENDS
from vitral.models import Model, blank_model
from vitral.serve.batching import Batcher, BatchStats
from vitral.serve.config import ServeConfig
from vitral.serve.decoding import isolated_decoders
from vitral.serve.predictor import NOT_FINITE, Predictor, probabilities
from vitral.serve.problems import Problem
from vitral.serve.reading import draw, read_upload
from vitral.serve.uploads import Upload
from vitral.vit import ViT

__all__ = ["Engine", "ModelFacts", "Outcome", "Request", "Task"]

LOG = logging.getLogger("vitral.serve")

Task = Literal["probabilities", "features", "attention"]
"""What is computed of an image."""

NUM_READERS = min(os.cpu_count() or 1, 4)
"""Threads that decode images: each may hold one that has the most pixels allowed."""

MODEL_THREADS = 2
"""Batches that a CPU of several cores computes at a time, each on its part of the cores. One batch on all cores would
stop at each operation until the slowest core is done, and a core that reads images or answers requests is slow."""

SEVERAL = 8
"""Images of the batch that shows whether batches save time."""

WORTHWHILE = 1.5
"""How many times as fast the images of such a batch must be for others to be waited for."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """An image and what to compute of it."""

    upload: Upload
    task: Task
    deadline: float
    """Reading of `time.monotonic()`, which all processes of a machine share, at which the result is useless."""
    layer: int | None = None
    """For attention: the last layer of the rollout, from 1; None: all layers."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one image."""

    name: str
    sha256: str
    """Of the bytes that were read."""
    result: Any = None
    """A vector of probabilities or features, or a PNG of attention; None if there is a problem."""
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the service says of a model."""

    card: ModelCard
    architecture: str
    """Such as ViT."""
    backend: str
    """What computes it: eager, compile, or a name in the export's `BACKENDS`."""
    parameters: int
    tasks: tuple[Task, ...]
    layers: int
    """Layers of the attention rollout; 0 if it is not drawn."""


class Engine:
    """Computes what is asked of one model."""

    def __init__(
        self, name: str, predictor: Predictor, config: ServeConfig, observe: Callable[[BatchStats], None]
    ) -> None:
        """
        Args:
            name: of the model, for its threads.
            predictor: the model.
            config: how it is batched.
            observe: called in the model's thread after each batch, before its results are set.

        Raises:
            UserError: the model cannot be served so.
        """
        self.predictor, self.config = predictor, config
        self._report, self._warm = observe, False
        self.facts = _facts(predictor, compiled=config.compile)
        if config.compile:
            predictor.model.compile(dynamic=True)
        num_threads = _num_model_threads(predictor, compiled=config.compile)
        self._batcher = Batcher(
            name=f"model {name}",
            max_batch=config.max_batch,
            max_wait=config.max_wait,
            observe=self._observe,
            num_threads=num_threads,
            initializer=partial(torch.set_num_threads, _num_cores() // num_threads),
        )
        self._readers = ThreadPoolExecutor(NUM_READERS, thread_name_prefix=f"reader {name}")
        self._decoders = None
        if config.isolate:
            self._decoders = isolated_decoders(predictor.card.preprocessing, processes=NUM_READERS)
            LOG.info("%s: %s", name, self._decoders.protection)
        self._compute = {"probabilities": self._probabilities, "features": self._features, "attention": self._attention}

    def start(self) -> Future:
        """Starts the model's thread; the result comes when the first batches are computed, or their error."""
        self._batcher.start()
        return self._batcher.submit(self._warm_up, None, deadline=math.inf)

    def close(self) -> None:
        """Finishes what is queued and ends the threads."""
        self._batcher.close()
        self._readers.shutdown(cancel_futures=True)
        if self._decoders is not None:
            self._decoders.close()

    def submit(self, request: Request) -> Future[Outcome]:
        """Reads and computes an image; cancel the future if its result is no longer needed."""
        outcome: Future[Outcome] = Future()
        self._readers.submit(self._read, request, outcome)
        return outcome

    def _read(self, request: Request, outcome: Future[Outcome]) -> None:
        if outcome.cancelled():
            return
        drawn, upload = request.task == "attention", request.upload
        try:
            read = read_upload(
                upload,
                self.facts.card.preprocessing,
                deadline=request.deadline,
                drawn=drawn,
                decoders=self._decoders,
            )
            item = (read.pixels, request.layer) if drawn else read.pixels
            job = self._batcher.submit(self._compute[request.task], item, deadline=request.deadline)
        except Problem as problem:
            sha256 = hashlib.sha256(upload.content).hexdigest()
            _settle(outcome, Outcome(name=upload.name, sha256=sha256, problem=problem))
        # whatever it is, somebody waits for it
        except Exception as error:
            _settle(outcome, error)
        else:
            outcome.add_done_callback(lambda _: job.cancel())
            # without the pixels: futures that know each other stay in memory for a while
            finish = partial(_finish, outcome, upload.name, read.sha256, read.picture)
            job.add_done_callback(partial(self._readers.submit, finish) if drawn else finish)

    def _observe(self, stats: BatchStats) -> None:
        """Reports a batch. Nothing else is submitted until the warm-up is done, so that it is the first one."""
        self._report(stats if self._warm else replace(stats, warm_up=True))
        self._warm = True

    def _warm_up(self, items: list[None]) -> list[None]:
        """Starts the decoders, and compares the speeds of several images and of one, both of which are compiled.

        Raises:
            UserError: the outputs are not finite.
        """
        if self._decoders is not None:
            self._decoders.start()
        on_cpu, most = self.predictor.device.type == "cpu", self.config.max_batch
        # a GPU shows now that its memory is enough
        several = min(most, SEVERAL) if on_cpu else most
        seconds, alone = self._seconds_of(several), self._seconds_of(1)
        if several * alone < WORTHWHILE * seconds:
            self._batcher.prefer_small()
        return items

    def _seconds_of(self, size: int) -> float:
        """The shorter time of two batches of zeros.

        Raises:
            UserError: the outputs are not finite.
        """
        preprocessing = self.facts.card.preprocessing
        pixels = np.zeros(preprocessing.shape, preprocessing.dtype)
        task = self._compute["probabilities" if "probabilities" in self.facts.tasks else "features"]
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            if not np.isfinite(task([pixels] * size)).all():
                raise UserError("the model's outputs are not finite, so its weights are damaged")
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def _probabilities(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        """Probabilities of the classes, or a number, of each image."""
        logits = self.predictor.logits(_stacked(pixels))
        return list(probabilities(logits, self.facts.card).cpu().numpy())

    def _features(self, pixels: list[np.ndarray]) -> list[np.ndarray]:
        exported = isinstance(self.predictor.model, ExportedModel)  # whose only output they are
        compute = self.predictor.logits if exported else self.predictor.extract_features
        return list(compute(_stacked(pixels)).cpu().numpy())

    def _attention(self, items: list[tuple[np.ndarray, int | None]]) -> list[Tensor]:
        """Computed one by one: the weights of all blocks take much memory."""
        return [self.predictor.attention(_stacked([pixels]), layers=layer)[0] for pixels, layer in items]


@cache
def _num_cores() -> int:
    """Threads that an operation may use, before model threads divide them: new threads take over what one has set."""
    return torch.get_num_threads()


def _num_model_threads(predictor: Predictor, *, compiled: bool) -> int:
    """How many batches are computed at a time."""
    if compiled or isinstance(predictor.model, ExportedModel) or predictor.device.type != "cpu":
        return 1
    return min(MODEL_THREADS, _num_cores())


def _facts(predictor: Predictor, *, compiled: bool) -> ModelFacts:
    model = predictor.model
    if isinstance(model, ExportedModel):
        return _exported_facts(model, predictor.card, compiled=compiled)
    drawn = isinstance(model, ViT) and model.config.attention == "global"
    drawn = drawn and not predictor.card.preprocessing.keeps_aspect
    tasks: list[Task] = ["features"]
    if predictor.card.classes:
        tasks.append("probabilities")
    if drawn:
        tasks.append("attention")
    return ModelFacts(
        card=predictor.card,
        architecture=type(model).__name__,
        backend="compile" if compiled else "eager",
        parameters=_num_parameters(model),
        tasks=tuple(tasks),
        layers=model.config.depth if isinstance(model, ViT) and drawn else 0,
    )


def _exported_facts(model: ExportedModel, card: ModelCard, *, compiled: bool) -> ModelFacts:
    if compiled:
        raise UserError(f"{model.path} is a compiled graph already: leave out --compile")
    if model.metadata.with_preprocessing:
        raise UserError(
            f"{model.path} resizes images itself, as the service does: export it without --with-preprocessing"
        )
    original = blank_model(model.config)
    return ModelFacts(
        card=card,
        architecture=type(original).__name__,
        backend=next(name for name, backend in BACKENDS.items() if backend.suffix == model.path.suffix.lower()),
        parameters=_num_parameters(original),
        tasks=("probabilities",) if model.metadata.output == "logits" else ("features",),
        layers=0,
    )


def _num_parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _finish(outcome: Future[Outcome], name: str, sha256: str, picture: Image.Image | None, job: Future) -> None:
    """Hands on what became of a job."""
    if job.cancelled() or outcome.cancelled():
        return
    try:
        result = job.result()
        if not np.isfinite(np.asarray(result)).all():
            _settle(outcome, Outcome(name=name, sha256=sha256, problem=Problem(422, f"{name}: {NOT_FINITE}")))
            return
        result = result if picture is None else draw(picture, result)
    except Exception as error:
        _settle(outcome, error)
    else:
        _settle(outcome, Outcome(name=name, sha256=sha256, result=result))


def _settle(outcome: Future[Outcome], result: Outcome | Exception) -> None:
    """Sets a result or an error, unless nobody waits any more."""
    if not outcome.set_running_or_notify_cancel():
        return
    if isinstance(result, Exception):
        outcome.set_exception(result)
    else:
        outcome.set_result(result)


def _stacked(pixels: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pixels))
