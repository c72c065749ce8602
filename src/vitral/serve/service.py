"""One served model: reads images in threads, computes them in batches, and refuses what it cannot take in time."""

import asyncio
import hashlib
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vitral.data.images.decode import UnreadableImage, max_pixels
from vitral.data.images.formats import HEADER_BYTES, foreign_format
from vitral.inspection.look import visible_part
from vitral.inspection.picture import overlay_rollout
from vitral.serve.batching import Batcher, BatchStats, DeadlinePassed, Task
from vitral.serve.config import ServeConfig
from vitral.serve.metrics import Metrics
from vitral.serve.predictor import Predictor, probabilities
from vitral.serve.problems import Problem
from vitral.serve.uploads import Upload
from vitral.vit import ViT

__all__ = ["Outcome", "Service"]

LOG = logging.getLogger("vitral.serve")

PICTURE_PIXELS = 640
"""Longer side of a picture of attention."""

PIXEL_ART = 64
"""Images with a longer side of at most this many pixels are enlarged without smoothing."""

NUM_READERS = min(os.cpu_count() or 1, 4)
"""Threads that decode images: each may hold one that has the most pixels allowed."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one image."""

    name: str
    sha256: str
    """Of the bytes that were read."""
    result: Any = None
    """What the task computed; None if there is a problem."""
    problem: Problem | None = None


@dataclass(frozen=True, kw_only=True)
class _Read:
    """An image that was read."""

    sha256: str
    pixels: np.ndarray
    """Shape (h w c)."""
    picture: Image.Image | None
    """The part of the image that the model gets, at the size of a picture of attention; None if it is not drawn."""


