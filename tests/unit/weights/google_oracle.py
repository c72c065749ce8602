"""Reference implementation of Google's Vision Transformers in NumPy, from the paper and the layout of the files.

It is independent of Vitral: it draws the arrays of a file with the names and shapes of each generation, and computes
the logits of the original code.
"""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Oracle"]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """A model in one generation of files."""

    generation: str = "google"
    """`google`, `google-linen` or `big_vision`."""
    pool: str = "cls"
    stages: tuple[int, ...] | None = None
    root: int = 32
    patch: int = 4
    grid: int = 3
    width: int = 12
    depth: int = 2
    heads: int = 3
    mlp: int = 20
    hidden: int | None = None
    classes: int = 5
    sincos: bool = False
    """Whether positions are computed, as by big_vision's `posemb="sincos2d"`, instead of stored."""

    @property
    def names(self) -> tuple[str, str, str, str]:
        """Names of a block's attention, second norm and MLP, and of the positions."""
        if self.generation == "google":
            return (
                "MultiHeadDotProductAttention_1",
                "LayerNorm_2",
                "MlpBlock_3",
                "Transformer/posembed_input/pos_embedding",
            )
        positions = "pos_embedding" if self.generation == "big_vision" else "Transformer/posembed_input/pos_embedding"
        return "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0", positions

    @property
    def side(self) -> int:
        """Image size in pixels."""
        stride = 1 if self.stages is None else 4 * 2 ** max(len(self.stages) - 1, 0)
        return self.grid * self.patch * stride

    def arrays(self, *, seed: int = 0) -> Arrays:
        """Random content of a file."""
        random = np.random.default_rng(seed)

        def draw(*shape: int, around: float = 0.0) -> np.ndarray:
            return (around + 0.3 * random.normal(size=shape)).astype(np.float32)

        attention, norm2, mlp, positions = self.names
        d, channels = self.width, 3
        arrays: Arrays = {}
        if self.stages is not None:
            channels = self._draw_resnet(arrays, draw)
        arrays |= {"embedding/kernel": draw(self.patch, self.patch, channels, d), "embedding/bias": draw(d)}
        if self.pool == "cls":
            arrays["cls"] = draw(1, 1, d)
        rows = self.grid**2 + (self.pool == "cls" and self.generation != "big_vision")
        if not self.sincos:
            arrays[positions] = draw(1, rows, d)
        for index in range(self.depth):
            block = f"Transformer/encoderblock_{index}"
            self._draw_block(arrays, draw, block, (f"{block}/{attention}", f"{block}/{norm2}", f"{block}/{mlp}"))
            arrays |= {f"{block}/LayerNorm_0/scale": draw(d, around=1), f"{block}/LayerNorm_0/bias": draw(d)}
        arrays |= {
            "Transformer/encoder_norm/scale": draw(d, around=1),
            "Transformer/encoder_norm/bias": draw(d),
        }
        if self.pool == "map":
            head = "MAPHead_0"
            arrays[f"{head}/probe"] = draw(1, 1, d)
            parts = (f"{head}/MultiHeadDotProductAttention_0", f"{head}/LayerNorm_0", f"{head}/MlpBlock_0")
            self._draw_block(arrays, draw, head, parts)
        if self.hidden is not None:
            arrays |= {"pre_logits/kernel": draw(d, self.hidden), "pre_logits/bias": draw(self.hidden)}
        return arrays | {"head/kernel": draw(self.hidden or d, self.classes), "head/bias": draw(self.classes)}

    def _draw_block(self, arrays: Arrays, draw, block: str, parts: tuple[str, str, str]) -> None:
        d, h, k = self.width, self.heads, self.width // self.heads
        attention, norm, mlp = parts
        for name in ("query", "key", "value"):
            arrays |= {f"{attention}/{name}/kernel": draw(d, h, k), f"{attention}/{name}/bias": draw(h, k)}
        arrays |= {
            f"{attention}/out/kernel": draw(h, k, d),
            f"{attention}/out/bias": draw(d),
            f"{norm}/scale": draw(d, around=1),
            f"{norm}/bias": draw(d),
            f"{mlp}/Dense_0/kernel": draw(d, self.mlp),
            f"{mlp}/Dense_0/bias": draw(self.mlp),
            f"{mlp}/Dense_1/kernel": draw(self.mlp, d),
            f"{mlp}/Dense_1/bias": draw(d),
        }

    def _draw_resnet(self, arrays: Arrays, draw) -> int:
        def normed(name: str, width: int) -> None:
            arrays[f"{name}/scale"], arrays[f"{name}/bias"] = draw(width, around=1), draw(width)

        arrays["conv_root/kernel"] = draw(7, 7, 3, self.root)
        normed("gn_root", self.root)
        inputs = self.root
        for stage, units in enumerate(self.stages or (), start=1):
            width = self.root * 2 ** (stage - 1)
            for unit in range(1, units + 1):
                name = f"block{stage}/unit{unit}"
                shapes = ((1, 1, inputs, width), (3, 3, width, width), (1, 1, width, 4 * width))
                for index, shape in enumerate(shapes, start=1):
                    arrays[f"{name}/conv{index}/kernel"] = draw(*shape)
                    normed(f"{name}/gn{index}", shape[-1])
                if unit == 1:
                    arrays[f"{name}/conv_proj/kernel"] = draw(1, 1, inputs, 4 * width)
                    normed(f"{name}/gn_proj", 4 * width)
                inputs = 4 * width
        return inputs

    def logits(self, arrays: Arrays, images: np.ndarray) -> np.ndarray:
        """Logits in float64, for images (b, h, w, c) in -1..1."""
        return self.pooled(arrays, images) @ arrays["head/kernel"] + arrays["head/bias"]

    def pooled(self, arrays: Arrays, images: np.ndarray) -> np.ndarray:
        """What the head receives, in float64."""
        a = {name: array.astype(np.float64) for name, array in arrays.items()}
        attention, norm2, mlp, positions = self.names
        x = images.astype(np.float64) if self.stages is None else self._resnet(a, images.astype(np.float64))
        b, p = len(x), self.patch
        x = x[:, : self.grid * p, : self.grid * p]  # a convolution without padding drops the rest of the map
        x = x.reshape(b, self.grid, p, self.grid, p, -1).transpose(0, 1, 3, 2, 4, 5).reshape(b, self.grid**2, -1)
        x = x @ a["embedding/kernel"].reshape(-1, self.width) + a["embedding/bias"]
        cls = np.broadcast_to(a.get("cls", np.zeros((1, 0, self.width))), (b, int("cls" in a), self.width))
        if self.generation == "big_vision":
            x = np.concatenate([cls, x + (sincos(self.grid, self.width) if self.sincos else a[positions])], axis=1)
        else:
            x = np.concatenate([cls, x], axis=1) + a[positions]
        for index in range(self.depth):
            block = f"Transformer/encoderblock_{index}"
            z = layer_norm(x, a, f"{block}/LayerNorm_0")
            x = x + attend(z, z, a, f"{block}/{attention}")
            x = x + mlp_block(layer_norm(x, a, f"{block}/{norm2}"), a, f"{block}/{mlp}")
        x = layer_norm(x, a, "Transformer/encoder_norm")
        if self.pool == "map":
            probe = np.broadcast_to(a["MAPHead_0/probe"], (b, 1, self.width))
            x = attend(probe, x, a, "MAPHead_0/MultiHeadDotProductAttention_0")
            x = x + mlp_block(layer_norm(x, a, "MAPHead_0/LayerNorm_0"), a, "MAPHead_0/MlpBlock_0")
        y = x.mean(axis=1) if self.pool == "gap" else x[:, 0]
        if self.hidden is not None:
            y = np.tanh(y @ a["pre_logits/kernel"] + a["pre_logits/bias"])
        return y

    def _resnet(self, a: Arrays, x: np.ndarray) -> np.ndarray:
        x = np.maximum(group_norm(convolve(x, a["conv_root/kernel"], 2), a, "gn_root"), 0)
        x = windows(x, 3, 2, fill=-np.inf).max(axis=(3, 4))
        for stage, units in enumerate(self.stages or (), start=1):
            for unit in range(1, units + 1):
                name, stride = f"block{stage}/unit{unit}", 2 if unit == 1 and stage > 1 else 1
                y = np.maximum(group_norm(convolve(x, a[f"{name}/conv1/kernel"], 1), a, f"{name}/gn1"), 0)
                y = np.maximum(group_norm(convolve(y, a[f"{name}/conv2/kernel"], stride), a, f"{name}/gn2"), 0)
                y = group_norm(convolve(y, a[f"{name}/conv3/kernel"], 1), a, f"{name}/gn3")
                if unit == 1:
                    x = group_norm(convolve(x, a[f"{name}/conv_proj/kernel"], stride), a, f"{name}/gn_proj")
                x = np.maximum(x + y, 0)
        return x


