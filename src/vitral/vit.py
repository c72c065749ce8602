"""The Vision Transformer of "An Image is Worth 16x16 Words" (arXiv 2010.11929), read once from top to bottom.

Letters in the shapes below:

    b      images in a batch            d      width of a token (the paper's D)
    c      channels of an image         heads  attention heads
    h w    image height and width       k      width of one head, d / heads
    gh gw  rows and columns of patches  n      patches, n = gh * gw
    p q    patch height and width
    t      tokens: class token and registers where there are any, then the patches row by row
    r      tokens that something later reads, r <= t

Equation numbers are the paper's. The sizes are in `vitral.vit_config`, models by name in `vitral.models`. Variants are
parts from `vitral.layers`, chosen when a model is built, so that what runs is one straight line. Compilation, mixed
precision and distribution are put around it from `vitral.train`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.card import ModelCard
from vitral.config import check_divisible
from vitral.errors import UserError
from vitral.layers.axial import Along, AxialBlock
from vitral.layers.depth import DropPath, SubsetBlock
from vitral.layers.hybrid import HybridEmbed
from vitral.layers.init import lecun_normal_
from vitral.layers.linear import FusedLinear
from vitral.layers.mlp import QuickGELU, SwiGLU
from vitral.layers.patch_dropout import PatchDropout
from vitral.layers.places import Layout, Place
from vitral.layers.pooling import AttentionPool, Both, First, Mean, TwoHeads
from vitral.layers.scale import LayerScale
from vitral.vit_config import ViTConfig

__all__ = ["Features", "ViT"]

ALL = slice(None)
GELUS: dict[str, Callable[[], nn.Module]] = {
    "tanh": partial(nn.GELU, approximate="tanh"),
    "erf": nn.GELU,
    "quick": QuickGELU,
}
Make = Callable[..., nn.Module]
"""Builds a part."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the encoder made of a batch of images, by name."""

    cls: Float[Tensor, "b d"] | None
    """Final class token; None where the pool needs none."""
    registers: Float[Tensor, "b g d"]
    """Final register tokens."""
    patches: Float[Tensor, "b n d"]
    """Final patch tokens, row by row."""
    pooled: Float[Tensor, "b *n d"]
    """The image representation y of Eq. 4; with `pool="none"` the patches."""
    landmarks: dict[str, Float[Tensor, "b t d"]]
    """Tokens along the way: `embedded` (z_0), `blocks.0` to `blocks.{L-1}` (z_1 to z_L), `norm`."""


