"""The complete configuration of a training run."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Architecture
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.kinds import ObjectiveConfig
from vitral.runs.trackers.trackers import AUTO, check_names
from vitral.train.checkpointing.checkpoint import CheckpointConfig
from vitral.train.duration import Duration
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["ModelSetup", "RunConfig", "TrainConfig"]


@dataclass(frozen=True, kw_only=True)
class ModelSetup:
    """The model a run trains."""

    weights: Path | None = None
    """Trained model to start from: a folder, another project's file, hf-hub:OWNER/NAME; its head may be replaced."""
    lora_rank: int | None = None
    """Rank of LoRA adapters, trained with the head while the other weights stay; None trains all weights."""
    lora_alpha: float = 16.0
    """Adapters are scaled by this over their rank."""
    lora_layers: str = "attn.qkv|attn.proj"
    """Regular expression that picks the dense layers to adapt by name."""
    probe: bool = False
    """Whether the head alone is trained, on features that are brought to mean 0 and variance 1: a linear probe."""
    architecture: Annotated[Architecture, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=ViTConfig
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long a run trains, and on what.

    Raises:
        UserError: a value is out of range.
    """

    batch_size: int = 128
    """Images in each optimiser step, over all devices."""
    epochs: float = 10.0
    """Times through the training images."""
    steps: int | None = None
    """Optimiser steps; given, they count instead of epochs."""
    accumulate: int = 1
    """Parts that each batch is split into, one after another, to save memory; the result is the same."""
    ema: float | None = None
    """Decay of the running average of the weights that is evaluated and saved; None keeps no average."""
    ema_warmup: bool = True
    """Whether after n steps the decay is at most (1 + n) / (10 + n), so that a short run forgets its first weights;
    without it the average is Polyak's, as of the paper's Table 2.
    """
    evaluate: str = "1epoch"
    """Training or time between two evaluations; one always comes at the end."""
    log: str = "10steps"
    """Training between two lines of the record."""
    track: str = AUTO
    """Where figures go besides the record: tensorboard, wandb, trackio, several with commas between, or none.

    auto is TensorBoard where it is installed.
    """
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; auto takes a GPU where there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the model; auto is bfloat16 autocast on a GPU, float32 on a CPU. float16, for GPUs that are slow in
    bfloat16, scales the loss, and skips steps whose gradients overflow.
    """
    recompute: bool = False
    """Whether each block's activations are computed again in the backward pass: less memory, a third more time."""
    compile: bool | None = None
    """Whether torch.compile makes the model faster; None does so on a GPU."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Where torchrun starts several processes: each has all weights (ddp), or its shard of every tensor (fsdp)."""
    shards: int | None = None
    """With fsdp: processes that share one copy of the weights; None: all of them."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.accumulate < 1 or self.batch_size % self.accumulate:
            raise UserError(f"batch_size must be a multiple of accumulate, not {self.batch_size} and {self.accumulate}")
        if not 0 < self.epochs < math.inf or (self.steps is not None and self.steps < 1):
            raise UserError(f"epochs and steps must be above 0, not {self.epochs} and {self.steps}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UserError(f"ema must be above 0 and below 1, not {self.ema}")
        if self.shards is not None and self.shards < 1:
            raise UserError(f"shards must be at least 1, not {self.shards}")
        for duration in (self.evaluate, self.log):
            Duration.parse(duration)
        check_names(self.track)

    def check_shares(self, processes: int, *, in_pairs: bool = False) -> None:
        """Refuses a batch that cannot be shared evenly, or not in pairs of images that are mixed.

        Raises:
            UserError: as it says.
        """
        smallest = processes * self.accumulate * (2 if in_pairs else 1)
        if self.batch_size % smallest:
            pairs = ", of pairs that are mixed" if in_pairs else ""
            raise UserError(
                f"batches of {self.batch_size} images cannot be shared evenly by {processes} processes in "
                f"{self.accumulate} parts each{pairs}: choose a --train.batch-size that is a multiple of {smallest}"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that defines a run: the same configuration on the same machine gives the same weights.

    Raises:
        UserError: the seed is out of range.
    """

    recipe: tyro.conf.Suppress[str]
    """Name of the recipe this configuration came from."""
    command: tyro.conf.Suppress[tuple[str, ...]] = ()
    """What was typed to begin the run, and to go on with it where that changed anything."""
    changes: tyro.conf.Suppress[tuple[str, ...]] = ()
    """What became another when the run went on, each a sentence with its step."""
    out: Path | None = None
    """Folder for the run; by default the next free runs/RECIPE-N."""
    seed: int = 0
    """Seed of initial weights, order, augmentation and dropout."""
    model: ModelSetup = field(default_factory=ModelSetup)
    data: DataConfig
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(image_size=(224, 224), channels=3))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    objective: Annotated[ObjectiveConfig, tyro.conf.AvoidSubcommands] = field(default_factory=ClassificationConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        if getattr(self.model.architecture, "pool", None) == "none":
            raise UserError("training needs one representation an image: choose pool cls, gap or map, not none")
        if self.data.source == "images" and self.objective.evaluate_by == "labels":
            raise UserError(
                "--data.source images has no classes to learn: choose --data.source folder, or a recipe that learns "
                "without labels, such as masked-patch"
            )
        if self.objective.name == "dino" and self.train.ema is not None:
            raise UserError("DINO keeps a running average itself, its teacher: leave out --train.ema")
        if self.model.probe and (self.model.lora_rank is not None or self.train.ema is not None):
            raise UserError("a linear probe takes no adapters and no average: --model.lora-rank None --train.ema None")
        if self.model.probe and self.objective.evaluate_by != "labels":
            raise UserError("a linear probe learns classes: choose a recipe that does, such as finetune")
        if self.model.lora_rank is not None and self.model.weights is None:
            raise UserError("LoRA adapts a trained model: name one with model.weights, or leave out model.lora_rank")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must be at least 0 and below 2**63, not {self.seed}")

    def resolved(self, *, num_classes: int) -> "RunConfig":
        """The same run with what follows from elsewhere written out: classes from the data, input from the model."""
        architecture = replace(self.model.architecture, num_classes=num_classes)
        return replace(
            self,
            model=replace(self.model, architecture=architecture),
            preprocessing=self.preprocessing.fitted(image_size=architecture.image_hw, channels=architecture.channels),
        )
