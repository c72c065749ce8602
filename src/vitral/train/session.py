"""The training state of a run: what a step changes, and what a checkpoint holds."""

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.data.augment.apply import augment_batch
from vitral.data.augment.mixing import Examples
from vitral.data.batches import Batch
from vitral.data.order import DROPOUT, random_bits
from vitral.device import check_bfloat16, prefers_bfloat16
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
from vitral.layers.scaled_head import add_scale, fold_scale
from vitral.models import Model, build, repeated
from vitral.objectives.entry import BuildContext
from vitral.objectives.registry import build_objective
from vitral.objectives.regression import RegressionConfig
from vitral.train.activation_checkpointing import recompute_blocks
from vitral.train.checkpointing.checkpoint import Saved
from vitral.train.checkpointing.optimiser_state import allocate_state, named_state
from vitral.train.config import RunConfig
from vitral.train.ema import update_average, warmed_up
from vitral.train.kernels import supports_kernels, use_kernels
from vitral.train.optimisers.optimiser import Optimiser
from vitral.train.optimisers.rules import freeze
from vitral.train.profiling.stopwatch import Stopwatch
from vitral.train.sam import ascended
from vitral.train.teacher import load_teacher
from vitral.weights.flags import flags_of_training
from vitral.weights.load import load_with_report
from vitral.weights.transfer import transfer_weights

__all__ = ["Session", "check_device"]


