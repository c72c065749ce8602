"""Fine-tuning on a few images, as on VTAB's tasks: the rate is chosen on some of them, then all are trained on."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import UNREADABLE
from vitral.data.config import DataConfig
from vitral.data.sources.source import Joined, Source
from vitral.errors import UserError
from vitral.evals.evaluate import evaluate
from vitral.recipes.finetune import finetune
from vitral.recipes.paper import TASKS, Task
from vitral.suites.transfer import Score
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.fit import Plan, training_batches
from vitral.train.reporter import Diverged
from vitral.train.resource_errors import OutOfMemory, translate_resource_errors
from vitral.train.session import Session

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "configured",
    "finetuned",
    "finetuning_images",
    "finetuning_score",
    "own_protocol",
    "training_images",
    "varied_as",
]


Advance = Callable[[int], None]
Tell = Callable[[str], None]
Keep = Callable[[RunConfig, str, Callable[[], Score]], Score]

METHOD = "fine-tuned"
"""What tables call it."""

CHECKED_EVERY = 50
"""Steps after which a training that has diverged is given up."""


def ignore(_: object) -> None:
    """For who wants to know nothing."""


def always(_: RunConfig, __: str, train: Callable[[], Score]) -> Score:
    """For who keeps nothing."""
    return train()


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is fine-tuned on any task; SGD with momentum, cosine decay, no weight decay, clipping at 1."""

    rates: tuple[float, ...]
    """Learning rates to choose from."""
    steps: int
    batch_size: int
    image_size: int | None
    """Pixels of the sides; None: the model's own."""
    varied: bool
    """Whether training images are cut and mirrored, in tasks whose classes allow it."""
    warmup: str = "5percent"
    """As in `ScheduleConfig`; the paper tells none."""
    held_out: float = 0.2
    """Share of the training images that the rate is chosen on, where a task has no validation images."""
    like: str | None = None
    """The data set of Table 4 that it is made for."""


PROTOCOLS = {
    "light": Protocol(rates=(0.01, 0.03, 0.1, 0.3), steps=150, batch_size=64, image_size=None, varied=False),
    "paper": Protocol(rates=(0.01,), steps=2500, batch_size=512, image_size=384, varied=True),
}
"""One for small machines and models, which take larger rates; and the paper's for VTAB (Table 4, appendix B.1.1)."""

SIZES: tuple[tuple[float, Task], ...] = ((20_000, "pets"), (500_000, "cifar10"), (math.inf, "imagenet1k"))
"""Training images below which a data set that the paper has not is treated as one that it has; the limits are those of
BiT's rule (Kolesnikov et al. 2020).
"""


