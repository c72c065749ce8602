"""Other libraries' models with the weights of one of ours, to be measured beside it."""

from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from vitral.commands.bench.contenders import Contender, Settings, peer_contenders
from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.load import read_back
from vitral.weights.save import save_as
from vitral.weights.upstream_model import BUILDERS, UpstreamModel, load_upstream_model
from vitral.weights.write import formats_for

__all__ = ["find_peers"]

PACKAGES = tuple(dict.fromkeys(package for package, _ in BUILDERS.values()))

TOLERANCE = 1e-2
"""Difference of logits, relative to the largest, that is not mentioned."""


def find_peers(name: str, model: Model, settings: Settings) -> tuple[list[Contender], list[str]]:
    """The model in every other library that has it.

    Returns:
        The contenders, and one sentence for each library that is left out or computes otherwise.
    """
    if not isinstance(model, ViT):
        return [], [f"{name} is a ResNet, which is compared with no other library"]
    formats, contenders, notes = formats_for(model), [], []
    for package in PACKAGES:
        usable = [form for form in formats if form in BUILDERS and BUILDERS[form][0] == package]
        if not usable:
            notes.append(f"{package} is left out: it has no model like {name}")
            continue
        with TemporaryDirectory() as folder:
            peer = _load(model, usable[0], Path(folder) / "model.safetensors")
        if isinstance(peer, str):
            notes.append(f"{package} is left out: {peer}")
            continue
        difference = _difference(model, peer)
        if difference > TOLERANCE:
            notes.append(f"{package} does not compute the same: its logits differ by {difference:.1%} of the largest")
        title = f"{package} {version(package)}"
        contenders += peer_contenders(name, title, peer.module, peer.forward, settings, like=model)
    return contenders, notes


def _load(model: ViT, form: str, file: Path) -> UpstreamModel | str:
    """The other library's model, or why there is none."""
    try:
        save_as(model, file, form)
        written, _ = read_back(file, model)
    except UserError as error:
        return str(error)
    assert isinstance(written, ViT)
    peer = load_upstream_model(form, file, written.config)
    if isinstance(peer, UpstreamModel):
        if peer.output != "logits":
            return f"its {type(peer.module).__name__} has no head"
        _set_gelu(peer.module, model.config.gelu)
    return peer


def _set_gelu(module: nn.Module, form: str) -> None:
    """Gives a model Vitral's form of GELU: the two cost differently, and most libraries have the other by default."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if "GELU" in type(child).__name__:
                setattr(parent, name, nn.GELU("tanh" if form == "tanh" else "none"))


@torch.inference_mode()
def _difference(model: ViT, peer: UpstreamModel) -> float:
    """The largest difference of the logits of two random images, relative to the largest logit."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, model.config.channels, *model.config.image_hw, generator=generator) * 2 - 1
    ours, theirs = model.eval()(images), peer.forward(images)
    return ((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-12)).item()
