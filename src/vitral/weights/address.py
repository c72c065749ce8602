"""Names of models as users type them: paths, published checkpoints and addresses on the Hugging Face Hub."""

import re
from pathlib import Path

from vitral.errors import UserError
from vitral.weights.pretrained import find_pretrained, list_pretrained

__all__ = ["HUB_PREFIX", "check_address", "is_hub_name", "to_address"]

HUB_PREFIX = "hf-hub:"
"""Prefix of a model on the Hub."""
HUB_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)(?:/(?:tree|blob|resolve)/([^/?#]+))?"
)
OTHER_PREFIX = re.compile(r"(?:hf|hf_hub|hub|timm):/*([\w.-]+/[\w.-]+(?:@\S+)?)")
"""Prefixes that other tools use for the Hub."""
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""OWNER/NAME, as the Hub spells it."""
FILES = (".npz", ".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".h5", ".onnx")
"""Endings of weights files, which no model on the Hub has."""


def check_address(model: str | Path) -> None:
    """Checks the form of a model's name, without opening it; a path must exist.

    Raises:
        UserError: it is a web page, or an address without owner, or there is no such file, folder or checkpoint.
    """
    name = str(model)
    if not name.strip():
        raise UserError(f"the name of the model is empty: name a folder, a file, or {HUB_PREFIX}OWNER/NAME")
    if name.startswith(HUB_PREFIX):
        if "/" not in name:
            owner = "OWNER/" + (name.removeprefix(HUB_PREFIX) or "NAME")
            raise UserError(f"{name} names no owner: write {HUB_PREFIX}{owner}")
        return
    if page := HUB_PAGE.match(name):
        revision = f"@{page[2]}" if page[2] and page[2] != "main" else ""
        raise UserError(f"{name} is a page of the Hub: name the model {HUB_PREFIX}{page[1]}{revision}")
    if Path(name).exists() or find_pretrained(name) is not None:
        return
    if other := OTHER_PREFIX.fullmatch(name):
        raise UserError(f"{name} does not exist here: if it is on the Hub, name it {HUB_PREFIX}{other[1]}")
    if re.match(r"[a-z][a-z0-9+.-]+://", name):
        raise UserError(f"{name} is a web address: download the file, and name the copy")
    if (checkpoint := next((other for other in list_pretrained() if other.startswith(f"{name}@")), None)) is not None:
        raise UserError(
            f"{name} is a model without weights: name a checkpoint such as {checkpoint} "
            "(vitral models --pretrained lists them)"
        )
    if is_hub_name(name) and not name.startswith("runs/"):
        raise UserError(f"{name} does not exist here; is it on the Hub? name it {HUB_PREFIX}{name}")
    raise UserError(f"{name} does not exist: give the folder of a trained model, such as runs/digits")


def to_address(model: str | Path) -> str:
    """The address on the Hub of a published checkpoint's name; any other name unchanged."""
    name = str(model)
    entry = None if Path(name).exists() else find_pretrained(name)
    return name if entry is None else entry.address


def is_hub_name(name: str) -> bool:
    """Whether a name has the form OWNER/NAME, and is no file's."""
    return NAME.fullmatch(name) is not None and Path(name).suffix.lower() not in FILES
