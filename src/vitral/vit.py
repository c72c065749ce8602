"""The Vision Transformer of "An Image is Worth 16x16 Words" (arXiv 2010.11929), read once from top to bottom.

Letters in the shapes below:

    b      images in a batch            d      width of a token (the paper's D)
    c      channels of an image         heads  attention heads
    h w    image height and width       k      width of one head, d / heads
    gh gw  rows and columns of patches  n      patches, n = gh * gw
    p q    patch height and width
    t      tokens, t = n + 1 with a class token, t = n without
    r      tokens that something later reads, r <= t

Equation numbers are the paper's. Compilation, mixed precision and distribution are put around it from `vitral.train`.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.data.card import ModelCard

__all__ = ["SIZES", "Features", "ViT", "ViTConfig", "architecture", "create"]

ALL = slice(None)
READ = {"cls": slice(0, 1), "gap": ALL}
"""The final tokens that each pool reads; their mean represents the image."""
GELUS: dict[str, Callable[[], nn.Module]] = {"tanh": partial(nn.GELU, approximate="tanh"), "erf": nn.GELU}


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Architecture of a plain Vision Transformer; the defaults are ViT-B/16 at 224 pixels.

    Raises:
        ValueError: the sizes do not fit together; the sentence says which and what to change.
    """

    image_size: int | tuple[int, int] = 224
    """Input size in pixels: one number for a square, or height and width."""
    patch_size: int | tuple[int, int] = 16
    """Patch size in pixels; it must divide the image size."""
    channels: int = 3
    """Channels of the input images."""
    width: int = 768
    """Width of every token (D)."""
    depth: int = 12
    """Number of blocks (L)."""
    num_heads: int = 12
    """Attention heads (k in Eq. 5-8); they share the width."""
    mlp_dim: int = 3072
    """Hidden width of each block's MLP."""
    num_classes: int = 1000
    """Classes of the head; in training they are the data's."""
    pool: Literal["cls", "gap"] = "cls"
    """What represents the image: the class token, or the mean of the patches (then there is no class token)."""
    position: Literal["none", "learned_1d"] = "learned_1d"
    """Position embeddings, added once before the first block."""
    representation_size: int | None = None
    """Width of the tanh layer before the head, used in pre-training; None leaves it out."""
    dropout: float = 0.0
    """Dropout after every dense layer except q, k, v, and after adding positions."""
    gelu: Literal["tanh", "erf"] = "tanh"
    """Form of GELU: Google's weights use the tanh form, timm's own and transformers' the exact one."""
    norm_eps: float = 1e-6
    """Epsilon of every LayerNorm."""
    head_bias: float = 0.0
    """Initial bias of the head; the paper's sigmoid pre-training uses -10."""

    def __post_init__(self) -> None:
        for name, known in (("pool", READ), ("position", ("none", "learned_1d")), ("gelu", GELUS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("channels", "width", "depth", "num_heads", "mlp_dim", "num_classes", "representation_size"):
            if (size := getattr(self, name)) is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, not {size}")
        (h, w), (p, q) = self.image_hw, self.patch_hw
        if min(h, w, p, q) < 1:
            raise ValueError(f"image and patch size must be at least 1 pixel, not {h}x{w} and {p}x{q}")
        if h % p or w % q:
            raise ValueError(
                f"image size {h}x{w} is not divisible by patch size {p}x{q}: "
                f"choose {max(h // p, 1) * p}x{max(w // q, 1) * q}, or another patch size"
            )
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by {self.num_heads} heads")
        if not 0 <= self.dropout < 1 or self.norm_eps <= 0:
            raise ValueError(f"dropout must be in [0, 1) and norm_eps above 0, not {self.dropout} and {self.norm_eps}")

    @property
    def image_hw(self) -> tuple[int, int]:
        """Image height and width in pixels."""
        return _pair(self.image_size)

    @property
    def patch_hw(self) -> tuple[int, int]:
        """Patch height and width in pixels."""
        return _pair(self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches (gh, gw)."""
        (h, w), (p, q) = self.image_hw, self.patch_hw
        return h // p, w // q


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the encoder made of a batch of images, by name."""

    cls: Float[Tensor, "b d"] | None
    """Final class token; None with `pool="gap"`."""
    patches: Float[Tensor, "b n d"]
    """Final patch tokens, row by row."""
    pooled: Float[Tensor, "b d"]
    """The image representation y of Eq. 4."""
    landmarks: dict[str, Float[Tensor, "b t d"]]
    """Tokens along the way: `embedded` (z_0), `blocks.0` to `blocks.{L-1}` (z_1 to z_L), `norm`."""


class PatchEmbed(nn.Module):
    """Projects each patch to a token: x_p E of Eq. 1, with a bias; a convolution's weight, one matrix product."""

    def __init__(self, *, channels: int, patch_hw: tuple[int, int], width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_hw, stride=patch_hw)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        p, q = self.proj.kernel_size
        patches = rearrange(images, "b c (gh p) (gw q) -> b (gh gw) (c p q)", p=p, q=q)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Multi-head self-attention, Eq. 5-8; the softmax of Eq. 6 is inside the fused call."""

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], read: slice = ALL) -> Float[Tensor, "b r d"]:
        q, k, v = self.heads(x)
        out = F.scaled_dot_product_attention(q[:, :, read], k, v)
        return self.drop(self.proj(rearrange(out, "b heads t k -> b t (heads k)")))

    def heads(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "three b heads t k"]:
        """Queries, keys and values of every head (Eq. 5)."""
        return rearrange(self.qkv(x), "b t (three heads k) -> three b heads t k", three=3, heads=self.num_heads)


class MLP(nn.Module):
    """Dense, GELU, dense; dropout after each dense layer."""

    def __init__(self, *, width: int, hidden: int, gelu: str, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = GELUS[gelu]()
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, width)
        self.drop2 = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Module):
    """One encoder block, Eq. 2 and 3. Tokens outside `read` serve as keys and values, but are not carried on."""

    def __init__(self, *, width: int, num_heads: int, mlp_dim: int, gelu: str, norm_eps: float, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width=width, num_heads=num_heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width=width, hidden=mlp_dim, gelu=gelu, dropout=dropout)

    def forward(self, x: Float[Tensor, "b t d"], read: slice = ALL) -> Float[Tensor, "b r d"]:
        x = x[:, read] + self.attn(self.norm1(x), read)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """The Vision Transformer: float images in the model's range to logits, one row of classes an image."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.card: ModelCard | None = None  # preprocessing, class names and the like, once the model has them
        d, (gh, gw) = config.width, config.grid
        self.patch_embed = PatchEmbed(channels=config.channels, patch_hw=config.patch_hw, width=d)
        self.cls_token = self._tokens(int(config.pool == "cls"), d, learned=config.pool == "cls")
        num_tokens = self.cls_token.shape[1] + gh * gw
        self.pos_embed = self._tokens(num_tokens, d, learned=config.position == "learned_1d")
        self.pos_drop = nn.Dropout(config.dropout)
        block = partial(Block, width=d, num_heads=config.num_heads, mlp_dim=config.mlp_dim, gelu=config.gelu)
        self.blocks = nn.ModuleList(
            block(norm_eps=config.norm_eps, dropout=config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(d, eps=config.norm_eps)
        self.read = READ[config.pool]
        size = config.representation_size
        self.pre_logits = nn.Identity() if size is None else nn.Sequential(nn.Linear(d, size), nn.Tanh())
        self.head = nn.Linear(size or d, config.num_classes)
        self.init_weights()

    def _tokens(self, count: int, width: int, *, learned: bool) -> Tensor:
        """A learned table of tokens, or zeros that stay out of the weights."""
        table = torch.zeros(1, count, width)
        return nn.Parameter(table) if learned else nn.Buffer(table, persistent=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        x = self.embed(images)
        *trunk, last = self.blocks
        for block in trunk:
            x = block(x)
        return self.classify(self.norm(last(x, self.read)).mean(dim=1))

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Runs the encoder and returns everything it passed, by name."""
        x = self.embed(images)
        landmarks = {"embedded": x}
        for index, block in enumerate(self.blocks):
            x = landmarks[f"blocks.{index}"] = block(x)
        x = landmarks["norm"] = self.norm(x)
        prefix = self.cls_token.shape[1]
        return Features(
            cls=x[:, 0] if prefix else None,
            patches=x[:, prefix:],
            pooled=x[:, self.read].mean(dim=1),
            landmarks=landmarks,
        )

    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t d"]:
        """Patches to tokens, class token in front, positions added, dropout: z_0 of Eq. 1."""
        expected = (self.config.channels, *self.config.image_hw)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(f"this model takes images of shape {expected}, not {tuple(images.shape[1:])}")
        patches = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], dim=1)
        return self.pos_drop(tokens + self.pos_embed)

    def classify(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b classes"]:
        """The head: the tanh layer where there is one, then the linear layer."""
        return self.head(self.pre_logits(pooled))

    @torch.no_grad()
    def init_weights(self, generator: Generator | None = None) -> None:
        """Initialises every tensor as the authors' released code does.

        | tensors             | weight                                  | bias         |
        |---------------------|-----------------------------------------|--------------|
        | patch_embed.proj    | LeCun normal (truncated at 2 sigma)     | 0            |
        | cls_token           | 0                                       |              |
        | pos_embed           | normal, std 0.02                        |              |
        | attn.qkv            | Xavier uniform for each of q, k and v   | 0            |
        | attn.proj           | Xavier uniform                          | 0            |
        | mlp.fc1, mlp.fc2    | Xavier uniform                          | normal, 1e-6 |
        | norm1, norm2, norm  | 1                                       | 0            |
        | pre_logits.0        | LeCun normal (truncated at 2 sigma)     | 0            |
        | head                | 0                                       | `head_bias`  |
        """
        xavier, lecun = (partial(fill, generator=generator) for fill in (nn.init.xavier_uniform_, _lecun_normal_))
        for name, module in self.named_modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            elif isinstance(module, nn.Linear) and name.startswith("blocks."):
                for projection in module.weight.chunk(3 if name.endswith("qkv") else 1):
                    xavier(projection)
            elif name in ("patch_embed.proj", "pre_logits.0"):
                lecun(module.weight)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.normal_(bias, std=1e-6 if ".mlp." in name else 0.0, generator=generator)
        nn.init.zeros_(self.cls_token)
        std = 0.02 if isinstance(self.pos_embed, nn.Parameter) else 0.0
        nn.init.normal_(self.pos_embed, std=std, generator=generator)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, self.config.head_bias)


def _lecun_normal_(weight: Tensor, generator: Generator | None) -> None:
    """Variance 1 / fan-in after truncation at two standard deviations, as Flax draws it."""
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)


SIZES: dict[str, dict[str, int]] = {
    # ViT paper, Table 1 (B, L, H); "Scaling Vision Transformers", Table 2 (g, G); big_vision (mu, M, e, So400m)
    "mu": dict(width=32, depth=1, mlp_dim=128, num_heads=2),
    "Ti": dict(width=192, depth=12, mlp_dim=768, num_heads=3),
    "S": dict(width=384, depth=12, mlp_dim=1536, num_heads=6),
    "M": dict(width=512, depth=12, mlp_dim=2048, num_heads=8),
    "B": dict(width=768, depth=12, mlp_dim=3072, num_heads=12),
    "L": dict(width=1024, depth=24, mlp_dim=4096, num_heads=16),
    "So400m": dict(width=1152, depth=27, mlp_dim=4304, num_heads=16),
    "H": dict(width=1280, depth=32, mlp_dim=5120, num_heads=16),
    "g": dict(width=1408, depth=40, mlp_dim=6144, num_heads=16),
    "G": dict(width=1664, depth=48, mlp_dim=8192, num_heads=16),
    "e": dict(width=1792, depth=56, mlp_dim=15360, num_heads=16),
}


def architecture(name: str, **overrides: Any) -> ViTConfig:
    """The configuration behind a model's name, such as `ViT-B/16` or `ViT-L/32`.

    Args:
        name: `ViT-SIZE/PATCH`, a size of `SIZES` and a patch size in pixels.
        overrides: fields of `ViTConfig` to set otherwise.

    Raises:
        ValueError: the name is not of that form, or the size is unknown.
    """
    match = re.fullmatch(r"ViT-(\w+)/(\d+)", name)
    if match is None or match[1] not in SIZES:
        raise ValueError(
            f"unknown model {name!r}: a name is ViT-SIZE/PATCH with a size of {', '.join(SIZES)}, such as ViT-B/16"
        )
    return ViTConfig(**{"patch_size": int(match[2]), **SIZES[match[1]], **overrides})


def create(name: str, **overrides: Any) -> ViT:
    """A freshly initialised model, such as `create("ViT-B/16", num_classes=10)`; see `architecture`."""
    return ViT(architecture(name, **overrides))
