"""Fine-tuning on one task, as in VTAB: validation images select the learning rate, then they are trained on too."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import UNREADABLE
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch
from vitral.data.sources.source import ConcatSource, Source
from vitral.errors import UserError
from vitral.evals.predictions import predict_all
from vitral.recipes.families import TASKS, Task
from vitral.recipes.finetune import finetune as finetune_recipe
from vitral.runs.reporter import Diverged
from vitral.suites.transfer import Score
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.evaluation import predict_fn
from vitral.train.plan import Plan
from vitral.train.resource_errors import OutOfMemory, translate_resource_errors
from vitral.train.session import Session
from vitral.train.steps import train_steps

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "evaluate_finetuning",
    "finetune",
    "finetune_and_test",
    "finetune_config",
    "num_finetuning_images",
    "num_training_images",
    "select_protocol",
    "with_augmentation",
]


Advance = Callable[[int], None]
"""Called with a number of images that were trained on or tested."""

Log = Callable[[str], None]
"""Called with a message."""

Cached = Callable[[RunConfig, str, Callable[[], Score]], Score]
"""Calls a function that trains with a configuration and tests on a split, or returns its cached score."""

METHOD = "fine-tuned"
"""Name of the scores."""

CHECK_EVERY = 50
"""Steps between checks that the loss is finite."""


def ignore(_: object) -> None:
    """Does nothing."""


def uncached(_: RunConfig, __: str, compute: Callable[[], Score]) -> Score:
    """Calls the function."""
    return compute()


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How to fine-tune a model: SGD with momentum, cosine decay, no weight decay, gradients clipped at norm 1."""

    rates: tuple[float, ...]
    """Candidate learning rates."""
    steps: int
    batch_size: int
    image_size: int | None
    """In pixels; None: the model's own."""
    augment: bool
    """Whether training images are cropped and flipped, in tasks whose classes allow it."""
    warmup: str = "5percent"
    """As in `ScheduleConfig`; the paper does not state it."""
    val_fraction: float = 0.2
    """Fraction of the training images that selects the learning rate, if a task has no validation images."""
    table4_dataset: str | None = None
    """The data set whose row of the paper's Table 4 is used."""


PROTOCOLS = {
    "light": Protocol(rates=(0.01, 0.03, 0.1, 0.3), steps=150, batch_size=64, image_size=None, augment=False),
    "paper": Protocol(rates=(0.01,), steps=2500, batch_size=512, image_size=384, augment=True),
}
"""One for small machines and models, which need larger rates; and the paper's for VTAB (Table 4, appendix B.1.1)."""

SIZES: tuple[tuple[float, Task], ...] = ((20_000, "pets"), (500_000, "cifar10"), (math.inf, "imagenet1k"))
"""For data sets that are not in Table 4: the row to use below each number of training images.

The limits are those of BiT's rule (Kolesnikov et al. 2020).
"""


def select_protocol(form: Literal["light", "paper"], source: str, *, num_images: int) -> Protocol:
    """The protocol for a data set.

    Args:
        form: paper uses the row of Table 4 for the data set; for other data sets, the row for their size.
        source: as in `DataConfig`.
        num_images: number of training images.
    """
    if form == "light":
        return PROTOCOLS["light"]
    rows: dict[str, dict[str, Any]] = {**TASKS}
    name = source if source in rows else next(name for limit, name in SIZES if num_images < limit)
    row = rows[name]
    return replace(
        PROTOCOLS["paper"],
        rates=tuple(map(float, row["grid"].split(","))),
        steps=row["steps"],
        warmup=f"{row['warmup']}steps",
        val_fraction=row["val_fraction"],
        table4_dataset=name,
    )


