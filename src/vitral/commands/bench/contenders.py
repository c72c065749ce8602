"""What `vitral bench` measures: Vitral's models, exported files and other libraries' models, each as one function."""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.card import ModelCard
from vitral.commands.arguments.checks import check_model
from vitral.commands.loading import load_and_note
from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.device import synchronize
from vitral.errors import UserError, did_you_mean
from vitral.export.exported import ExportedModel, load_exported
from vitral.inspection.peak_memory import MemoryGrowth, tensor_bytes
from vitral.inspection.timing import Work
from vitral.models import NAMES, Architecture, Model, architecture, create
from vitral.serve.predictor import Predictor
from vitral.token_merging import merge_tokens
from vitral.train.kernels import supports_kernels, use_kernels
from vitral.weights.address import HUB_PREFIX
from vitral.weights.pretrained import find_pretrained

__all__ = [
    "Contender",
    "Settings",
    "exported_contender",
    "load_model",
    "peer_contenders",
    "random_pixels",
    "vitral_contenders",
]

Forward = Callable[[Tensor], Tensor]
"""From normalised images to logits."""

Prepare = Callable[[int], Work]
"""From a batch size to the function to time; it is called once more before it is timed."""

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How all contenders are measured."""

    device: torch.device
    bfloat16: bool
    """Whether PyTorch's models compute in bfloat16 (autocast), otherwise in float32."""
    train: bool
    """Training steps; otherwise inference."""
    compile: bool
    """Whether PyTorch's models are measured with `torch.compile` too."""
    token_merging: int | None
    """Pairs of tokens that every block merges, where that is measured too."""

    @property
    def compilations(self) -> dict[str, str | None]:
        """Modes of `torch.compile` by name; on a GPU, one of inference records CUDA graphs, for small batches."""
        if not self.compile:
            return {}
        graphs = self.device.type == "cuda" and not self.train
        return {"compiled": None} | ({"CUDA graphs": "reduce-overhead"} if graphs else {})

    @property
    def precision(self) -> str:
        """Name of the arithmetic."""
        return "bfloat16" if self.bfloat16 else "float32"

    def arithmetic(self) -> AbstractContextManager:
        """The context in which another library's model computes as Vitral's does."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to compute a model."""

    model: str
    """As the user named it."""
    by: str
    """What computes it, such as `Vitral` or `timm 1.0.31, compiled`."""
    architecture: Architecture
    precision: str
    device: torch.device
    prepare: Prepare
    held: int | None
    """Bytes of weights, and in training of the optimiser; None if they are not known."""


def load_model(name: str, *, image_size: int | None, reading: Mapping[str, Any]) -> Model:
    """The model behind a name: an architecture with random weights, or a trained model.

    Args:
        name: as the user typed it.
        image_size: height and width of images; None: the model's own.
        reading: how another project's file is read, as in `load_with_report`.

    Raises:
        UserError: there is no such model, or it takes no images of this size.
    """
    is_address = name.startswith(HUB_PREFIX) or "://" in name or not name.strip()
    if is_address or Path(name).exists() or find_pretrained(name) is not None:
        check_model(name)
        return load_and_note(name, image_size=image_size, **reading)
    try:
        architecture(name)
    except UserError:
        hint = did_you_mean(name, NAMES)
        raise UserError(
            f"{name} is neither a file or folder nor a model's name{hint}: name a run, an exported file, or a model "
            "such as ViT-S/16 (vitral models lists them)"
        ) from None
    if reading:
        option = f"--{next(iter(reading)).replace('_', '-')}"
        raise UserError(f"{option} helps to read a file, and {name} is the name of a model: leave it out")
    size = {} if image_size is None else {"image_size": image_size}
    torch.manual_seed(0)
    return _with_card(create(name, **size))


def _with_card(model: Model) -> Model:
    """A new model with the card that it needs to predict, and with a head that is not zero."""
    config = model.config
    nn.init.trunc_normal_(model.head.weight, std=0.02)
    preprocessing = Preprocessing(image_size=config.image_hw, channels=config.channels, resize="crop")
    model.card = ModelCard(preprocessing=preprocessing, classes=tuple(map(str, range(config.num_classes))))
    return model


def vitral_contenders(name: str, model: Model, settings: Settings) -> list[Contender]:
    """A model as `vitral train` or `vitral.Predictor` computes it; also compiled, if the settings say so."""
    if settings.train and supports_kernels(settings.device):
        use_kernels(model)
    variants = {"Vitral": model}
    if settings.token_merging is not None:
        merging = copy.copy(model)  # shares the weights
        merge_tokens(merging, settings.token_merging)
        variants[f"Vitral, {settings.token_merging} merged"] = merging
    for (by, each), (kind, mode) in product(list(variants.items()), settings.compilations.items()):
        compiled = copy.copy(each)
        compiled.compile(mode=mode)
        variants[f"{by}, {kind}"] = compiled
    if settings.train:
        steps = {by: _training(each, each, settings, like=model) for by, each in variants.items()}
    else:
        steps = {by: _inference(_predictor(each, settings).logits, like=model) for by, each in variants.items()}
    return [_contender(name, by, model, model, settings, step) for by, step in steps.items()]


