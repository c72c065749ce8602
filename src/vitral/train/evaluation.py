"""Evaluating a trained model on a split of its own data, or of other data of the same classes."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.data.batches import EvaluationBatches, load
from vitral.data.config import DataConfig
from vitral.data.preprocess import Preprocessing
from vitral.data.sources import Source
from vitral.evals.accuracy import Accuracy, Judgements, judge
from vitral.train.world import ALONE, World

__all__ = ["evaluate", "final_split", "judged", "running_split"]

BATCH_SIZE = 256


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
    world: World = ALONE,
) -> Accuracy:
    """Measures a classifier on every image of a source; errors as in `judged`."""
    return judged(predict, source, preprocessing=preprocessing, data=data, world=world).accuracy()


def judged(
    predict: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]],
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World = ALONE,
) -> Judgements:
    """What a classifier says of every image of a source, exactly once each; all processes together, for all.

    Raises:
        ValueError: an image cannot be read, unless `data.on_error` is skip, or there are none.
    """
    batches = EvaluationBatches(source=source, preprocessing=preprocessing, batch_size=BATCH_SIZE)
    each = -(-len(batches) // world.size)
    numbers = range(len(batches))[world.rank * each : (world.rank + 1) * each]
    found = judge(predict, load(batches, numbers, workers=data.workers, pin=False))
    for _ in range(each - len(numbers)):
        # where weights are in shards, all processes compute as often, or they would wait for one another
        predict(torch.zeros(1, *preprocessing.image_size, preprocessing.channels, dtype=torch.uint8))
    result = Judgements.joined([part for parts in world.gathered(found) for part in parts])
    if result.broken and data.on_error == "stop":
        raise ValueError(f"{result.broken[0]}; remove the file, or leave such files out with --data.on-error skip")
    return result
