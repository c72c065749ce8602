"""The complete configuration of a training run."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from vitral.config import load_config, map_paths
from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Architecture
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.registry import ObjectiveConfig, validate_objective
from vitral.runs.run import Run
from vitral.runs.trackers.trackers import AUTO, check_names
from vitral.train.checkpointing.checkpoint import CheckpointConfig
from vitral.train.duration import Duration
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.resolution import ResolutionConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["ModelSetup", "RunConfig", "TrainConfig", "read_run_config"]


@dataclass(frozen=True, kw_only=True)
class ModelSetup:
    """The model a run trains."""

    weights: Path | None = None
    """Pretrained model: a folder, another project's file, a checkpoint such as ViT-S/16@augreg-in21k, or
    hf-hub:OWNER/NAME; its head may be replaced.
    """
    checkpoint_key: str | None = None
    """Key of these weights in a PyTorch file that holds several, such as student."""
    prefix: str | None = None
    """Prefix of the encoder's tensors in a larger model, such as backbone."""
    given: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Fields of the architecture that these weights do not store, and that the user gives: num_heads, gelu."""
    lora_rank: int | None = None
    """Rank of LoRA adapters, trained with the head while other weights are frozen; None trains all weights."""
    lora_alpha: float = 16.0
    """Adapters are scaled by lora_alpha / lora_rank."""
    lora_layers: str = "attn.qkv|attn.proj"
    """Regular expression for the names of dense layers to adapt."""
    probe: bool = False
    """Whether only the head is trained, on features normalised to mean 0 and variance 1: a linear probe."""
    architecture: Annotated[Architecture, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=ViTConfig
    )

    @property
    def reading(self) -> dict[str, Any]:
        """Keywords of `load_with_report` for these weights."""
        options = {"checkpoint_key": self.checkpoint_key, "prefix": self.prefix}
        fields = {name: getattr(self.architecture, name) for name in self.given}
        return {name: value for name, value in options.items() if value is not None} | fields


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length, batches, hardware and logging of training.

    Raises:
        UserError: a value is out of range.
    """

    batch_size: int = 128
    """Images in each optimiser step, over all devices."""
    epochs: float = 10.0
    """Passes over the training images."""
    steps: int | None = None
    """Optimiser steps; overrides epochs."""
    accumulate: int = 1
    """Parts of a batch whose gradients are accumulated, to save memory; equal but for rounding and dropout. A linear
    probe standardises each part by itself.
    """
    ema: float | None = None
    """Decay of the moving average of the weights (EMA), which is then evaluated and saved; None: no average."""
    ema_warmup: bool = True
    """Whether the decay after n steps is at most (1 + n) / (10 + n), so that a short run forgets its initial weights;
    without it the average is Polyak's, as in the paper's Table 2.
    """
    evaluate: str = "1epoch"
    """Interval of evaluations; there is always one at the end."""
    patience: int | None = None
    """Evaluations on validation images without a new best, after which the run ends; its best model is then evaluated
    and saved (early stopping). None: all steps are taken, and the last model is saved.
    """
    log: str = "10steps"
    """Interval of lines in metrics.jsonl."""
    track: str = AUTO
    """Experiment trackers: none, auto, or a comma-separated list of tensorboard, wandb, trackio.

    auto is TensorBoard if it is installed.
    """
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps` (Apple), `xpu` (Intel); auto uses a GPU if there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the model; auto is bfloat16 autocast on a GPU, and float32 on a CPU and on mps. float16, for GPUs
    without fast bfloat16, uses loss scaling and skips steps whose gradients overflow.
    """
    recompute: bool = False
    """Whether the backward pass recomputes activations (activation checkpointing): less memory, a third more time."""
    compile: bool | None = None
    """Whether to use torch.compile; None: on a GPU of cuda."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: each has all weights (ddp), or a shard of each tensor (fsdp)."""
    shards: int | None = None
    """With fsdp: processes in a group that shards the weights; groups are replicas. None: one group."""
    reduce_dtype: Literal["float32", "bfloat16"] = "float32"
    """With several processes: type of the gradients that they exchange; bfloat16 halves the traffic, and rounds."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "steps", "shards", "patience"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--train.{name.replace('_', '-')} must be at least 1, not {value}")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"--train.batch-size must be a multiple of --train.accumulate, not {self.batch_size} and "
                f"{self.accumulate}"
            )
        if not 0 < self.epochs < math.inf:
            raise UserError(f"--train.epochs must be above 0, not {self.epochs}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise UserError(f"--train.ema must be above 0 and below 1, not {self.ema}")
        for duration in (self.evaluate, self.log):
            Duration.parse(duration)
        check_names(self.track)

    def check_batch_size(self, processes: int, *, in_pairs: bool = False) -> None:
        """Checks that batches divide evenly among processes and accumulation steps, and into pairs for mixing.

        Raises:
            UserError: they do not.
        """
        smallest = processes * self.accumulate * (2 if in_pairs else 1)
        if self.batch_size % smallest:
            pairs = ", in pairs for mixing" if in_pairs else ""
            raise UserError(
                f"batches of {self.batch_size} images do not divide evenly among {processes} processes with "
                f"{self.accumulate} parts each{pairs}: choose a --train.batch-size that is a multiple of {smallest}"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The complete configuration of a run. On the same machine, it determines the weights.

    Raises:
        UserError: the seed is out of range.
    """

    recipe: tyro.conf.Suppress[str]
    """Name of the recipe."""
    command: tyro.conf.Suppress[tuple[str, ...]] = ()
    """The command that started the run, and those that resumed it with changes."""
    changes: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Settings that changed when the run resumed, each a sentence with the step."""
    folder: tyro.conf.Suppress[Path | None] = None
    """Folder in which the run was started, which its relative paths are relative to."""
    out: Path | None = None
    """Folder of the run; by default the next free runs/RECIPE-N."""
    seed: int = 0
    """Seed of initial weights, order, augmentation and dropout."""
    model: ModelSetup = field(default_factory=ModelSetup)
    data: DataConfig
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(image_size=(224, 224), channels=3))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    objective: Annotated[ObjectiveConfig, tyro.conf.AvoidSubcommands] = field(default_factory=ClassificationConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    resolution: ResolutionConfig = field(default_factory=ResolutionConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        if getattr(self.model.architecture, "pool", None) == "none":
            raise UserError("training needs one feature vector for each image: choose pool cls, gap or map, not none")
        self.resolution.check(self.model.architecture)
        validate_objective(self)
        self._check_channels()
        if self.train.patience is not None and self.objective.evaluate_by != "labels":
            raise UserError(f"--train.patience needs labels, and {self.objective.name} learns without: leave it out")
        if self.data.sampling == "balanced" and self.augment.repeats > 1:
            raise UserError("--data.sampling balanced repeats images of small classes: give --augment.repeats 1")
        if self.model.probe and (self.model.lora_rank is not None or self.train.ema is not None):
            raise UserError(
                "a linear probe allows no LoRA adapters and no EMA: set --model.lora-rank None --train.ema None"
            )
        if self.model.probe and self.optim.sam_rho is not None:
            raise UserError("a linear probe has one minimum, sharp or not: leave out --optim.sam-rho")
        if self.model.lora_rank is not None and self.model.weights is None:
            raise UserError("LoRA adapts a pretrained model: set --model.weights, or remove --model.lora-rank")
        if self.model.reading and self.model.weights is None:
            raise UserError(
                "--model.checkpoint-key and --model.prefix say where in a file the weights are: set --model.weights"
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed must be at least 0 and below 2**63, not {self.seed}")

    @property
    def training_grids(self) -> tuple[tuple[int, int], ...]:
        """See `RunSettings`."""
        architecture = self.model.architecture
        if not isinstance(architecture, ViTConfig):
            return ()
        return (*(architecture.grid_of((size, size)) for size in self.resolution.sizes), architecture.grid)

    def _check_channels(self) -> None:
        """Refuses what is for pictures only, if the images have any number of channels."""
        if self.data.channels is None:
            return
        channels = f"images of {self.data.channels} channels (--data.channels)"
        if flags := self.augment.colour_flags:
            raise UserError(f"{channels} have no colours to augment: give {' '.join(flags)}")

    def _check_native_aspect(self) -> None:
        """Refuses what needs images of one size, if images keep their aspect ratio."""
        option = "--preprocessing.resize native_aspect"
        if not self.preprocessing.keeps_aspect:
            for name, value in (
                ("--preprocessing.max-patches", self.preprocessing.max_patches),
                ("--augment.sequence-lengths", self.augment.sequence_lengths),
            ):
                if value:
                    raise UserError(f"{name} goes with {option}: give both, or leave it out")
            return
        if self.objective.name not in ("classification", "multi_label", "regression"):
            raise UserError(f"{self.objective.name} needs images of one size: leave out {option}")
        if flags := self.augment.one_size_flags:
            raise UserError(f"{option} allows crops, flips and repeats only: give {' '.join(flags)}")
        if self.resolution.sizes:
            raise UserError(
                "--resolution.sizes needs images of one size: leave it out, or "
                f"shorten sequences with --augment.sequence-lengths instead, as {option} is given"
            )
        architecture = self.model.architecture
        if not isinstance(architecture, ViTConfig):
            raise UserError(f"a ResNet needs images of one size: leave out {option}, or choose a ViT")
        try:
            architecture.check_separate_patches(training=True)
        except UserError as error:
            raise UserError(f"{option}: {error}") from None

    def resolved(self, *, num_classes: int) -> "RunConfig":
        """The configuration with derived settings: the number of classes, and the model's image size and channels.

        The mean and deviation of `data.channels` channels stay empty where they have to be measured.

        Raises:
            UserError: images keep their aspect ratio, which the model, objective or augmentation does not allow.
        """
        self._check_native_aspect()
        channels, preprocessing = self.data.channels, self.preprocessing
        architecture = replace(self.model.architecture, num_classes=num_classes)
        if channels is not None:
            architecture = replace(architecture, channels=channels)
            preprocessing = preprocessing.with_bands(channels)
        return replace(
            self,
            model=replace(self.model, architecture=architecture),
            preprocessing=preprocessing.with_input(
                image_size=architecture.image_hw,
                channels=architecture.channels,
                patch_size=getattr(architecture, "patch_hw", None),
            ),
        )


def read_run_config(run: Run) -> RunConfig:
    """Reads the configuration that a run resumes with; its relative paths lead to the same files from any folder.

    Raises:
        UserError: run.json is damaged.
    """
    config = load_config(RunConfig, run.config_path)
    start = config.folder
    return config if start is None or start == Path.cwd() else map_paths(config, lambda path: _from(start, path))


def _from(start: Path, path: Path) -> Path:
    """A path that is relative to another folder; names on the Hub and URLs stay as they are."""
    there = start / path
    return there if there.parent.is_dir() else path