class PatchEmbed(nn.Module):
    """Projects each patch to a token: x_p E of Eq. 1, with a bias; a convolution's weight, one matrix product."""

    def __init__(self, *, channels: int, patch_hw: tuple[int, int], width: int, bias: bool = True) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_hw, stride=patch_hw, bias=bias)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b gh gw d"]:
        p, q = self.proj.kernel_size
        patches = rearrange(images, "b c (gh p) (gw q) -> b (gh gw) (c p q)", p=p, q=q)
        tokens = F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
        return rearrange(tokens, "b (gh gw) d -> b gh gw d", gh=images.shape[2] // p)


class Attention(nn.Module):
    """Multi-head self-attention, Eq. 5-8; the softmax of Eq. 6 is inside the fused call."""

    def __init__(
        self, *, width: int, num_heads: int, dropout: float, bias: bool = True, norm: Make = nn.Identity
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = FusedLinear(width, width, projections=3, bias=bias)
        self.q_norm, self.k_norm = norm(width // num_heads), norm(width // num_heads)
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"], place: Place, read: slice = ALL) -> Float[Tensor, "b r d"]:
        q, k, v = self.heads(x)
        q, k, bias = place.attend(q, k, read)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.drop(self.proj(rearrange(out, "b heads r k -> b r (heads k)")))

    def heads(self, x: Float[Tensor, "b t d"]) -> tuple[Float[Tensor, "b heads t k"], ...]:
        """Queries, keys and values of every head (Eq. 5)."""
        q, k, v = rearrange(self.qkv(x), "b t (three heads k) -> three b heads t k", three=3, heads=self.num_heads)
        return self.q_norm(q), self.k_norm(k), v


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
    """One encoder block, Eq. 2 and 3. Tokens outside `read` serve as keys and values, but are not carried on.

    `scale` and `drop` make LayerScale and stochastic depth of both branches; the paper has neither.
    """

    def __init__(
        self, *, norm: Make, attn: nn.Module, mlp: nn.Module, scale: Make = nn.Identity, drop: Make = nn.Identity
    ) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1, self.drop_path1 = norm(), attn, scale(), drop()
        self.norm2, self.mlp, self.ls2, self.drop_path2 = norm(), mlp, scale(), drop()

    def forward(self, x: Float[Tensor, "b t d"], place: Place, read: slice = ALL) -> Float[Tensor, "b r d"]:
        x = x[:, read] + self.drop_path1(self.ls1(self.attn(self.norm1(x), place, read)))
        return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


class ViT(nn.Module):
    """The Vision Transformer: float images in the model's range to logits, one row of classes an image.

    Images may be larger or smaller than `config.image_size` and of another aspect: positions are resampled.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.card: ModelCard | None = None  # preprocessing, class names and the like, once the model has them
        self.patch_embed = self._patch_embed()
        self.cls_token = self._table(1, int(config.pool == "cls"), config.width)
        self.dist_token = self._table(1, int(config.distillation), config.width)
        self.reg_token = self._table(1, config.num_registers, config.width)
        self.positions = config.positions
        self.pos_embed = self._table(*self.positions.shape, learned=self.positions.learned)
        self.pos_drop = nn.Dropout(config.dropout)
        self.patch_drop = PatchDropout(config.patch_dropout)
        self.norm_pre = self._norm(config.pre_norm)
        drops = (config.drop_path * index / max(config.depth - 1, 1) for index in range(config.depth))
        self.blocks = nn.ModuleList(map(self._block, drops))
        self.norm, self.fc_norm = map(self._norm, (not config.pooled_norm, config.pooled_norm))
        self.pool, self.read = self._pool()
        d, size = config.width, config.representation_size
        self.pre_logits = nn.Identity() if size is None else nn.Sequential(nn.Linear(d, size), nn.Tanh())
        head = TwoHeads if config.distillation else nn.Linear
        self.head = head(size or d, config.num_classes, bias=config.head_bias is not None)
        self.init_weights()

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b *n classes"]:
        x, layout = self.embed(images)
        *trunk, (last, place) = zip(self.blocks, layout.places, strict=True)
        for block, at in trunk:
            x = block(at.enter(x), at)
        x = last(place.enter(x), place, self.read)
        return self.classify(self.fc_norm(self.pool(self.norm(x))))

    def features(self, images: Float[Tensor, "b c h w"]) -> Features:
        """Runs the encoder and returns everything it passed, by name."""
        x, layout = self.embed(images)
        landmarks = {"embedded": x}
        for index, (block, place) in enumerate(zip(self.blocks, layout.places, strict=True)):
            x = landmarks[f"blocks.{index}"] = block(place.enter(x), place)
        x = landmarks["norm"] = self.norm(x)
        cls, prefix = self.config.class_tokens, self.positions.prefix
        return Features(
            cls=x[:, 0] if cls else None,
            registers=x[:, cls:prefix],
            patches=x[:, prefix:],
            pooled=self.fc_norm(self.pool(x[:, self.read])),
            landmarks=landmarks,
        )

    def embed(self, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b t d"], Layout]:
        """Patches to tokens, class token in front, positions added, dropout: z_0 of Eq. 1, and where its tokens are."""
        return self.assemble(self.patches(images))

    def patches(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b gh gw d"]:
        """The embedding of each patch, x_p E of Eq. 1, before its position is added."""
        if images.shape[1] != self.config.channels:
            raise UserError(f"this model takes images of {self.config.channels} channels, not {images.shape[1]}")
        check_divisible((images.shape[2], images.shape[3]), self.config.patch_hw)
        return self.patch_embed(images)

    def assemble(self, patches: Float[Tensor, "b gh gw d"]) -> tuple[Float[Tensor, "b t d"], Layout]:
        """The rest of Eq. 1, from embedded patches, which an objective may have changed, to z_0.

        Tokens stay in the arithmetic that the patches came in: under autocast the sums of Eq. 2 and 3 are in 16 bits.
        """
        layout = self.positions.layout(self.pos_embed, (patches.shape[1], patches.shape[2]))
        own = (token.expand(patches.shape[0], -1, -1) for token in (self.cls_token, self.dist_token, self.reg_token))
        x = self.pos_drop(layout.stem(torch.cat([*own, patches.flatten(1, 2)], dim=1)))
        return self.norm_pre(self.patch_drop(x, prefix=self.positions.prefix)).to(patches.dtype), layout

    def encode(self, x: Float[Tensor, "b t d"], layout: Layout) -> Float[Tensor, "b t d"]:
        """All final tokens of z_0, after the last norm: what `forward` makes before it pools and classifies."""
        for block, place in zip(self.blocks, layout.places, strict=True):
            x = block(place.enter(x), place)
        return self.fc_norm(self.norm(x))

    def classify(self, pooled: Float[Tensor, "b *n d"]) -> Float[Tensor, "b *m classes"]:
        """The head: the tanh layer where there is one, then the linear layer."""
        return self.head(self.pre_logits(pooled))

    def _table(self, *shape: int, learned: bool = True) -> Tensor:
        """A learned table, or one that stays out of the weights because it is empty or computed."""
        table = torch.zeros(shape)
        return nn.Parameter(table) if learned and table.numel() else nn.Buffer(table, persistent=False)

    def _patch_embed(self) -> nn.Module:
        c = self.config
        if c.stem_stages is None:
            return PatchEmbed(channels=c.channels, patch_hw=c.patch_hw, width=c.width, bias=c.patch_bias)
        stem = partial(HybridEmbed, stem_stages=c.stem_stages, stem_width=c.stem_width)
        return stem(channels=c.channels, patch_hw=c.patch_hw, width=c.width, bias=c.patch_bias)

    def _norm(self, there: bool = True) -> nn.Module:
        return nn.LayerNorm(self.config.width, eps=self.config.norm_eps) if there else nn.Identity()

    def _mlp(self) -> nn.Module:
        c = self.config
        return {"gelu": partial(MLP, gelu=c.gelu), "swiglu": SwiGLU}[c.mlp](
            width=c.width, hidden=c.mlp_dim, dropout=c.dropout
        )

    def _block(self, drop: float) -> nn.Module:
        """A block, or a pair for rows and columns, whose branches are skipped with chance `drop`."""
        if self.config.attention == "global":
            return self._encoder(drop, self._attention())
        rows, columns = Along(self._attention(), "rows"), Along(self._attention(), "columns")
        return AxialBlock(self._encoder(drop, rows), self._encoder(drop, columns))

    def _attention(self) -> nn.Module:
        c = self.config
        norm = partial(nn.LayerNorm, eps=c.norm_eps) if c.qk_norm else nn.Identity
        return Attention(width=c.width, num_heads=c.num_heads, norm=norm, dropout=c.dropout, bias=c.qkv_bias)

    def _encoder(self, drop: float, attn: nn.Module) -> nn.Module:
        c = self.config
        per_image = drop > 0 and c.drop_path_form == "sample"
        block = Block(
            norm=self._norm,
            attn=attn,
            mlp=self._mlp(),
            scale=nn.Identity if c.layer_scale is None else partial(LayerScale, c.width, initial=c.layer_scale),
            drop=partial(DropPath, drop) if per_image else nn.Identity,
        )
        return SubsetBlock(block, drop) if drop > 0 and not per_image else block

    def _pool(self) -> tuple[nn.Module, slice]:
        """What makes the representation of the final tokens, and which of them it reads."""
        c = self.config
        attention = partial(AttentionPool, width=c.width, num_heads=c.num_heads, norm_eps=c.norm_eps)
        first = Both if c.distillation else First
        pools = {"cls": first, "gap": Mean, "map": lambda: attention(mlp=self._mlp()), "none": nn.Identity}
        return pools[c.pool](), slice(0, c.class_tokens) if c.pool == "cls" else slice(c.num_registers, None)

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

        A hybrid's ResNet, LayerScale and the probe of attention pooling say themselves what they start from.
        """
        xavier = partial(nn.init.xavier_uniform_, generator=generator)
        for name, module in self.named_modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            elif isinstance(module, nn.Linear) and name.startswith(("blocks.", "pool.")):
                for projection in module.weight.chunk(getattr(module, "projections", 1)):
                    xavier(projection)
            elif isinstance(module, nn.Linear | nn.Conv2d) and name in ("patch_embed.proj", "pre_logits.0"):
                lecun_normal_(module.weight, generator)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.normal_(bias, std=1e-6 if ".mlp." in name else 0.0, generator=generator)
            if module is not self and (own := getattr(module, "init_weights", None)):
                own(generator)
        nn.init.zeros_(self.cls_token)
        nn.init.zeros_(self.dist_token)
        nn.init.normal_(self.reg_token, std=1e-6, generator=generator)
        self.positions.fill(self.pos_embed, generator)
        for name, parameter in self.head.named_parameters():
            nn.init.constant_(parameter, self.config.head_bias or 0.0 if name.endswith("bias") else 0.0)

    @torch.no_grad()
    def fill_computed(self) -> None:
        """Computes what the weights do not hold, such as fixed positions, after the model was given fresh memory."""
        if not self.positions.learned:
            self.positions.fill(self.pos_embed, None)
