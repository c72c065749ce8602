"""The moving parts of a run: what one step changes, and what a checkpoint holds."""

from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.data.augment import flip, warp
from vitral.data.batches import UNREADABLE, Batch
from vitral.data.order import DROPOUT, random_bits
from vitral.device import pick_device
from vitral.layers.lora import add_lora, merge_lora
from vitral.models import Model, build
from vitral.objectives.classification import Classification
from vitral.train.average import update_average, warmed_up
from vitral.train.config import RunConfig
from vitral.train.optim import Optimiser
from vitral.train.recompute import recompute_blocks
from vitral.weights.load import load_with_report
from vitral.weights.transfer import transfer

__all__ = ["Session"]


class Session:
    """Model, average, optimiser and objective of one run on one device.

    The configuration is one that `RunConfig.resolved` gave.
    """

    def __init__(self, config: RunConfig, *, classes: tuple[str, ...]) -> None:
        self.config = config
        self.classes = classes
        self.device = pick_device(config.train.device)
        on_gpu = self.device.type == "cuda"
        self.bfloat16 = config.train.precision == "bfloat16" or (config.train.precision == "auto" and on_gpu)
        self.step = 0
        self.unreadable: set[str] = set()
        torch.manual_seed(config.seed)
        self.model = self._built().to(self.device)
        self.preprocessing = config.preprocessing
        self.average = None if config.train.ema is None else deepcopy(self.model).requires_grad_(False)
        if config.train.recompute:
            recompute_blocks(self.model)
        self.optimiser = Optimiser(self.model, config.optim)
        self.objective = Classification(config.objective)
        compiled = on_gpu if config.train.compile is None else config.train.compile
        self.forward = torch.compile(self.model) if compiled else self.model

    def initialise(self) -> list[str]:
        """Begins a new run: takes over trained weights where the configuration names some.

        Returns:
            One sentence for each thing that was not simply copied.

        Raises:
            ValueError: the weights cannot be read, or are of another architecture.
        """
        if self.config.model.weights is None:
            return []
        plain = build(self.config.model.architecture)
        trained, report = load_with_report(self.config.model.weights)
        notes = [f"weights recognised as {report.lineage}", *report.notes] if report else []
        notes += transfer(trained, plain, classes=self.classes)
        self.model.load_state_dict(self._adapted(plain).state_dict())
        if self.average:
            self.average.load_state_dict(self.model.state_dict())
        return notes

    def _built(self) -> Model:
        return self._adapted(build(self.config.model.architecture))

    def _adapted(self, model: Model) -> Model:
        """The model with LoRA adapters where the run has them."""
        setup = self.config.model
        if setup.lora_rank is not None:
            add_lora(model, layers=setup.lora_layers, rank=setup.lora_rank, alpha=setup.lora_alpha)
        return model

    @property
    def kept_model(self) -> Model:
        """The weights to evaluate and keep: the running average where there is one."""
        return self.average or self.model

    def finished_model(self) -> Model:
        """A copy of the weights to keep, adapters merged into them."""
        model = deepcopy(self.kept_model)
        merge_lora(model)
        return model

    def train_step(self, batch: Batch, *, lr: float) -> dict[str, Float[Tensor, ""]]:
        """Takes one optimiser step and returns its figures, still on the device.

        Dropout is seeded from (seed, step), so that no state of a random generator has to be saved.
        """
        torch.manual_seed(int(random_bits(DROPOUT, self.config.seed, self.step)[0] >> np.uint64(1)))
        self.model.train()
        images, labels = self.augmented(batch), batch.labels.to(self.device, non_blocking=True)
        parts = self.config.train.accumulate
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        readable = (labels != UNREADABLE).sum().clamp(min=1)
        for part_images, part_labels in zip(images.chunk(parts), labels.chunk(parts), strict=True):
            with self.autocast():
                loss, figures = self.objective.loss(self.forward, part_images, part_labels)
            share = (part_labels != UNREADABLE).sum() / readable
            (loss * share).backward()
            for name, value in {"loss": loss.detach(), **figures}.items():
                totals[name] += value * share
        clip = self.config.optim.clip
        totals["gradient_norm"] = nn.utils.clip_grad_norm_(self.model.parameters(), clip or float("inf"))
        self.optimiser.step(lr)
        if self.average and self.config.train.ema:
            update_average(self.average, self.model, decay=warmed_up(self.config.train.ema, updates=self.step))
        self.step += 1
        self.unreadable |= set(batch.broken)
        return totals

    def augmented(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """Images of a training batch in the model's range, mirrored and warped on the device."""
        assert batch.draws is not None, "a batch of evaluation is not trained on"
        images = batch.images.to(self.device, non_blocking=True)
        if self.config.augment.flip:
            images = flip(images, batch.draws.flips.to(self.device, non_blocking=True))
        floats = self.preprocessing.normalise(images)
        if batch.draws.warps is None:
            return floats
        black = self.preprocessing.normalise(torch.zeros_like(images[:1, :1, :1]))
        return warp(floats - black, batch.draws.warps.to(self.device, non_blocking=True)) + black

    @torch.no_grad()
    def predict(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b classes"]:
        """Logits of images as read, by the weights to keep."""
        self.kept_model.eval()
        with self.autocast():
            return self.kept_model(self.preprocessing.normalise(images.to(self.device)))

    def autocast(self) -> AbstractContextManager[Any]:
        """bfloat16 arithmetic where the run uses it."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Everything a step changes."""
        state = {
            "step": self.step,
            "unreadable": sorted(self.unreadable),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        return state | ({"average": self.average.state_dict()} if self.average else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave.

        Raises:
            ValueError: the checkpoint belongs to another model, optimiser or average.
        """
        try:
            self.step, self.unreadable = state["step"], set(state["unreadable"])
            _check_shapes(state["model"], self.model)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            if ("average" in state) != (self.average is not None):
                raise ValueError("train.ema cannot be turned on or off")
            if self.average:
                self.average.load_state_dict(state["average"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"the checkpoint does not fit this model and optimiser: {reason}") from None


def _check_shapes(state: dict[str, Tensor], model: Model) -> None:
    """Refuses the weights of another model by the first one that differs."""
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if odd:
        raise ValueError(
            f"{len(odd)} of its tensors differ, first {odd[0]}: "
            f"expected {wanted.get(odd[0], 'none')}, found {found.get(odd[0], 'none')}"
        )