class Service:
    """A model with its queue and its threads."""

    def __init__(self, name: str, predictor: Predictor, config: ServeConfig, metrics: Metrics) -> None:
        self.name, self.predictor, self.config = name, predictor, config
        self.ready = False
        self._waiting, self._rate = 0, 0.0
        self._gauge, self._record = metrics.queue.labels(name), metrics.observe_batches(name)
        self._batcher = Batcher(
            name=f"model {name}",
            max_batch=config.max_batch,
            max_wait=config.max_wait,
            observe=self._observe,
        )
        self._readers = ThreadPoolExecutor(NUM_READERS, thread_name_prefix=f"reader {name}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty if the head was never trained."""
        return self.predictor.card.classes

    @property
    def draws_attention(self) -> bool:
        """Whether the model has attention between all patches."""
        model = self.predictor.model
        return isinstance(model, ViT) and model.config.attention == "global"

    def start(self) -> None:
        """Starts the model's thread, which computes a first batch before `ready` becomes true."""
        preprocessing = self.predictor.card.preprocessing
        pixels = np.zeros((*preprocessing.image_size, preprocessing.channels), preprocessing.dtype)
        self._batcher.start()
        jobs = [
            self._batcher.submit(self.probabilities, pixels, deadline=math.inf) for _ in range(self.config.max_batch)
        ]
        jobs[-1].add_done_callback(lambda job: setattr(self, "ready", job.exception() is None))

    def close(self) -> None:
        """Finishes what is queued and ends the threads."""
        self.ready = False
        self._batcher.close()
        self._readers.shutdown(cancel_futures=True)

    def probabilities(self, pixels: list[np.ndarray]) -> list[Tensor]:
        """Probabilities of the classes for each image of a batch, or its number."""
        return list(probabilities(self.predictor.logits(_stacked(pixels)), self.predictor.card).cpu())

    def features(self, pixels: list[np.ndarray]) -> list[Tensor]:
        """Features of each image of a batch."""
        return list(self.predictor.extract_features(_stacked(pixels)).cpu())

    def attention(self, pixels: list[np.ndarray]) -> list[Tensor]:
        """Attention rollout of each image, computed one by one: the weights of all blocks take much memory."""
        return [self.predictor.attention(_stacked([image]))[0] for image in pixels]

    async def compute(self, uploads: list[Upload], task: Task, *, deadline: float) -> list[Outcome]:
        """What a task gives for each image, in order.

        Args:
            uploads: the images.
            task: a method of this service.
            deadline: reading of `time.monotonic()`.

        Raises:
            Problem: the model is not ready, its queue is full, or no image can be read.
            DeadlinePassed: the deadline passed before all images were computed.
        """
        self.check_ready()
        count = len(uploads)
        if self._waiting + count > self.config.queue:
            raise self._full()
        self._add_waiting(count)
        try:
            jobs = (self._compute_one(upload, task, deadline) for upload in uploads)
            results = await asyncio.gather(*jobs, return_exceptions=True)
        finally:
            self._add_waiting(-count)
        outcomes = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            outcomes.append(result)
        if all(outcome.problem for outcome in outcomes):
            problem = outcomes[0].problem
            assert problem is not None
            raise problem
        return outcomes

    async def draw_attention(self, upload: Upload, *, deadline: float) -> tuple[bytes, str]:
        """A PNG of the image, darkened where the attention rollout is low, and the SHA-256 of what was read.

        Raises:
            Problem, DeadlinePassed: as in `compute`.
        """
        outcome = (await self.compute([upload], self.attention, deadline=deadline))[0]
        picture, rollout = outcome.result
        return await self._in_reader(lambda: _draw(picture, rollout)), outcome.sha256

    def check_ready(self) -> None:
        """Raises a `Problem` while the model is not ready, or all places of the queue are taken."""
        if not self.ready:
            raise Problem(503, f"the model {self.name} is not ready: try again", retry_after=1)
        if self._waiting >= self.config.queue:
            raise self._full()

    async def _compute_one(self, upload: Upload, task: Task, deadline: float) -> Outcome:
        drawn = task == self.attention
        try:
            read = await self._in_reader(lambda: self._read(upload, deadline, drawn=drawn))
        except Problem as problem:
            sha256 = hashlib.sha256(upload.content).hexdigest()
            return Outcome(name=upload.name, sha256=sha256, problem=problem)
        result = await asyncio.wrap_future(self._batcher.submit(task, read.pixels, deadline=deadline))
        return Outcome(name=upload.name, sha256=read.sha256, result=(read.picture, result) if drawn else result)

    def _read(self, upload: Upload, deadline: float, *, drawn: bool) -> _Read:
        if time.monotonic() > deadline:
            raise DeadlinePassed
        content, preprocessing = upload.content, self.predictor.card.preprocessing
        try:
            image = preprocessing.read(content, name=upload.name)
            pixels = preprocessing.pixels(image)
        except UnreadableImage as error:
            raise _problem(upload, error) from None
        picture = _scaled(visible_part(image, preprocessing)) if drawn else None
        return _Read(sha256=hashlib.sha256(content).hexdigest(), pixels=pixels, picture=picture)

    def _in_reader(self, call: Callable[[], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._readers, call)

    def _add_waiting(self, count: int) -> None:
        self._waiting += count
        self._gauge.set(self._waiting)

    def _observe(self, stats: BatchStats) -> None:
        if stats.computed:
            self._rate = stats.computed / max(stats.seconds, 1e-6)
        self._record(stats)

    def _full(self) -> Problem:
        seconds = max(math.ceil(self._waiting / self._rate), 1) if self._rate else 1
        detail = f"{self._waiting} images are waiting for the model {self.name}: try again in {seconds} s"
        return Problem(429, detail, retry_after=seconds)


def _stacked(pixels: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pixels))


def _problem(upload: Upload, error: UnreadableImage) -> Problem:
    """The answer to an image that cannot be read."""
    if foreign_format(upload.content[:HEADER_BYTES]) or isinstance(error.__cause__, UnidentifiedImageError):
        return Problem(415, str(error))
    try:
        # only the header is read: the reader gives no size of what it refuses
        with Image.open(BytesIO(upload.content)) as image:
            pixels = image.width * image.height
    except Image.DecompressionBombError:
        pixels = math.inf
    # a damaged file can make Pillow's parsers raise almost anything
    except Exception:
        pixels = 0
    if pixels > max_pixels():
        return Problem(413, f"{upload.name} has more than the {max_pixels()} pixels allowed: send a smaller image")
    return Problem(400, str(error))


def _scaled(picture: Image.Image) -> Image.Image:
    longer = max(picture.size)
    scale = PICTURE_PIXELS / longer
    size = max(round(scale * picture.width), 1), max(round(scale * picture.height), 1)
    return picture.resize(size, Image.Resampling.NEAREST if longer <= PIXEL_ART else Image.Resampling.LANCZOS)


def _draw(picture: Image.Image, rollout: Tensor) -> bytes:
    stream = BytesIO()
    Image.fromarray(overlay_rollout(picture, rollout)).save(stream, "PNG")
    return stream.getvalue()
