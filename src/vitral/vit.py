"""The Vision Transformer of "An Image is Worth 16x16 Words" (arXiv 2010.11929). Read this file from top to bottom.

Letters in the shapes:

    b      images in a batch            d      width of a token (the paper's D)
    c      channels of an image         heads  attention heads
    h w    image height and width       k      width of one head, d / heads
    gh gw  rows and columns of patches  n      patches, n = gh * gw
    p q    patch height and width       g      register tokens
    t      tokens: class token, distillation token, registers (each optional), then the patches row by row
    e      width of the image representation: d, or 2 d if class token and mean are side by side
    r      tokens that a block returns: all of them, but in the last block only those that are pooled, r <= t
    *n     no axis, except with pool="none": then the patches, each with an output of its own
    v      values of a patch where images keep their aspect ratio: its row, its column, then c * p * q pixels

Equation numbers are the paper's. Variants are parts from `vitral.layers`, chosen when the model is built. Compilation,
mixed precision and distribution wrap the model from outside, in `vitral.train`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.compat import IntermediateMethods
from vitral.data.images.patch_rows import PLACE, Images
from vitral.layers.axial import AxialAttention, AxialBlock
from vitral.layers.depth import DropPath, SubsetBlock
from vitral.layers.hybrid import HybridEmbed
from vitral.layers.init import lecun_normal_
from vitral.layers.linear import FusedLinear
from vitral.layers.mlp import QuickGELU, SwiGLU
from vitral.layers.patch_dropout import PatchDropout
from vitral.layers.pooling import AllTokens, AttentionPool, ClassAndMean, FirstToken, MeanPool, TwoHeads
from vitral.layers.positions import PositionState
from vitral.layers.scale import LayerScale
from vitral.vit_config import ViTConfig

__all__ = ["MLP", "Attention", "Features", "PatchEmbed", "ViT"]

ALL = slice(None)
GELUS = {"tanh": partial(nn.GELU, approximate="tanh"), "erf": nn.GELU, "quick": QuickGELU}
Factory = Callable[..., nn.Module]


@dataclass(frozen=True, kw_only=True)
class Features:
    """Outputs of the encoder for a batch of images."""

    cls: Float[Tensor, "b d"] | None
    """Final class token; None if the model has none."""
    registers: Float[Tensor, "b g d"]
    """Final register tokens."""
    patches: Float[Tensor, "b n d"]
    """Final patch tokens, row by row."""
    pooled: Float[Tensor, "b *n e"]
    """The image representation y of Eq. 4; with `pool="none"` the patches."""
    landmarks: dict[str, Float[Tensor, "b t d"]]
    """Tokens along the way: `embedded` (z_0), `blocks.0` to `blocks.{L-1}` (z_1 to z_L), `norm`."""


class PatchEmbed(nn.Module):
    """Projects each patch to a token: x_p E of Eq. 1, plus a bias. The weight has the shape of a convolution's."""

    def __init__(self, *, channels: int, patch_hw: tuple[int, int], width: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_hw, stride=patch_hw, bias=bias)

    def forward(self, images: Images) -> Float[Tensor, "b gh gw d"]:
        (p, q), pattern = self.proj.kernel_size, "b c (gh p) (gw q) -> b gh gw (c p q)"
        cut = images[:, None] if images.ndim == 3 else rearrange(images, pattern, p=p, q=q)
        return F.linear(cut, self.proj.weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Multi-head self-attention, Eq. 5-8. The softmax of Eq. 6 is inside the fused call."""

    def __init__(
        self, *, width: int, num_heads: int, dropout: float, bias: bool = True, qk_norm: Factory = nn.Identity
    ) -> None:
        super().__init__()
        self.num_heads, self.attention_dropout = num_heads, 0.0  # of the probabilities; `ViT` sets it
        self.qkv = FusedLinear(width, width, projections=3, bias=bias)  # an nn.Linear from d to 3 d
        self.q_norm, self.k_norm = qk_norm(width // num_heads), qk_norm(width // num_heads)
        self.proj, self.drop = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], pos: PositionState, queries: slice = ALL) -> Float[Tensor, "b r d"]:
        q, k, v = self.project_qkv(x)
        q, k = pos.rotate(q, k)
        bias = pos.bias(q)
        bias = None if bias is None else bias[:, :, queries]
        dropout = self.attention_dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q[:, :, queries], k, v, attn_mask=bias, dropout_p=dropout)
        return self.drop(self.proj(rearrange(out, "b heads r k -> b r (heads k)")))

    def project_qkv(self, x: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b heads t k"], ...]:
        """Queries, keys and values of every head (Eq. 5)."""
        q, k, v = rearrange(self.qkv(x), "b t (three heads k) -> three b heads t k", three=3, heads=self.num_heads)
        return self.q_norm(q), self.k_norm(k), v


class MLP(nn.Module):
    """Dense, GELU, dense; dropout after each dense layer."""

    def __init__(self, *, width: int, hidden: int, gelu: str, dropout: float) -> None:
        super().__init__()
        self.fc1, self.act, self.drop1 = nn.Linear(width, hidden), GELUS[gelu](), nn.Dropout(dropout)
        self.fc2, self.drop2 = nn.Linear(hidden, width), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Module):
    """One encoder block, Eq. 2 and 3. It returns the tokens in `queries`; the others serve as keys and values only.

    `ls` and `drop` create LayerScale and stochastic depth for both branches; the paper has neither.
    """

    def __init__(
        self, *, norm: Factory, attn: nn.Module, mlp: nn.Module, ls: Factory = nn.Identity, drop: Factory = nn.Identity
    ) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1, self.drop_path1 = norm(), attn, ls(), drop()
        self.norm2, self.mlp, self.ls2, self.drop_path2 = norm(), mlp, ls(), drop()

    def forward(self, x: Float[Tensor, "b t d"], pos: PositionState, queries: slice = ALL) -> Float[Tensor, "b r d"]:
        x = pos.add(x)
        x = x[:, queries] + self.drop_path1(self.ls1(self.attn(self.norm1(x), pos, queries)))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class ViT(IntermediateMethods):  # an nn.Module, with methods that timm and transformers have: from_pretrained, ...
    """From normalised images to logits. Images of another size than `config.image_size` get resampled positions."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.card = None  # preprocessing, class names and provenance, set by training and loading
        width, pooled_width, hidden = config.width, config.pooled_width, config.representation_size
        norm = partial(nn.LayerNorm, width, eps=config.norm_eps)
        stem: Factory = PatchEmbed if config.stem_stages is None else partial(HybridEmbed, **config.stem)
        self.patch_embed = stem(channels=config.channels, patch_hw=config.patch_hw, width=width, bias=config.patch_bias)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width)) if config.num_class_tokens else None
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width)) if config.distillation else None
        self.reg_token = nn.Parameter(torch.zeros(1, config.num_registers, width)) if config.num_registers else None
        self.positions = config.positions  # the kind of position embedding; `pos_embed` is its table
        table = torch.zeros(self.positions.shape)
        self.pos_embed = nn.Parameter(table) if self.positions.learned else nn.Buffer(table, persistent=False)
        self.pos_drop, self.patch_drop = nn.Dropout(config.dropout), PatchDropout(config.patch_dropout)
        self.norm_pre = norm() if config.pre_norm else nn.Identity()
        drop_rates = (config.drop_path * index / max(config.depth - 1, 1) for index in range(config.depth))
        self.blocks = nn.ModuleList(self._block(rate) for rate in drop_rates)
        self.norm = norm() if config.final_norm and not config.pooled_norm else nn.Identity()  # before pooling
        self.fc_norm = norm() if config.pooled_norm else nn.Identity()  # or after it
        self.pool = {
            "cls": AllTokens if config.distillation else FirstToken,  # both tokens go to TwoHeads
            "gap": MeanPool,
            "cls_gap": partial(ClassAndMean, num_prefix_tokens=config.num_prefix_tokens),
            "map": partial(AttentionPool, width=width, num_heads=config.num_heads, norm=norm, mlp=self._mlp),
            "none": AllTokens,
        }[config.pool]()
        self.pool_tokens = config.pooled_tokens  # a slice: the tokens that `pool` reads
        self.pre_logits = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(pooled_width, hidden), nn.Tanh())
        head = TwoHeads if config.distillation else nn.Linear
        self.head = head(hidden or pooled_width, config.num_classes, bias=config.head_bias is not None)
        if not self.pos_embed.is_meta:
            self.init_weights()

    def forward(self, images: Images) -> Float[Tensor, "b *n classes"]:
        x, states = self.embed(images)
        x = self.norm(self.run_blocks(x, states, queries=self.pool_tokens))
        return self.classify(self.fc_norm(self.pool(x, states[-1].exist(self.pool_tokens))))

    def features(self, images: Images) -> Features:
        """Runs the encoder on all tokens and returns its outputs and intermediate tokens by name."""
        x, states = self.embed(images)
        landmarks = {"embedded": x}
        x = landmarks["norm"] = self.norm(self.run_blocks(x, states, trace=landmarks))
        classes, prefix = self.config.num_class_tokens, self.config.num_prefix_tokens
        return Features(
            cls=x[:, 0] if classes else None,
            registers=x[:, classes:prefix],
            patches=x[:, prefix:],
            pooled=self.fc_norm(self.pool(x[:, self.pool_tokens], states[-1].exist(self.pool_tokens))),
            landmarks=landmarks,
        )

    def embed(self, images: Images) -> tuple[Float[Tensor, "b t d"], list[PositionState]]:
        """From images to z_0 of Eq. 1, and one `PositionState` for each block."""
        return self.assemble(self.patches(images), None if images.ndim == 4 else images[:, :, :PLACE])

    def patches(self, images: Images) -> Float[Tensor, "b gh gw d"]:
        """Embeds each patch: x_p E of Eq. 1, before positions are added."""
        self.config.check_input(images.shape, training=self.training)
        return self.patch_embed(images if images.ndim == 4 else images[:, :, PLACE:])

    def assemble(
        self, patches: Float[Tensor, "b gh gw d"], places: Float[Tensor, "b n 2"] | None = None
    ) -> tuple[Float[Tensor, "b t d"], list[PositionState]]:
        """The rest of Eq. 1: from embedded patches, which an objective may have changed, to z_0.

        Positions are added in float32. Tokens return in the dtype of the patches, under autocast 16 bits.
        """
        input_state, states = self.positions.at(self.pos_embed, (patches.shape[1], patches.shape[2]), places)
        tokens = (self.cls_token, self.dist_token, self.reg_token)
        prefix = [token.expand(patches.shape[0], -1, -1) for token in tokens if token is not None]
        x = torch.cat([*prefix, patches.flatten(1, 2)], dim=1).to(self.pos_embed.dtype)
        x = self.pos_drop(input_state.add(x))
        x = self.norm_pre(self.patch_drop(x, prefix=self.config.num_prefix_tokens))
        return x.to(patches.dtype), states

    def encode(self, x: Float[Tensor, "b t d"], states: list[PositionState]) -> Float[Tensor, "b t d"]:
        """From z_0 to all final tokens, after `norm` and `fc_norm`, at most one of which is not the identity."""
        return self.fc_norm(self.norm(self.run_blocks(x, states)))

    def classify(self, pooled: Float[Tensor, "b *n e"]) -> Float[Tensor, "b *m classes"]:
        """The head: the tanh layer, if there is one, then the linear layer."""
        return self.head(self.pre_logits(pooled))

    def run_blocks(
        self, x: Float[Tensor, "b t d"], states: list[PositionState], queries: slice = ALL, trace: dict | None = None
    ) -> Float[Tensor, "b r d"]:
        """Runs all blocks; the last returns the tokens in `queries` only. `trace` collects what each one returns."""
        for index, (block, pos) in enumerate(zip(self.blocks, states, strict=True)):
            x = block(x, pos, queries if index == len(self.blocks) - 1 else ALL)
            if trace is not None:
                trace[f"blocks.{index}"] = x
        return x

    def _block(self, drop_rate: float) -> nn.Module:
        if self.config.attention == "global":
            return self._encoder_block(drop_rate)
        return AxialBlock(*(self._encoder_block(drop_rate, axis) for axis in ("rows", "columns")))

    def _encoder_block(self, drop_rate: float, axis: Literal["rows", "columns"] | None = None) -> nn.Module:
        c = self.config
        qk_norm = partial(nn.LayerNorm, eps=c.norm_eps) if c.qk_norm else nn.Identity
        attn = Attention(width=c.width, num_heads=c.num_heads, qk_norm=qk_norm, dropout=c.dropout, bias=c.qkv_bias)
        attn.attention_dropout = c.attention_dropout
        block = Block(
            norm=partial(nn.LayerNorm, c.width, eps=c.norm_eps),
            attn=attn if axis is None else AxialAttention(attn, axis),
            mlp=self._mlp(),
            ls=nn.Identity if c.layer_scale is None else partial(LayerScale, c.width, initial=c.layer_scale),
            drop=partial(DropPath, drop_rate) if drop_rate else nn.Identity,
        )
        return SubsetBlock(block, drop_rate) if drop_rate and c.drop_path_form == "batch" else block

    def _mlp(self) -> nn.Module:
        c = self.config
        mlps = {"gelu": partial(MLP, gelu=c.gelu), "swiglu": SwiGLU}
        return mlps[c.mlp](width=c.width, hidden=c.mlp_dim, dropout=c.dropout)

    @torch.no_grad()
    def init_weights(self, generator: Generator | None = None) -> None:
        """Initialises every tensor as the authors' released code does.

        | tensors                 | weight                                    | bias         |
        |-------------------------|-------------------------------------------|--------------|
        | patch_embed.proj        | LeCun normal (truncated at 2 sigma)       | 0            |
        | cls_token, dist_token   | 0                                         |              |
        | reg_token               | normal, std 1e-6                          |              |
        | pos_embed               | normal, std 0.02, where it is learned     |              |
        | attn.qkv, pool.kv       | Xavier uniform for each of q, k and v     | 0            |
        | attn.proj, pool.q, proj | Xavier uniform                            | 0            |
        | mlp.fc1, mlp.fc2        | Xavier uniform, for each of SwiGLU's two  | normal, 1e-6 |
        | every norm              | 1                                         | 0            |
        | pre_logits.0            | LeCun normal (truncated at 2 sigma)       | 0            |
        | head                    | 0                                         | `head_bias`  |

        A hybrid's ResNet, LayerScale and the query of attention pooling have their own `init_weights`.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            elif isinstance(module, nn.Linear) and name.startswith(("blocks.", "pool.")):
                for projection in module.weight.chunk(getattr(module, "projections", 1)):
                    nn.init.xavier_uniform_(projection, generator=generator)
            elif isinstance(module, nn.Linear | nn.Conv2d) and name in ("patch_embed.proj", "pre_logits.0"):
                lecun_normal_(module.weight, generator)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.normal_(bias, std=1e-6 if ".mlp." in name else 0.0, generator=generator)  # the head: below
            if module is not self and (init_own_weights := getattr(module, "init_weights", None)):
                init_own_weights(generator)
        for token in (self.cls_token, self.dist_token):
            if token is not None:
                nn.init.zeros_(token)
        if self.reg_token is not None:
            nn.init.normal_(self.reg_token, std=1e-6, generator=generator)
        self.positions.fill(self.pos_embed, generator)
        for name, parameter in self.head.named_parameters():
            nn.init.constant_(parameter, (self.config.head_bias or 0.0) if name.endswith("bias") else 0.0)