def own_protocol(form: Literal["light", "paper"], source: str, *, num_images: int) -> Protocol:
    """How to fine-tune on images of one's own, or on a data set by name.

    Args:
        form: paper takes the settings of Table 4 for the data set, for others those of the set of about their size.
        source: as in `DataConfig`.
        num_images: training images.
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
        held_out=row["share"],
        like=name,
    )


def configured(weights: Path, protocol: Protocol, *, fresh: bool, data: DataConfig, device: str) -> RunConfig:
    """The run that all tasks share, but for data, rate and seed.

    Images are not varied here, see `varied_as`, and tested whole, as they are trained on.

    Args:
        weights: the model, as `vitral.load` takes it.
        protocol: how to fine-tune it.
        fresh: begin with random weights of the same architecture instead.
        data: how images are read.
        device: as in `TrainConfig`.
    """
    base = finetune(weights)
    architecture = base.model.architecture
    if protocol.image_size is not None:
        # whole patches: 378 pixels of 384 for those of 14
        patch = max(getattr(architecture, "patch_hw", (1, 1)))
        architecture = replace(architecture, image_size=protocol.image_size // patch * patch)
    return replace(
        base,
        model=ModelSetup(weights=None if fresh else weights, architecture=architecture),
        data=DataConfig(source="folder", workers=data.workers, on_error=data.on_error),
        preprocessing=replace(base.preprocessing, resize="squash"),
        augment=AugmentConfig(),
        schedule=replace(base.schedule, warmup=protocol.warmup),
        train=TrainConfig(batch_size=protocol.batch_size, steps=protocol.steps, device=device, track="none"),
    )


def varied_as(config: RunConfig, *, crop: bool, flip: bool) -> RunConfig:
    """The run with BiT's variation, as far as a task's classes allow it."""
    return replace(config, augment=AugmentConfig(crop="square" if crop else "none", flip=flip))


def finetuned(config: RunConfig, source: Source, *, advance: Advance = ignore, tell: Tell = ignore) -> Session:
    """Trains on a source from the configuration's weights, without a folder for the run.

    Args:
        config: of `configured`.
        source: the images to train on.
        advance: is told of the images of each step.
        tell: is told of each image that cannot be read.

    Raises:
        UserError: an image cannot be read and is not to be skipped, those that can are of one class, the loss grew
            beyond all bounds, or memory ran out.
    """
    try:
        with translate_resource_errors(config.train):
            return _finetuned(config, source, advance, tell)
    except OutOfMemory as error:
        height, width = config.model.architecture.image_hw
        raise OutOfMemory(
            f"memory ran out with batches of {config.train.batch_size} images of {height}x{width} pixels: "
            "choose --finetune light, or a smaller model"
        ) from error


def _finetuned(config: RunConfig, source: Source, advance: Advance, tell: Tell) -> Session:
    config = config.resolved(num_classes=len(source.classes))
    session = Session(config, classes=source.classes)
    session.initialise()
    plan = Plan.of(config, samples=len(source))
    seen: set[int] = set()
    for batch in training_batches(session, source, plan.total):
        if batch.unreadable and config.data.on_error == "stop":
            raise UserError(f"{batch.unreadable[0]}; remove it, or skip such files with --data.on-error skip")
        figures = session.train_step(
            batch, lr=plan.learning_rate(session.step), progress=(session.step + 1) / plan.total
        )
        seen.update(batch.labels.tolist())
        advance(config.train.batch_size)
        # once the loss is not finite, it stays so
        if session.step % CHECKED_EVERY in (0, plan.total % CHECKED_EVERY) and not figures["loss"].isfinite():
            raise Diverged(f"fine-tuning at the rate {config.optim.lr:g} diverged: its loss is not finite")
    for sentence in sorted(session.unreadable):
        tell(sentence)
    if len(seen - {UNREADABLE}) < 2:
        raise UserError("the images that can be read are of one class: there is nothing to tell apart")
    return session


def finetuning_images(config: RunConfig, splits: Mapping[str, Source], *, rates: Sequence[float], seeds: int) -> int:
    """The images that `finetuning_score` tells of, trained on and tested on, however often."""
    tries = len(rates) if len(rates) > 1 else 0
    return tries * training_images(config, splits["val"]) + seeds * training_images(config, splits["test"])


def training_images(config: RunConfig, asked: Source) -> int:
    """The images that one training and its test tell of."""
    return config.train.batch_size * (config.train.steps or 0) + len(asked)


def finetuning_score(
    config: RunConfig,
    splits: Mapping[str, Source],
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    advance: Advance = ignore,
    tell: Tell = ignore,
    keep: Keep = always,
) -> Score:
    """The accuracy on the test images, for each seed, of models trained on the images of train and val together.

    Args:
        config: of `configured`.
        splits: train, val and test.
        rates: learning rates; which is best after training on train alone, is chosen on val with the first seed.
        seeds: one final training each.
        advance: is told of images trained and tested on.
        tell: is told of each image that cannot be read, in every training and test.
        keep: is handed each training with its settings and the split it is tested on, and may know its score already.

    Raises:
        UserError: as `finetuned`, of the best rate.
    """
    both = Joined(first=splits["train"], second=splits["val"])
    tries: list[Score] = []
    best = rates[0]
    if len(rates) > 1:
        for rate in rates:
            first = _at(config, rate, seeds[0])
            known = splits["train"], splits["val"]
            tries.append(keep(first, "val", partial(_tried, first, *known, advance=advance, tell=tell)))
        best = rates[max(range(len(rates)), key=lambda number: tries[number].mean)]
    found: list[Score] = []
    for seed in seeds:
        final = _at(config, best, seed)
        found.append(keep(final, "test", partial(tested, final, both, splits["test"], advance=advance, tell=tell)))
    return Score(
        method=METHOD,
        values=[score.mean for score in found],
        num_images=found[0].num_images,
        seconds=sum(score.seconds for score in (*tries, *found)),
    )


def _at(config: RunConfig, rate: float, seed: int) -> RunConfig:
    return replace(config, optim=replace(config.optim, lr=rate), seed=seed)


def _tried(config: RunConfig, known: Source, asked: Source, *, advance: Advance, tell: Tell) -> Score:
    """As `tested`; an accuracy below any where training diverged."""
    start = time.perf_counter()
    try:
        return tested(config, known, asked, advance=advance, tell=tell)
    except Diverged:
        return Score(method=METHOD, values=[-1.0], num_images=len(asked), seconds=time.perf_counter() - start)


def tested(config: RunConfig, known: Source, asked: Source, *, advance: Advance, tell: Tell) -> Score:
    """Of a model trained on some images the accuracy on others."""
    start = time.perf_counter()
    session = finetuned(config, known, advance=advance, tell=tell)

    def predict(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b classes"]:
        advance(len(images))
        return session.predict(images)

    result = evaluate(predict, asked, preprocessing=session.preprocessing, data=config.data)
    for sentence in result.unreadable:
        tell(sentence)
    seconds = time.perf_counter() - start
    return Score(method=METHOD, values=[result.top1], num_images=result.num_images, seconds=seconds)
