"""Files of Google's vision_transformer and big_vision, in every layout that they have been saved in."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.saved.case import Save, Saved
from unit.weights.google_oracle import Oracle

__all__ = ["CASES"]

Arrays = dict[str, np.ndarray]


class Google(nn.Module):
    """The arrays of a model of the original code, as parameters."""

    def __init__(self, **form: Any) -> None:
        super().__init__()
        self.oracle = Oracle(**form)
        arrays = self.oracle.arrays()
        self.arrays = nn.ParameterDict({name: torch.from_numpy(array) for name, array in arrays.items()})

    def numpy(self) -> Arrays:
        """The arrays by name."""
        return {name: parameter.detach().numpy() for name, parameter in self.arrays.items()}

    def forward(self, images: Tensor, *, output: Callable[..., np.ndarray] = Oracle.logits) -> Tensor:
        pixels = images.permute(0, 2, 3, 1).numpy()
        return torch.from_numpy(output(self.oracle, self.numpy(), pixels)).float()


def archive(layout: Callable[[Arrays], Mapping[str, np.ndarray]]) -> Save:
    """A NumPy archive of the arrays in a layout."""

    def save(model: nn.Module, folder: Path) -> Path:
        assert isinstance(model, Google)
        np.savez(folder / "model.npz", **layout(model.numpy()))
        return folder / "model.npz"

    return save


def prefixed(prefix: str, **others: np.ndarray) -> Callable[[Arrays], Arrays]:
    """Names after a prefix, among other arrays."""
    return lambda arrays: {f"{prefix}{name}": array for name, array in arrays.items()} | others


def two_towers(prefix: str) -> Callable[[Arrays], Arrays]:
    """The image tower beside a text tower, whose blocks have the same names, and the loss's temperature."""
    text = {
        f"{prefix}txt/Encoder_0/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel": np.ones((4, 1, 4)),
        f"{prefix}txt/Embed_0/embedding": np.ones((9, 4)),
        f"{prefix}txt/pos_embedding": np.ones((1, 5, 4)),
        f"{prefix}t": np.ones(1),
        f"{prefix}b": np.ones(1),
    }
    return lambda arrays: prefixed(f"{prefix}img/")(without_head(arrays)) | text


def without_head(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if not name.startswith("head/")}


def stacked(arrays: Arrays) -> Arrays:
    """`scan=True`: one array for all blocks."""
    first = "Transformer/encoderblock_0/"
    result = {name: array for name, array in arrays.items() if "encoderblock_" not in name}
    for name in (name for name in arrays if name.startswith(first)):
        layers = [arrays[name.replace("block_0/", f"block_{index}/")] for index in range(Oracle.depth)]
        result[name.replace("block_0/", "block/")] = np.stack(layers)
    return result


def with_cls_row(name: str, arrays: Arrays) -> Arrays:
    """Before 2022: positions with a row for the class token, in or beside the Transformer."""
    row = np.full((1, 1, Oracle.width), 0.25, np.float32)
    result = {key: array for key, array in arrays.items() if key != "pos_embedding"}
    if "cls" in result:
        result["cls"] = result["cls"] - row
    return result | {name: np.concatenate([row, arrays["pos_embedding"]], axis=1)}


def inlined_pooling(arrays: Arrays) -> Arrays:
    """During the development of ViT-G, attention pooling had no module of its own."""
    return {name.removeprefix("MAPHead_0/"): array for name, array in arrays.items()}


def bfloat16(arrays: Arrays) -> Arrays:
    """Raw bytes of bfloat16, as NumPy stores a type that it does not know; the values are rounded first."""
    tensors = {name: torch.from_numpy(array).bfloat16() for name, array in arrays.items()}
    return {name: tensor.view(torch.int16).numpy().view("V2") for name, tensor in tensors.items()}


def naflex(arrays: Arrays) -> Arrays:
    """A dense layer on flattened patches, and a square table of positions."""
    kernel, positions = arrays["embedding/kernel"], arrays["pos_embedding"]
    flat = {"embedding/kernel": kernel.reshape(-1, Oracle.width), "pos_embedding": positions.reshape(3, 3, -1)}
    return prefixed("params/img/")(arrays | flat)


