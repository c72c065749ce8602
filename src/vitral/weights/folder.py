"""A model on disk: a folder with `model.safetensors` and `config.json`."""

import mmap
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save

from vitral.card import ModelCard
from vitral.config import load_config, save_config
from vitral.device import pick_device
from vitral.errors import UserError, one_line, translate_parser_errors
from vitral.files import write_atomically
from vitral.layers.pooling import NoHead
from vitral.models import Architecture, Model, blank_model, check_parts, give_buffers
from vitral.vit import ViT

__all__ = ["WEIGHTS", "ModelConfig", "check_head", "load_model", "read_config", "save_model"]

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Content of `config.json`.

    Raises:
        UserError: card and architecture do not match.
    """

    architecture: Architecture
    card: ModelCard
    checksum: str | None = None
    """XXH3 (128 bits, in hexadecimal) of `model.safetensors`; None in models of version 0.1."""

    def __post_init__(self) -> None:
        names, outputs = len(self.card.classes), self.architecture.num_classes
        if names not in (0, outputs):  # no names: an untrained head
            raise UserError(f"the card names {names} classes, but the model has {outputs} outputs")
        if (thresholds := len(self.card.thresholds)) not in (0, outputs):
            raise UserError(f"the card has {thresholds} thresholds, but the model has {outputs} outputs")
        produced = (self.card.preprocessing.channels, *self.card.preprocessing.image_size)
        expected = (self.architecture.channels, *self.architecture.image_hw)
        if produced != expected:
            raise UserError(f"preprocessing produces images of shape {produced}, but the model expects {expected}")
        cut, patch = self.card.preprocessing.patch_size, getattr(self.architecture, "patch_hw", None)
        if self.card.preprocessing.keeps_aspect and (cut is None or cut != patch):
            raise UserError(f"preprocessing cuts images into patches of {cut}, but the model expects {patch}")


def check_head(model: Model) -> None:
    """Raises UserError for a model whose head was taken off, which no format can store."""
    if isinstance(model.head, NoHead):
        raise UserError("the model has no head to save: model.reset_classifier(N) gives it one for N classes")


def save_model(folder: Path, model: Model, card: ModelCard) -> None:
    """Writes a model and its card into a folder, each file atomically.

    Raises:
        UserError: card and model do not match.
        OSError: the folder cannot be written; existing files stay unchanged.
    """
    check_head(model)
    config = ModelConfig(architecture=model.config, card=card)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    weights = save(state, metadata={"format": "pt"})
    config = replace(config, checksum=xxhash.xxh3_128_hexdigest(weights))
    write_atomically(folder / WEIGHTS, lambda file: file.write(weights))
    save_config(folder / CONFIG, config)
    if isinstance(model, ViT):
        model.positions = model.config.positions  # as it will be loaded: not marked as interpolated


def read_config(folder: Path) -> ModelConfig:
    """Reads the configuration of a model folder, without its weights; raises the same errors as `load_model`."""
    if not folder.exists():
        raise UserError(f"{folder} does not exist: give the folder of a trained model, such as runs/digits")
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing and (folder / "run.json").is_file():
        command = f"vitral train --resume {shlex.quote(str(folder))}"
        raise UserError(f"{folder} holds an unfinished run: finish it with: {command}")
    if missing:
        raise UserError(f"{folder} is not a Vitral model: it lacks {' and '.join(missing)}")
    return load_config(ModelConfig, folder / CONFIG)


def load_model(folder: str | Path, *, device: str | torch.device = "cpu") -> Model:
    """Reads a model in float32 and evaluation mode, with its card.

    Raises:
        UserError: the folder is not a Vitral model, its weights are damaged or do not fit its architecture, or the
            device does not exist.
        OSError: a file cannot be read.
    """
    folder, device = Path(folder), pick_device(device)
    config, weights = read_config(folder), folder / WEIGHTS
    with translate_parser_errors(lambda error: f"{weights} is damaged: {one_line(error)}"):
        with safe_open(weights, framework="pt", device=str(device)) as file:
            names = list(file.keys())
            check_parts(config.architecture, num_tensors=len(names), origin=f"{weights} does not fit {CONFIG}")
            state = {name: file.get_tensor(name).float() for name in names}
        _check_sum(weights, config.checksum)
    model = blank_model(config.architecture)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        mismatched = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        first = mismatched[0]
        raise UserError(
            f"{folder / WEIGHTS} does not fit {CONFIG} in {len(mismatched)} tensors, first {first}: "
            f"expected {expected.get(first, 'none')}, found {found.get(first, 'none')}"
        )
    give_buffers(model, device)
    model.load_state_dict(state, assign=True)
    model.card = config.card
    return model.eval()


def _check_sum(weights: Path, checksum: str | None) -> None:
    """Refuses weights that are not those that were saved. Their pages, read here, are then in memory for the model.

    Raises:
        UserError: the checksum differs.
    """
    if checksum is None:
        return
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = xxhash.xxh3_128_hexdigest(content)
    if found != checksum:
        again = "copy it again"
        if (weights.parent / "run.json").is_file():
            again = f"write it again with vitral train --resume {shlex.quote(str(weights.parent))}"
        raise UserError(
            f"{weights} is damaged, because its checksum is not the one in {CONFIG}: {again}, or remove checksum there "
            "if you changed the weights yourself"
        )
