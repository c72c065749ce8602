"""The moving parts of a run: what one step changes, and what a checkpoint holds."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.data.augment.apply import augmented
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE, Batch
from vitral.data.order import DROPOUT, OBJECTIVE, random_bits
from vitral.distributed.parallel import (
    clip_grad_norm,
    full_state_dict,
    load_full_state_dict,
    set_gradient_sync,
    wrap_ddp,
    wrap_fsdp,
)
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.layers.lora import add_lora, merge_lora
from vitral.layers.probe import add_probe, fold_probe
from vitral.models import Model, build, repeated
from vitral.objectives.kinds import objective_of
from vitral.objectives.objective import Panel
from vitral.objectives.self_supervised import Learner
from vitral.train.activation_checkpointing import recompute_blocks
from vitral.train.checkpointing.checkpoint import Saved
from vitral.train.checkpointing.optimiser_state import blank_state, named_state
from vitral.train.config import RunConfig
from vitral.train.ema import update_average, warmed_up
from vitral.train.optimisers.optimiser import Optimiser
from vitral.train.optimisers.rules import freeze
from vitral.train.profiling.throughput import Stopwatch
from vitral.train.teacher import read_teacher
from vitral.weights.load import load_with_report
from vitral.weights.transfer import transfer

__all__ = ["Session"]


class Session:
    """Model, average, optimiser and objective of one run, on the device of this process.

    The configuration is one that `RunConfig.resolved` gave. All processes call every method.
    """

    def __init__(self, config: RunConfig, *, classes: tuple[str, ...], world: World = SINGLE_PROCESS) -> None:
        self.config = config
        self.classes = classes
        self.world = world
        self.device = world.device(config.train.device)
        on_gpu = self.device.type == "cuda"
        self.copying = torch.cuda.Stream(self.device) if on_gpu else None
        """Where batches travel to a GPU, beside what it computes."""
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16, "auto": torch.bfloat16 if on_gpu else None}
        self.half = half.get(config.train.precision)
        """The 16-bit arithmetic that the model computes in; None: float32."""
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)
        compiled = on_gpu if config.train.compile is None else config.train.compile
        self.step = 0
        self.stopwatch = Stopwatch(self.device)
        self.unreadable: set[str] = set()
        self.preprocessing = config.preprocessing
        self.objective = objective_of(
            config.objective,
            config.preprocessing,
            read_teacher=partial(
                read_teacher,
                preprocessing=config.preprocessing,
                classes=classes,
                device=self.device,
                compiled=compiled,
            ),
        )
        torch.manual_seed(config.seed)
        self.model = self.objective.learner(self._built()).to(self.device)
        """What is trained: the model, with what its objective puts around it."""
        freeze(self.model, config.optim.rules)
        self.average = None if config.train.ema is None else deepcopy(self.model).requires_grad_(False)
        if config.train.recompute:
            for model in self.objective.models(self.model):
                recompute_blocks(model)
        self.wrapped = self._wrap()
        self.forward = torch.compile(self.wrapped) if compiled else self.wrapped
        self.optimiser = Optimiser(self.model, config.optim)

    def _wrap(self) -> nn.Module:
        """What computes a step: the model, spread over the devices as configured."""
        train, world = self.config.train, self.world
        forward: nn.Module = self.model
        if world.size > 1 and train.parallel == "ddp":
            forward = wrap_ddp(self.model, device=self.device)
        elif world.size > 1:
            for learner in self._learners():
                blocks = [block for model in self.objective.models(learner) for block in repeated(model)]
                wrap_fsdp(learner, blocks, world=world, device=self.device, shards=train.shards, half=self.half)
        return forward

    def initialise(self) -> list[str]:
        """Begins a new run: takes over trained weights where the configuration names some.

        Returns:
            One sentence for each thing that was not simply copied.

        Raises:
            UserError: the weights cannot be read, or are of another architecture.
        """
        if self.config.model.weights is None:
            return []
        plain = build(self.config.model.architecture)
        trained, report = load_with_report(self.config.model.weights)
        notes = [f"weights recognised as {report.lineage}", *report.notes] if report else []
        notes += transfer(trained, plain, classes=self.classes)
        state = self._adapted(plain).state_dict()
        for learner in self._learners():
            for model in self.objective.models(learner):
                load_full_state_dict(model, state)
        return notes

    def _learners(self) -> list[nn.Module]:
        """What is trained, and its average where there is one."""
        return [learner for learner in (self.model, self.average) if learner]

    def _built(self) -> Model:
        return self._adapted(build(self.config.model.architecture))

    def _adapted(self, model: Model) -> Model:
        """The model with LoRA adapters or a probe's head where the run has them."""
        setup = self.config.model
        if setup.lora_rank is not None:
            add_lora(model, layers=setup.lora_layers, rank=setup.lora_rank, alpha=setup.lora_alpha)
        if setup.probe:
            add_probe(model)
        return model

    @property
    def kept_model(self) -> Model:
        """The weights to evaluate and keep: the running average where there is one."""
        return self.objective.models(self.average or self.model)[0]

    def finished_model(self) -> Model:
        """A copy of the weights to keep, whole and what was added merged into them, on the CPU."""
        model = self._built()
        load_full_state_dict(model, full_state_dict(self.kept_model))
        merge_lora(model)
        fold_probe(model)
        return model

    def train_step(self, batch: Batch, *, lr: float, progress: float = 0.0) -> dict[str, Float[Tensor, ""]]:
        """Takes one optimiser step with this process's part of the batch; its figures are still on the device.

        `progress` is the share of the run that is over with this step.

        Dropout is seeded from (seed, step) and the process, so that no state of a random generator has to be saved.
        """
        process = (self.world.rank,) if self.world.size > 1 else ()
        torch.manual_seed(int(random_bits(DROPOUT, self.config.seed, self.step, *process)[0] >> np.uint64(1)))
        self.model.train()
        self.stopwatch.begin()
        examples, parts = self.examples(batch), self.config.train.accumulate
        self.stopwatch.end("augment")
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        readable = self.world.all_reduce_sum((examples.labels != UNREADABLE).sum()).clamp(min=1)
        for number, part in enumerate(examples.chunk(parts), 1):
            set_gradient_sync(self.wrapped, last=number == parts)
            with self.autocast():
                loss, figures = self.objective.loss(self.forward, part)
            share = (part.labels != UNREADABLE).sum() / readable
            # gradients are averaged over the processes, of which each has its share of the readable images
            self.scaler.scale(loss * share * self.world.size).backward()
            for name, value in {"loss": loss.detach(), **figures}.items():
                totals[name] += value * share
        self.world.all_reduce_sum_each(totals)
        self.optimiser.unscale(self.scaler)
        norm = clip_grad_norm(list(self.model.parameters()), norm=self.config.optim.clip)
        if self.scaler.is_enabled():
            totals["skipped"] = (~norm.isfinite()).float()
            norm = norm.nan_to_num(0.0, 0.0)
        totals["gradient_norm"] = norm
        self.optimiser.step(lr, self.scaler)
        self.objective.after_step(self.model, progress=progress)
        if self.average and (ema := self.config.train.ema):
            decay = warmed_up(ema, updates=self.step) if self.config.train.ema_warmup else ema
            update_average(self.average, self.model, decay=decay)
        self.stopwatch.end("compute")
        self.step += 1
        self.unreadable |= set(batch.unreadable)
        return totals

    def examples(self, batch: Batch) -> Examples:
        """A training batch in the model's range, varied on the device."""
        assert batch.draws is not None, "a batch of evaluation is not trained on"
        images, labels = self._on_device(batch.images, batch.labels)
        self.stopwatch.end("copy")
        return augmented(images, labels, batch.draws, config=self.config.augment, preprocessing=self.preprocessing)

    def _on_device(self, *parts: Tensor) -> list[Tensor]:
        """The parts of a batch where the model is; while a GPU is busy with one step, the next one's arrive."""
        if self.copying is None:
            return [part.to(self.device) for part in parts]
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copying):
            arrived = [part.to(self.device, non_blocking=True) for part in parts]
        computing.wait_stream(self.copying)
        for part in arrived:
            part.record_stream(computing)  # its memory is not given away before the step is over
        return arrived

    @torch.no_grad()
    def predict(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b classes"]:
        """Logits of images as read, by the weights to keep."""
        self.kept_model.eval()
        with self.autocast():
            return self.kept_model(self.preprocessing.normalise(images.to(self.device)))

    @torch.no_grad()
    def extract_features(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
        """FeatureSet of images as read, by the weights to keep, of an objective that is judged by these."""
        learner = (self.average or self.model).eval()
        assert isinstance(learner, Learner)
        with self.autocast():
            return learner.extract_features(self.preprocessing.normalise(images.to(self.device)))

    @torch.no_grad()
    def panels(self, images: UInt8[Tensor, "b h w c"]) -> Sequence[Panel]:
        """A few images as read and what was made of them, by the weights to keep; always drawn alike."""
        learner = (self.average or self.model).eval()
        numbers = np.arange(len(images))
        keys = (random_bits(OBJECTIVE, self.config.seed, numbers) >> np.uint64(1)).astype(np.int64)
        examples = Examples(
            images=self.preprocessing.normalise(images.to(self.device)),
            labels=torch.zeros(len(images), dtype=torch.int64, device=self.device),
            keys=torch.from_numpy(keys).to(self.device),
        )
        with self.autocast():
            return self.objective.panels(learner, examples)

    def autocast(self) -> AbstractContextManager[Any]:
        """16-bit arithmetic where the run uses it."""
        return torch.autocast(self.device.type, self.half) if self.half else nullcontext()

    def facts(self) -> dict[str, Any]:
        """What a step changes and is not a tensor, as JSON can hold it."""
        return {
            "step": self.step,
            "unreadable": sorted(set().union(*self.world.all_gather(self.unreadable))),
            "optimiser": self.optimiser.name,
            "average": self.average is not None,
            "scaler": self.scaler.state_dict(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The tensors a step changes, by name; shards where weights are in shards."""
        state = {f"optimiser.{name}": value for name, value in named_state(self.optimiser, self.model).items()}
        return state | self._weights()

    def _weights(self) -> dict[str, Tensor]:
        models = {"model": self.model} | ({"average": self.average} if self.average else {})
        return {f"{kind}.{name}": value for kind, model in models.items() for name, value in model.state_dict().items()}

    def load(self, saved: Saved) -> None:
        """Goes on where a checkpoint was made.

        Raises:
            UserError: the checkpoint belongs to another model, optimiser or average.
        """
        try:
            self._check(saved)
            weights, prefix = self._weights(), "optimiser."
            sizes = {name.removeprefix(prefix): size for name, size in saved.sizes.items() if name.startswith(prefix)}
            blank = blank_state(self.optimiser, self.model, sizes)
            saved.read_into(weights | {prefix + name: value for name, value in blank.items()})
            self.step, self.unreadable = saved.facts["step"], set(saved.facts["unreadable"])
            if self.scaler.is_enabled() and (scaler := saved.facts.get("scaler")):
                self.scaler.load_state_dict(scaler)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"the checkpoint does not fit this model and optimiser: {reason}") from None

    def _check(self, saved: Saved) -> None:
        """Refuses what another optimiser, average or model saved, the model by the first tensor that differs."""
        if (name := saved.facts["optimiser"]) != self.optimiser.name:
            raise UserError(f"optim.name was {name}, not {self.optimiser.name}")
        if saved.facts["average"] != (self.average is not None):
            raise UserError("train.ema cannot be turned on or off")
        found = {name[6:]: shape for name, (shape, _) in saved.sizes.items() if name.startswith("model.")}
        wanted = {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}
        odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if odd:
            raise UserError(
                f"{len(odd)} of its tensors differ, first {odd[0]}: "
                f"expected {wanted.get(odd[0], 'none')}, found {found.get(odd[0], 'none')}"
            )
