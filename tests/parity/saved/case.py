"""A checkpoint as its owner saves it, and what Vitral must do with it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

__all__ = ["Saved", "owner_output", "randomised", "safetensors", "torch_file", "transformers_folder", "with_json"]

Save = Callable[[nn.Module, Path], Path]
"""Saves an owner's model below a folder, and returns the path that its user would load."""


@dataclass(frozen=True, kw_only=True)
class Saved:
    """One file or folder.

    Its output equals the owner's to 1e-5 of the output's norm, or a sentence that contains `refusal` refuses it.
    """

    build: Callable[[], nn.Module]
    """The owner's class with random weights; the test adds noise to every parameter."""
    save: Save
    lineage: str | None = None
    """Format that Vitral must detect; None if the file is refused."""
    refusal: str | None = None
    """Part of the sentence with which the file is refused."""
    output: Callable[[nn.Module, Tensor], Tensor] | None = None
    """The owner's output; None: `owner_output`."""
    compare: Literal["logits", "pooled"] = "logits"
    """Vitral's output to compare: logits, or the pooled features if the file has no head."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of `vitral.load` that a user has to give."""
    notes: tuple[str, ...] = ()
    """Parts of the notes that the report must contain."""

    def __post_init__(self) -> None:
        assert (self.lineage is None) == (self.refusal is not None), "a case is read or refused"


def randomised(build: Callable[[], nn.Module]) -> nn.Module:
    """An owner's model in evaluation mode, with noise on every parameter, so that zeros and ones hide nothing."""
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.05
    return model


def owner_output(model: nn.Module, images: Tensor) -> Tensor:
    """The tensor that an owner's model returns, or its logits, embedding or pooled output."""
    output = model(images)
    if isinstance(output, Tensor):
        return output
    names = ("logits", "image_embeds", "pooler_output")
    return next(value for name in names if (value := getattr(output, name, None)) is not None)


def safetensors(model: nn.Module, folder: Path) -> Path:
    """A state dict alone in a safetensors file."""
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}, path)
    return path


def torch_file(content: Callable[[nn.Module], Any], *, name: str = "checkpoint.pth") -> Save:
    """`torch.save` of whatever the owner puts into its file."""

    def save(model: nn.Module, folder: Path) -> Path:
        torch.save(content(model), folder / name)
        return folder / name

    return save


def transformers_folder(model: nn.Module, folder: Path) -> Path:
    """`save_pretrained`: `config.json` and `model.safetensors`."""
    model.save_pretrained(folder / "saved")  # pyright: ignore[reportCallIssue]
    return folder / "saved"


def with_json(config: Mapping[str, Any]) -> Save:
    """A folder with the state dict and this `config.json`."""

    def save(model: nn.Module, folder: Path) -> Path:
        safetensors(model, folder)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return save
