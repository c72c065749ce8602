"""Memory of a training step, estimated before the first one, against what is free."""

from dataclasses import dataclass, replace
from math import prod

import torch

from vitral.device import free_memory, pick_device, prefers_bfloat16
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.inspection.cost import activation_memory, cost
from vitral.objectives.dino import DINOConfig
from vitral.objectives.mae import MAEConfig
from vitral.train.config import RunConfig
from vitral.train.resource_errors import NotEnoughMemory
from vitral.vit_config import ViTConfig

__all__ = ["StepMemory", "check_memory", "estimate_memory", "images_worth", "with_parts_that_fit"]

TWO_MOMENTS = ("adam", "adamw", "lamb")
"""Optimisers with two values per weight; the others have about one."""

LOCAL_CROP = 3 / 7
"""Side of DINO's local crops, as a fraction of the image's."""

SAVED_PER_TOKEN = 100
"""Bytes that a block saves for each token and channel, at most; only to tell quickly that a run is small."""

NEGLIGIBLE = 0.1
"""A run that needs less than this fraction of the free memory is not estimated."""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Bytes that training takes on one device, at least."""

    fixed: int
    """Weights, gradients, optimiser state, averages and teachers."""
    per_image: int
    """What an image of a part of a batch saves for the backward pass."""
    batch: int
    """Images of a batch, of this device."""
    waiting: int
    """All images of the batch, as bytes and numbers, and those that readers hold ready."""

    def needed(self, parts: int) -> int:
        """Bytes for a batch in so many parts."""
        return self.fixed + self.waiting + self.per_image * (self.batch // parts)

    def fewest_parts(self, free: int, *, in_pairs: bool) -> int | None:
        """The fewest equal parts of the batch with which it fits; None if none is small enough."""
        smallest = 2 if in_pairs else 1
        for parts in range(1, self.batch // smallest + 1):
            if self.batch % (parts * smallest) == 0 and self.needed(parts) <= free:
                return parts
        return None


def estimate_memory(config: RunConfig, *, device: torch.device, processes: int = 1) -> StepMemory:
    """Estimates a training step; what only some runs have, such as a decoder or buffers of kernels, is left out."""
    architecture, train = config.model.architecture, config.train
    autocast = prefers_bfloat16(device) if train.precision == "auto" else train.precision != "float32"
    saved = activation_memory(architecture, bfloat16=autocast, recompute=train.recompute)
    trained = 0 if config.model.probe or config.model.lora_rank else 1
    moments = 2 if config.optim.name in TWO_MOMENTS else 1
    moved = config.optim.sam_rho is not None
    teachers = 0
    if isinstance(config.objective, DINOConfig):
        teachers = 1 + (config.objective.gram_weight > 0)
    copies = 1 + trained * (1 + moments + moved) + (train.ema is not None) + teachers
    shards = (train.shards or processes) if train.parallel == "fsdp" else 1
    per_image = 0 if config.model.probe else round(saved.per_image * images_worth(config))
    return StepMemory(
        fixed=4 * cost(architecture).parameters * copies // shards + saved.fixed,
        per_image=per_image,
        batch=max(train.batch_size // processes, 1),
        waiting=_pixels(config) * (train.batch_size // processes) * (9 + 2 * config.data.workers),
    )


def images_worth(config: RunConfig) -> float:
    """How many whole images an image costs, by the objective, or by the number of its patches."""
    objective, architecture = config.objective, config.model.architecture
    if config.preprocessing.keeps_aspect and isinstance(architecture, ViTConfig):
        own = prod(architecture.grid)
        return max(config.augment.sequence_lengths, default=config.preprocessing.max_patches or own) / own
    if isinstance(objective, MAEConfig):
        return 1 - objective.masked_fraction
    if isinstance(objective, DINOConfig):
        size = config.model.architecture.image_hw[0]
        local = objective.crops.local_size or LOCAL_CROP * size
        return 2 + objective.crops.num_local * (local / size) ** 2
    return 1.0


def _pixels(config: RunConfig) -> int:
    h, w = config.model.architecture.image_hw
    return h * w * config.model.architecture.channels


def check_memory(config: RunConfig, world: World = SINGLE_PROCESS) -> None:
    """Checks that a step fits into the memory that is free.

    Raises:
        NotEnoughMemory: it does not; the message has the flags with which it would.
    """
    device = pick_device(config.train.device)
    free = free_memory(device)
    if _is_small(config, free) or (device.type == "cpu" and world.size > 1):  # processes that share a machine's memory
        return
    memory = estimate_memory(config, device=device, processes=world.size)
    needed = memory.needed(config.train.accumulate)
    if needed <= free:
        return
    parts = memory.fewest_parts(free, in_pairs=config.augment.mixes)
    smaller = "choose a smaller --model.name or --model.image-size"
    fix = f"give --train.accumulate {parts}, which keeps the result, or {smaller}" if parts else smaller
    size = f"batches of {config.train.batch_size} images in {config.train.accumulate} parts"
    raise NotEnoughMemory(f"{size} need about {gigabytes(needed)}, and {device} has {gigabytes(free)} free", fix)


def with_parts_that_fit(config: RunConfig, world: World) -> RunConfig:
    """The configuration with its batch in the fewest parts that fit into the memory that is free.

    Raises:
        UserError: not even the smallest part fits.
    """
    device = pick_device(config.train.device)
    memory = estimate_memory(config, device=device, processes=world.size)
    free = free_memory(device) // (world.size if device.type == "cpu" else 1)
    parts = memory.fewest_parts(free, in_pairs=config.augment.mixes)
    if parts is None:
        raise UserError(
            f"not even one image fits, as the model needs {gigabytes(memory.fixed)} and {device} has "
            f"{gigabytes(free)} free: choose a smaller --model.name or --model.image-size"
        )
    return replace(config, train=replace(config.train, accumulate=parts))


def _is_small(config: RunConfig, free: int) -> bool:
    """Whether a coarse upper limit is far below what is free, so that no estimate is needed."""
    vit = config.model.architecture
    if not isinstance(vit, ViTConfig) or vit.stem_stages is not None:
        return False
    gh, gw = vit.grid
    tokens = gh * gw + vit.num_prefix_tokens
    weights = vit.depth * vit.width * (4 * vit.width + 3 * vit.mlp_dim)
    per_image = (tokens * vit.depth * (vit.width + vit.mlp_dim) * SAVED_PER_TOKEN) * images_worth(config)
    per_image += 9 * _pixels(config)
    return 24 * weights + config.train.batch_size // config.train.accumulate * per_image < NEGLIGIBLE * free


def gigabytes(size: int) -> str:
    """Bytes in GB."""
    return f"{size / 1e9:,.1f} GB"
