"""The evaluation loop: reads every image of a source once, divided among all processes."""

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.data.batches import Batch, EvaluationBatches, load
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.data.sources.source import Source
from vitral.distributed.world import World
from vitral.errors import UserError

__all__ = ["BATCH_SIZE", "TIMEOUT", "check_finite", "check_readable", "num_images_on_main", "run_evaluation"]

T = TypeVar("T")

BATCH_SIZE = 256

TIMEOUT = timedelta(minutes=10)
"""How long processes that evaluate together wait for one another."""


def run_evaluation(
    process: Callable[[Iterable[Batch]], list[T]],
    model: Callable[[PixelBatch], Float[Tensor, "b outputs"]],
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World,
) -> list[T]:
    """The result of each batch of a source, in order, on every process; called by all processes.

    Args:
        process: computes the results of this process's batches.
        model: what `process` runs on the images of each batch. A process with fewer batches than the others runs it on
            dummy images, because the forward pass of sharded weights needs all processes.
        source: the images.
        preprocessing: how images are resized.
        data: how images are read.
        world: the processes.
    """
    batches = EvaluationBatches(source=source, preprocessing=preprocessing, batch_size=BATCH_SIZE)
    per_process = -(-len(batches) // world.size)
    numbers = range(len(batches))[world.rank * per_process : (world.rank + 1) * per_process]
    results = process(load(batches, numbers, workers=data.workers, pin=False))
    for _ in range(per_process - len(numbers)):
        model(torch.zeros(1, *preprocessing.shape, dtype=torch.uint8))
    return [result for gathered in world.all_gather(results) for result in gathered]


def num_images_on_main(count: int, world: World) -> int:
    """How many of `count` images the main process evaluates: whole batches."""
    return min(count, BATCH_SIZE * math.ceil(math.ceil(count / BATCH_SIZE) / world.size))


def check_readable(unreadable: tuple[str, ...], data: DataConfig) -> None:
    """Checks that every image could be read.

    Raises:
        UserError: an image could not be read, and `data.on_error` is stop.
    """
    if unreadable and data.on_error == "stop":
        raise UserError(f"{unreadable[0]}; remove the file, or leave such files out with --data.on-error skip")


def check_finite(outputs: Float[Tensor, "*shape"]) -> None:
    """Checks a model's outputs for NaN and infinity.

    Raises:
        UserError: there are some.
    """
    if not outputs.isfinite().all():
        raise UserError("the model's outputs are not finite: its weights are damaged, or its training diverged")