def sincos(grid: int, width: int) -> np.ndarray:
    """MoCo v3's positions of a square grid: for each patch sin x, cos x, sin y, cos y, a quarter of the width each."""
    table = np.zeros((1, grid * grid, width))
    quarter = width // 4
    for y in range(grid):
        for x in range(grid):
            for index in range(quarter):
                frequency = 10_000 ** (-index / (quarter - 1))
                waves = (math.sin(x * frequency), math.cos(x * frequency), math.sin(y * frequency))
                for part, wave in enumerate((*waves, math.cos(y * frequency))):
                    table[0, y * grid + x, part * quarter + index] = wave
    return table


def windows(x: np.ndarray, kernel: int, stride: int, *, fill: float) -> np.ndarray:
    """Windows (b, rows, columns, kernel, kernel, c) with TensorFlow's SAME padding."""
    sizes = x.shape[1:3]
    pads = [max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in sizes]
    x = np.pad(x, ((0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)), constant_values=fill)
    cut = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))
    return cut[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Convolution with filters standardised to mean 0 and standard deviation 1."""
    mean, std = kernel.mean(axis=(0, 1, 2)), kernel.std(axis=(0, 1, 2))
    filters = (kernel - mean) / (std + 1e-5)
    return np.einsum("byxhwc,hwcd->byxd", windows(x, kernel.shape[0], stride, fill=0.0), filters)


def group_norm(x: np.ndarray, a: Arrays, name: str) -> np.ndarray:
    groups = x.reshape(len(x), -1, 32, x.shape[-1] // 32)
    mean, variance = groups.mean(axis=(1, 3), keepdims=True), groups.var(axis=(1, 3), keepdims=True)
    normed = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    return normed * a[f"{name}/scale"].ravel() + a[f"{name}/bias"].ravel()


def layer_norm(x: np.ndarray, a: Arrays, name: str) -> np.ndarray:
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6) * a[f"{name}/scale"] + a[f"{name}/bias"]


def attend(queries: np.ndarray, x: np.ndarray, a: Arrays, name: str) -> np.ndarray:
    """Multi-head attention, Eq. 5 to 8."""
    q, k, v = (
        np.einsum("btd,dhk->bhtk", tokens, a[f"{name}/{part}/kernel"]) + a[f"{name}/{part}/bias"][None, :, None]
        for part, tokens in (("query", queries), ("key", x), ("value", x))
    )
    logits = np.einsum("bhqk,bhtk->bhqt", q, k) / math.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = np.einsum("bhqt,bhtk->bqhk", weights, v)
    return np.einsum("bqhk,hkd->bqd", mixed, a[f"{name}/out/kernel"]) + a[f"{name}/out/bias"]


def mlp_block(x: np.ndarray, a: Arrays, name: str) -> np.ndarray:
    """Dense layer, tanh GELU, dense layer."""
    x = x @ a[f"{name}/Dense_0/kernel"] + a[f"{name}/Dense_0/bias"]
    x = x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x @ a[f"{name}/Dense_1/kernel"] + a[f"{name}/Dense_1/bias"]