def four_axes(arrays: Arrays) -> Arrays:
    """GroupNorm's parameters before flax 0.3.5."""
    return {name: array.reshape(1, 1, 1, -1) if "gn" in name else array for name, array in arrays.items()}


def rounded(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of the arrays in bfloat16."""
    assert isinstance(model, Google)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return model(images)


def pooled(model: nn.Module, images: Tensor) -> Tensor:
    """What the head receives."""
    assert isinstance(model, Google)
    return model(images, output=Oracle.pooled)


def big_vision(layout: Callable[[Arrays], Mapping[str, np.ndarray]], **changes: Any) -> Saved:
    """A file of big_vision; `changes` are the model's, or of the case."""
    case = {name: changes.pop(name) for name in ("output", "compare", "options", "notes") if name in changes}
    return Saved(
        build=partial(Google, generation="big_vision", **changes),
        save=archive(layout),
        lineage="big_vision",
        **case,
    )


TRAINING = {"opt/state/step": np.zeros(1), "opt/state/param_states/cls/v_row": np.ones(3)}
HEADLESS: dict[str, Any] = dict(output=pooled, compare="pooled", notes=("has no head",))
COMPUTED = "sine-cosine positions are not stored"

CASES: dict[str, Saved] = {
    "google, with the optimiser's state": Saved(
        build=Google, save=archive(prefixed("opt/target/", **TRAINING)), lineage="google"
    ),
    "google, tanh layer, mean": Saved(
        build=partial(Google, pool="gap", hidden=7), save=archive(lambda arrays: arrays), lineage="google"
    ),
    "google, hybrid with norms of four axes": Saved(
        build=partial(Google, stages=(1, 2), patch=1), save=archive(four_axes), lineage="google"
    ),
    "google, R+Ti with patches on the map": Saved(
        build=partial(Google, stages=(), patch=8, grid=2), save=archive(lambda arrays: arrays), lineage="google"
    ),
    "google, bfloat16": Saved(
        build=Google, save=archive(bfloat16), lineage="google", output=rounded, notes=("converted bfloat16",)
    ),
    "google-linen": Saved(
        build=partial(Google, generation="google-linen"), save=archive(lambda arrays: arrays), lineage="google-linen"
    ),
    "big_vision, params/": big_vision(prefixed("params/"), pool="gap"),
    "big_vision, scanned": big_vision(lambda arrays: prefixed("params/")(stacked(arrays)), pool="map"),
    "big_vision, image tower of params/": big_vision(two_towers("params/"), pool="map", **HEADLESS),
    "big_vision, image tower": big_vision(two_towers(""), pool="gap", **HEADLESS),
    "big_vision, scanned image tower": big_vision(
        lambda arrays: two_towers("params/")(stacked(arrays)), pool="map", **HEADLESS
    ),
    "big_vision, positions in the Transformer": big_vision(partial(with_cls_row, "Transformer/pos_embedding")),
    "big_vision, positions with a row": big_vision(partial(with_cls_row, "pos_embedding")),
    "big_vision, a row without class token": big_vision(partial(with_cls_row, "Transformer/pos_embedding"), pool="gap"),
    "big_vision, positions in the Transformer without a row": big_vision(
        lambda arrays: {
            name.replace("pos_embedding", "Transformer/pos_embedding"): array for name, array in arrays.items()
        }
    ),
    "big_vision, inlined pooling": big_vision(inlined_pooling, pool="map"),
    "big_vision, sincos2d": big_vision(
        prefixed("params/"), pool="gap", sincos=True, patch=32, grid=7, notes=(COMPUTED, "224x224 pixels")
    ),
    "big_vision, sincos2d at its size": big_vision(stacked, sincos=True, notes=(COMPUTED,), options={"image_size": 12}),
    "big_vision, NaFlex": Saved(
        build=partial(Google, generation="big_vision", pool="map"),
        save=archive(naflex),
        refusal="it is a NaFlex model, which keeps an image's proportions",
    ),
}
