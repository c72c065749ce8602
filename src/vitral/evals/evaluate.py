"""Evaluating a trained model on a split of its own data, or of other data of the same classes."""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.data.batches import Batch, EvaluationBatches, load
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.evals.accuracy import Accuracy, Predictions, predict_batches
from vitral.evals.features import FeatureSet, extract_batches

__all__ = [
    "TIMEOUT",
    "check_finite",
    "evaluate",
    "extract_features",
    "final_split",
    "predict_all",
    "read_by_first",
    "running_split",
]

Part = TypeVar("Part", Predictions, FeatureSet)
Compute = Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b outputs"]]

BATCH_SIZE = 256

TIMEOUT = timedelta(minutes=10)
"""How long processes that evaluate together wait for one another."""


def running_split(data: Mapping[str, Source]) -> str:
    """The split that is watched during training: validation where there is one, else test."""
    return "val" if "val" in data else "test"


def final_split(data: Mapping[str, Source]) -> str:
    """The split that is reported at the end: test where there is one, else validation."""
    return "test" if "test" in data else "val"


def evaluate(
    predict: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]],
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World = SINGLE_PROCESS,
) -> Accuracy:
    """Measures a classifier on every image of a source; errors as in `predict_all`."""
    return predict_all(predict, source, preprocessing=preprocessing, data=data, world=world).accuracy()


def predict_all(
    predict: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]],
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World = SINGLE_PROCESS,
) -> Predictions:
    """What a classifier says of every image of a source, exactly once each; all processes together, for all.

    Raises:
        UserError: an image cannot be read, unless `data.on_error` is skip, or there are none.
    """
    parts = _parts(
        partial(predict_batches, predict), predict, source, preprocessing=preprocessing, data=data, world=world
    )
    return _checked(Predictions.concatenate(parts), data)


def extract_features(
    encode: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]],
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World = SINGLE_PROCESS,
) -> FeatureSet:
    """What a model makes of every image of a source, one row each, in order; as `predict_all` otherwise."""
    parts = _parts(
        partial(extract_batches, encode), encode, source, preprocessing=preprocessing, data=data, world=world
    )
    return _checked(FeatureSet.concatenate(parts), data)


def check_finite(outputs: Float[Tensor, "*shape"]) -> None:
    """Refuses what a model makes of images where that is no number.

    Raises:
        UserError: it is not.
    """
    if not outputs.isfinite().all():
        raise UserError("the model's outputs are not finite: its weights are damaged, or its training diverged")


def read_by_first(count: int, world: World) -> int:
    """How many of `count` images the first process evaluates, in whole batches."""
    return min(count, BATCH_SIZE * math.ceil(math.ceil(count / BATCH_SIZE) / world.size))


def _parts(
    read: Callable[[Iterable[Batch]], list[Part]],
    compute: Compute,
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World,
) -> list[Part]:
    """What `read` made of all batches, of which each process reads its share."""
    batches = EvaluationBatches(source=source, preprocessing=preprocessing, batch_size=BATCH_SIZE)
    each = -(-len(batches) // world.size)
    numbers = range(len(batches))[world.rank * each : (world.rank + 1) * each]
    found = read(load(batches, numbers, workers=data.workers, pin=False))
    for _ in range(each - len(numbers)):
        # where weights are in shards, all processes compute as often, or they would wait for one another
        compute(torch.zeros(1, *preprocessing.image_size, preprocessing.channels, dtype=torch.uint8))
    return [part for parts in world.all_gather(found) for part in parts]


def _checked(found: Part, data: DataConfig) -> Part:
    """Refuses a broken image where the configuration says so."""
    if found.unreadable and data.on_error == "stop":
        raise UserError(f"{found.unreadable[0]}; remove the file, or leave such files out with --data.on-error skip")
    return found