class Session:
    """Model, average, optimiser and objective of a run, on the device of this process.

    The configuration comes from `RunConfig.resolved`. All processes call every method.
    """

    def __init__(self, config: RunConfig, *, classes: tuple[str, ...], world: World = SINGLE_PROCESS) -> None:
        self.config = config
        self.classes = classes
        self.world = world
        self.device = world.device(config.train.device)
        on_cuda = self.device.type == "cuda"
        self.copy_stream = torch.cuda.Stream(self.device) if on_cuda else None
        """Copies batches to a GPU while it computes."""
        auto = torch.bfloat16 if prefers_bfloat16(self.device) else None
        dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16, "auto": auto}
        self.autocast_dtype = dtypes.get(config.train.precision)
        """16-bit type of autocast; None computes in float32."""
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.autocast_dtype is torch.float16)
        compiled = on_cuda if config.train.compile is None else config.train.compile
        check_device(self.device, bfloat16=self.autocast_dtype is torch.bfloat16, compiled=compiled)
        self.step = 0
        self.stopwatch = Stopwatch(self.device)
        self.unreadable: set[str] = set()
        self.best: Model | None = None
        """The model that is evaluated and saved in place of the trained one, after early stopping."""
        self.preprocessing = config.preprocessing
        self.objective = build_objective(
            config.objective,
            BuildContext(
                preprocessing=config.preprocessing,
                classes=classes,
                device=self.device,
                compiled=compiled,
                accumulate=config.train.accumulate,
                load_teacher=load_teacher,
            ),
        )
        torch.manual_seed(config.seed)
        self.model = self.objective.learner(self._build()).to(self.device)
        """The module that is trained: the model, with the parts that its objective adds."""
        freeze(self.model, config.optim.rules)
        self.average = None if config.train.ema is None else deepcopy(self.model).requires_grad_(False)
        for model in self.objective.models(self.model):
            if supports_kernels(self.device):
                use_kernels(model)
            if config.train.recompute:
                recompute_blocks(model)
        self.wrapped = self._wrap()
        # a graph for each image size: one for all sizes would be slower
        dynamic = False if config.resolution.sizes else None
        self.forward = torch.compile(self.wrapped, dynamic=dynamic) if compiled else self.wrapped
        self.optimiser = Optimiser(self.model, config.optim)

    def _wrap(self) -> nn.Module:
        """The model wrapped in DDP or FSDP, if there are several processes."""
        train, world = self.config.train, self.world
        forward: nn.Module = self.model
        reduce_dtype = getattr(torch, train.reduce_dtype)
        if world.size > 1 and train.parallel == "ddp":
            forward = wrap_ddp(self.model, device=self.device, reduce_dtype=reduce_dtype)
        elif world.size > 1:
            for learner in self._learners():
                wrap_fsdp(
                    learner,
                    [repeated(model) for model in self.objective.models(learner)],
                    world=world,
                    device=self.device,
                    shards=train.shards,
                    dtype=self.autocast_dtype,
                    reduce_dtype=reduce_dtype,
                )
        return forward

    def initialise(self) -> list[str]:
        """Loads the pretrained weights of the configuration, if there are any.

        Returns:
            One note for each tensor that was not simply copied.

        Raises:
            UserError: the weights cannot be read, or do not fit the architecture.
        """
        setup = self.config.model
        if setup.weights is None:
            return []
        model = build(setup.architecture)
        pretrained, report = load_with_report(setup.weights, **setup.reading)
        notes = [f"weights recognised as {report.lineage}", *map(flags_of_training, report.notes)] if report else []
        # a trained head for numbers has another scale than the new one
        classes = None if self.config.data.target == "regression" else self.classes
        notes += transfer_weights(pretrained, model, classes=classes)
        state = self._with_adapters(model).state_dict()
        for learner in self._learners():
            for each in self.objective.models(learner):
                load_full_state_dict(each, state)
        return notes

    def _learners(self) -> list[nn.Module]:
        """The trained module, and its average if there is one."""
        return [learner for learner in (self.model, self.average) if learner]

    def _build(self) -> Model:
        return self._with_adapters(build(self.config.model.architecture))

    def _with_adapters(self, model: Model) -> Model:
        """The model with the LoRA adapters, the probe's head or the scale of numbers of the configuration."""
        setup = self.config.model
        if setup.lora_rank is not None:
            add_lora(model, layers=setup.lora_layers, rank=setup.lora_rank, alpha=setup.lora_alpha)
        if setup.probe:
            add_probe(model)
        if isinstance(objective := self.config.objective, RegressionConfig) and objective.std is not None:
            add_scale(model, mean=objective.mean or 0.0, std=objective.std)
        return model

    @property
    def eval_learner(self) -> nn.Module:
        """The module to evaluate: the average of the trained module if there is one."""
        return self.average or self.model

    @property
    def eval_model(self) -> Model:
        """The model to evaluate and save: in `eval_learner`, or the best one after early stopping."""
        return self.best or self.objective.models(self.eval_learner)[0]

    def export_model(self) -> Model:
        """A copy of `eval_model` on the CPU, with full tensors and adapters merged."""
        if self.best is not None:
            return deepcopy(self.best).cpu()
        model = self._build()
        load_full_state_dict(model, full_state_dict(self.eval_model))
        merge_lora(model)
        fold_probe(model)
        fold_scale(model)
        return model

    def train_step(self, batch: Batch, *, lr: float, progress: float = 0.0) -> dict[str, Float[Tensor, ""]]:
        """Takes one optimiser step.

        Dropout is seeded from (seed, step, rank), so that checkpoints need no generator state.

        Args:
            batch: this process's part.
            lr: the learning rate.
            progress: fraction of the run that is complete after this step.

        Returns:
            Metrics of the whole batch, still on the device.
        """
        self.model.train()
        self.stopwatch.begin()
        examples = self.examples(batch)
        self.stopwatch.end("augment")
        total = self.world.all_reduce_sum(self.objective.weight(examples.labels))
        totals = self._backward(examples, total=total)
        if (rho := self.config.optim.sam_rho) is not None:
            with ascended(self.model.parameters(), rho=rho):
                self._backward(examples, total=total)
        self.world.all_reduce_sum_dict(totals)
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

    def _backward(self, examples: Examples, *, total: Tensor) -> dict[str, Tensor]:
        """Adds up the gradients of all parts of a batch; every call drops the same.

        Args:
            examples: this process's part of the batch.
            total: the weight of the whole batch in the loss.

        Returns:
            The loss and metrics of this process's part, weighted so that their sum over processes is the batch's.
        """
        process = (self.world.rank,) if self.world.size > 1 else ()
        torch.manual_seed(int(random_bits(DROPOUT, self.config.seed, self.step, *process)[0] >> np.uint64(1)))
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        parts = self.config.train.accumulate
        for number, part in enumerate(examples.chunk(parts), 1):
            set_gradient_sync(self.wrapped, last=number == parts)
            with self.autocast():
                loss, metrics = self.objective.loss(self.forward, part)
            fraction = self.objective.weight(part.labels) / torch.where(total > 0, total, 1)
            # DDP averages gradients over the processes; each has its fraction of the weight
            self.scaler.scale(loss * fraction * self.world.size).backward()
            for name, value in {"loss": loss.detach(), **metrics}.items():
                totals[name] += value * fraction
        return totals

    def examples(self, batch: Batch) -> Examples:
        """A training batch on the device, augmented and normalised."""
        assert batch.augment_params is not None, "an evaluation batch has no augmentation"
        images, labels = self._on_device(batch.images, batch.labels)
        self.stopwatch.end("copy")
        return augment_batch(
            images, labels, batch.augment_params, config=self.config.augment, preprocessing=self.preprocessing
        )

    def _on_device(self, *tensors: Tensor) -> list[Tensor]:
        """Copies tensors to the device; on a GPU, while it still computes the step before."""
        if self.copy_stream is None:
            return [tensor.to(self.device) for tensor in tensors]
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copy_stream):
            copies = [tensor.to(self.device, non_blocking=True) for tensor in tensors]
        computing.wait_stream(self.copy_stream)
        for copy in copies:
            copy.record_stream(computing)  # or the allocator may reuse its memory before the step ends
        return copies

    def autocast(self) -> AbstractContextManager[Any]:
        """Autocast to 16 bits, if the run uses it."""
        return torch.autocast(self.device.type, self.autocast_dtype) if self.autocast_dtype else nullcontext()

    def metadata(self) -> dict[str, Any]:
        """The part of a checkpoint that is not a tensor, as JSON values."""
        return {
            "step": self.step,
            "unreadable": sorted(set().union(*self.world.all_gather(self.unreadable))),
            "optimiser": self.optimiser.name,
            "average": self.average is not None,
            "scaler": self.scaler.state_dict(),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint by name: model, average and optimiser state; with FSDP, this process's shards."""
        state = {f"optimiser.{name}": value for name, value in named_state(self.optimiser, self.model).items()}
        return state | self._weights()

    def _weights(self) -> dict[str, Tensor]:
        models = {"model": self.model} | ({"average": self.average} if self.average else {})
        return {f"{kind}.{name}": value for kind, model in models.items() for name, value in model.state_dict().items()}

    def load(self, saved: Saved) -> None:
        """Restores a checkpoint.

        Raises:
            UserError: the checkpoint does not fit the model, the optimiser or the average.
        """
        try:
            self._check(saved)
            weights, prefix = self._weights(), "optimiser."
            sizes = {name.removeprefix(prefix): size for name, size in saved.sizes.items() if name.startswith(prefix)}
            empty = allocate_state(self.optimiser, self.model, sizes)
            saved.load_into(weights | {prefix + name: value for name, value in empty.items()})
            self.step, self.unreadable = saved.metadata["step"], set(saved.metadata["unreadable"])
            if self.scaler.is_enabled() and (scaler := saved.metadata.get("scaler")):
                self.scaler.load_state_dict(scaler)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"the checkpoint does not fit this model and optimiser: {reason}") from None

    def _check(self, saved: Saved) -> None:
        """Raises UserError if the optimiser, the average or any tensor's shape differs."""
        if (name := saved.metadata["optimiser"]) != self.optimiser.name:
            raise UserError(f"optim.name was {name}, not {self.optimiser.name}")
        if saved.metadata["average"] != (self.average is not None):
            raise UserError("train.ema cannot be turned on or off")
        saved_shapes = {name[6:]: shape for name, (shape, _) in saved.sizes.items() if name.startswith("model.")}
        shapes = {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}
        names = saved_shapes.keys() | shapes.keys()
        different = sorted(name for name in names if saved_shapes.get(name) != shapes.get(name))
        if different:
            first = different[0]
            raise UserError(
                f"{len(different)} of its tensors differ, first {first}: "
                f"expected {shapes.get(first, 'none')}, found {saved_shapes.get(first, 'none')}"
            )


def check_device(device: torch.device, *, bfloat16: bool, compiled: bool) -> None:
    """Raises UserError for what a device does not have."""
    if bfloat16:
        check_bfloat16(device)
    if compiled and device.type == "mps":
        raise UserError("torch.compile does not train on mps: leave out --train.compile")