def peer_contenders(
    name: str, by: str, module: nn.Module, forward: Forward, settings: Settings, *, like: Model
) -> list[Contender]:
    """Another library's model, with the preprocessing and the arithmetic of Vitral's.

    Args:
        name: the model as the user named it.
        by: the library.
        module: holds the weights.
        forward: from normalised images to logits.
        settings: how it is measured.
        like: Vitral's model of the same architecture.
    """
    module.to(settings.device).train(settings.train)
    variants = {by: forward}
    for kind, mode in settings.compilations.items():
        variants[f"{by}, {kind}"] = torch.compile(forward, mode=mode)
    found = []
    for label, each in variants.items():
        if settings.train:
            step = _training(module, each, settings, like=like)
        else:
            step = _inference(_peer_logits(each, settings, like=like), like=like)
        found.append(_contender(name, label, module, like, settings, step))
    return found


def exported_contender(name: str, *, image_size: int | None) -> Contender:
    """An exported file, which computes on the CPU.

    Raises:
        UserError: there is no such file, it is damaged or not Vitral's, or takes no images of this size.
    """
    device = torch.device("cpu")
    _file_logits(load_exported(name, image_size=image_size))(1)()  # loads the backend: its memory is not the model's
    with MemoryGrowth(device) as growth:
        model = load_exported(name, image_size=image_size)
    return Contender(
        model=name,
        by=f"{Path(name).name}, {model.metadata.precision}",
        architecture=model.config,
        precision=model.metadata.precision,
        device=device,
        prepare=_file_logits(model),
        held=growth.kept,
    )


def random_pixels(batch_size: int, preprocessing: Preprocessing) -> PixelBatch:
    """Images in memory, the same for all contenders of a size."""
    generator = torch.Generator().manual_seed(0)
    preprocessing.check_one_size("vitral bench")
    shape = (batch_size, *preprocessing.image_size, preprocessing.channels)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return images.float() if preprocessing.bands else images


def _contender(name: str, by: str, module: nn.Module, like: Model, settings: Settings, step: Prepare) -> Contender:
    """A contender in PyTorch. In training its optimiser holds two moments of every weight."""
    return Contender(
        model=name,
        by=by,
        architecture=like.config,
        precision=settings.precision,
        device=settings.device,
        prepare=step,
        held=tensor_bytes(module) * (3 if settings.train else 1),
    )


def _predictor(model: Model, settings: Settings) -> Predictor:
    return Predictor(model, device=settings.device, precision=settings.precision)


def _peer_logits(forward: Forward, settings: Settings, *, like: Model) -> Callable[[PixelBatch], Tensor]:
    """What `Predictor.logits` does, with another library's model."""
    preprocessing = _preprocessing(like)

    @torch.inference_mode()
    def logits(images: PixelBatch) -> Tensor:
        with settings.arithmetic():
            return forward(preprocessing.normalise(images.to(settings.device))).float()

    return logits


def _inference(logits: Callable[[PixelBatch], Tensor], *, like: Model | ExportedModel) -> Prepare:
    """Calls that end with the logits in memory."""

    def prepare(batch_size: int) -> Work:
        images = random_pixels(batch_size, _preprocessing(like))
        logits(images)  # compiles, which takes memory of its own
        return lambda: logits(images).cpu()

    return prepare


def _file_logits(model: ExportedModel) -> Prepare:
    """Calls of an exported file, not warmed up: its backend keeps the memory of the first call."""
    preprocessing = _preprocessing(model)
    by_itself = model.metadata.with_preprocessing
    logits = model if by_itself else Predictor(model, device="cpu", precision="float32").logits

    def prepare(batch_size: int) -> Work:
        images = random_pixels(batch_size, preprocessing)
        return lambda: logits(images)

    return prepare


def _training(module: nn.Module, forward: Forward, settings: Settings, *, like: Model) -> Prepare:
    """Training steps: forward, softmax cross-entropy, backward, AdamW."""
    on_gpu = settings.device.type != "cpu"
    module.to(settings.device).train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=on_gpu)
    preprocessing = _preprocessing(like)

    def prepare(batch_size: int) -> Work:
        images = random_pixels(batch_size, preprocessing)
        generator = torch.Generator().manual_seed(1)
        labels = torch.randint(max(like.config.num_classes, 1), (batch_size,), generator=generator).to(settings.device)

        def step() -> float:
            with settings.arithmetic():
                logits = forward(preprocessing.normalise(images.to(settings.device)))
                if logits.ndim != 2 or not logits.shape[1]:
                    raise UserError("--train measures models that give one row of logits an image: leave out --train")
                loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            value = loss.item()
            if on_gpu:
                synchronize(settings.device)  # the loss is ready before the step is
            return value

        step()
        return step

    return prepare


def _preprocessing(model: Model | ExportedModel) -> Preprocessing:
    if model.card is None:
        raise UserError("the model has no card with preprocessing: save it with vitral convert first")
    return model.card.preprocessing