def finetune_config(
    weights: Path, protocol: Protocol, *, fresh: bool, data: DataConfig, device: str, **reading: Any
) -> RunConfig:
    """The configuration of all trainings, except data, learning rate, seed and augmentation.

    Whole images are trained on and tested: they are squashed to the model's size.

    Args:
        weights: the model, as in `vitral.load`.
        protocol: how to fine-tune it.
        fresh: start from random weights of the same architecture instead.
        data: how images are read.
        device: as in `TrainConfig`.
        reading: how another project's file is read, as in `load_with_report`.
    """
    base = finetune_recipe(weights, **reading)
    architecture = base.model.architecture
    if protocol.image_size is not None:
        # a multiple of the patch size: 378 of 384 pixels for patches of 14
        patch = max(getattr(architecture, "patch_hw", (1, 1)))
        architecture = replace(architecture, image_size=protocol.image_size // patch * patch)
    return replace(
        base,
        model=replace(ModelSetup() if fresh else base.model, architecture=architecture),
        data=DataConfig(source="folder", workers=data.workers, on_error=data.on_error),
        preprocessing=base.preprocessing.whole,
        augment=AugmentConfig(),
        schedule=replace(base.schedule, warmup=protocol.warmup),
        train=TrainConfig(batch_size=protocol.batch_size, steps=protocol.steps, device=device, track="none"),
    )


def with_augmentation(config: RunConfig, *, crop: bool, flip: bool) -> RunConfig:
    """The configuration with BiT's augmentation: random crops and flips, if a task's classes allow them."""
    return replace(config, augment=AugmentConfig(crop="square" if crop else "none", flip=flip))


def finetune(config: RunConfig, source: Source, *, advance: Advance = ignore, log: Log = ignore) -> Session:
    """Trains on a source from the configuration's weights, without a run's folder.

    Args:
        config: from `finetune_config`.
        source: the images to train on.
        advance: called with the number of images of each step.
        log: called with a message about each image that cannot be read.

    Raises:
        UserError: an image cannot be read and `data.on_error` is stop, the readable images have a single class, the
            loss became infinite or NaN, or memory ran out.
    """
    try:
        with translate_resource_errors(config.train):
            return _finetuned(config, source, advance, log)
    except OutOfMemory as error:
        height, width = config.model.architecture.image_hw
        raise OutOfMemory(
            f"memory ran out with batches of {config.train.batch_size} images of {height}x{width} pixels: "
            "choose --finetune light, or a smaller model"
        ) from error


def _finetuned(config: RunConfig, source: Source, advance: Advance, log: Log) -> Session:
    config = config.resolved(num_classes=len(source.classes))
    session = Session(config, classes=source.classes)
    session.initialise()
    plan = Plan.of(config, samples=len(source))
    seen: set[int] = set()
    for step in train_steps(session, source, plan):
        seen.update(step.batch.labels.tolist())
        advance(step.num_images)
        # once the loss is not finite, it stays so
        if (step.number % CHECK_EVERY == 0 or step.is_last) and not step.metrics["loss"].isfinite():
            raise Diverged(f"fine-tuning at the learning rate {config.optim.lr:g} diverged: its loss is not finite")
    for sentence in sorted(session.unreadable):
        log(sentence)
    if len(seen - {UNREADABLE}) < 2:
        raise UserError("the images that can be read are of one class: classification needs two or more")
    return session


def num_finetuning_images(
    config: RunConfig, splits: Mapping[str, Source], *, rates: Sequence[float], num_seeds: int
) -> int:
    """Number of images that `evaluate_finetuning` trains on and tests, over all trainings."""
    trial, final = (num_training_images(config, splits[split]) for split in ("val", "test"))
    return (len(rates) if len(rates) > 1 else 0) * trial + num_seeds * final


def num_training_images(config: RunConfig, test: Source) -> int:
    """Number of images that one training trains on and tests."""
    return config.train.batch_size * (config.train.steps or 0) + len(test)


def evaluate_finetuning(
    config: RunConfig,
    splits: Mapping[str, Source],
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    advance: Advance = ignore,
    log: Log = ignore,
    cached: Cached = uncached,
) -> Score:
    """Test accuracy after training on train and val together, for each seed.

    Args:
        config: from `finetune_config`.
        splits: train, val and test.
        rates: candidate learning rates. The best accuracy on val after training on train, with the first seed, selects
            one.
        seeds: one final training each.
        advance: called with numbers of images trained on and tested.
        log: called with a message about each image that cannot be read, in every training and test.
        cached: runs each training, or returns its cached score.

    Raises:
        UserError: see `finetune`; a candidate learning rate at which training diverges is only not selected.
    """
    trainval = ConcatSource(first=splits["train"], second=splits["val"])
    trials: list[Score] = []
    best = rates[0]
    if len(rates) > 1:
        for rate in rates:
            trial = _with_rate(config, rate, seeds[0])
            train = partial(_try_rate, trial, splits["train"], splits["val"], advance=advance, log=log)
            trials.append(cached(trial, "val", train))
        best = rates[max(range(len(rates)), key=lambda number: trials[number].mean)]
    scores: list[Score] = []
    for seed in seeds:
        final = _with_rate(config, best, seed)
        train = partial(finetune_and_test, final, trainval, splits["test"], advance=advance, log=log)
        scores.append(cached(final, "test", train))
    return Score(
        method=METHOD,
        values=[score.mean for score in scores],
        num_images=scores[0].num_images,
        seconds=sum(score.seconds for score in (*trials, *scores)),
    )


def _with_rate(config: RunConfig, rate: float, seed: int) -> RunConfig:
    return replace(config, optim=replace(config.optim, lr=rate), seed=seed)


def _try_rate(config: RunConfig, train: Source, val: Source, *, advance: Advance, log: Log) -> Score:
    """As `finetune_and_test`; an accuracy of -1 if training diverges."""
    start = time.perf_counter()
    try:
        return finetune_and_test(config, train, val, advance=advance, log=log)
    except Diverged:
        return Score(method=METHOD, values=[-1.0], num_images=len(val), seconds=time.perf_counter() - start)


def finetune_and_test(config: RunConfig, train: Source, test: Source, *, advance: Advance, log: Log) -> Score:
    """Trains on some images, and evaluates the accuracy on others."""
    start = time.perf_counter()
    session = finetune(config, train, advance=advance, log=log)
    predict_logits = predict_fn(session)

    def predict(images: PixelBatch) -> Float[Tensor, "b classes"]:
        advance(len(images))
        return predict_logits(images)

    result = predict_all(predict, test, preprocessing=session.preprocessing, data=config.data).accuracy()
    for message in result.unreadable:
        log(message)
    seconds = time.perf_counter() - start
    return Score(method=METHOD, values=[result.top1], num_images=result.num_images, seconds=seconds)
