"""Configuration of a Vision Transformer: its sizes and parts."""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch

from vitral.config import check_choices, check_divisible, check_fractions, check_maximum, check_minimum, pair
from vitral.data.images.patch_rows import PLACE
from vitral.errors import UserError
from vitral.layers.positions import POSITIONS, Positions

__all__ = ["ViTConfig"]

LARGEST = {
    **dict.fromkeys(("width", "mlp_dim", "representation_size", "image_size", "patch_size"), 2**17),
    **dict.fromkeys(("depth", "stem_stages"), 1000),
    **dict.fromkeys(("channels", "num_heads", "num_registers", "stem_width"), 2**12),
    "num_classes": 2**24,
}
"""Sizes far beyond those of any model: a configuration with larger ones is damaged."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Architecture of a Vision Transformer; the defaults are ViT-B/16 at 224 pixels.

    Raises:
        UserError: the sizes or parts do not fit together; the message says which, and what to change.
    """

    image_size: int | tuple[int, int] = 224
    """Input size in pixels: one number for a square, or height and width."""
    patch_size: int | tuple[int, int] = 16
    """Pixels of the image per token, also in a hybrid; must divide the image size."""
    channels: int = 3
    """Channels of the input images."""
    stem_stages: tuple[int, ...] | None = None
    """Units in each stage of a hybrid's ResNet; an empty tuple leaves only its root. None: a plain ViT."""
    stem_width: int = 64
    """Channels of a hybrid's root: 64 times its width factor."""
    stem_numerics: Literal["google", "timm"] = "google"
    """Constants of a hybrid's ResNet: those of the released weights, or timm's, whose outputs differ by up to 1e-4."""
    width: int = 768
    """Width of the tokens (D)."""
    depth: int = 12
    """Number of blocks (L)."""
    num_heads: int = 12
    """Attention heads (k in Eq. 5-8); each has width / num_heads channels."""
    mlp_dim: int = 3072
    """Hidden width of each block's MLP."""
    num_classes: int = 1000
    """Classes of the head; training sets it to those of the data."""
    pool: Literal["cls", "gap", "cls_gap", "map", "none"] = "cls"
    """Image representation: class token, mean of the patches, both side by side (DINOv2's classifier), attention over
    the patches, or none: one output per patch.
    """
    distillation: bool = False
    """Whether a second class token with its own head learns from a teacher, as in DeiT (arXiv 2012.12877)."""
    num_registers: int = 0
    """Register tokens: they take part in attention, but their output is not used (arXiv 2309.16588)."""
    position: Literal[
        "none", "learned_1d", "learned_2d", "factorized_2d", "relative", "sincos_2d", "sincos_2d_mae", "rope"
    ] = "learned_1d"
    """Position embedding."""
    position_injection: Literal["stem", "every_layer", "every_layer_shared"] = "stem"
    """Where positions are added: at the stem, or also in each later block, from separate tables or the same one."""
    position_resample: Literal["google", "timm", "huggingface", "torchvision", "dinov2", "mae"] = "google"
    """Code base whose interpolation of learned positions to another grid is used."""
    relative_per_layer: bool = True
    """Whether each layer has separate relative embeddings."""
    relative_per_head: bool = False
    """Whether each head has separate relative embeddings."""
    rope_periods: tuple[float, ...] | None = None
    """Periods of rotary positions, a quarter of a head's width: DINOv3's official files store rounded ones. None:
    100^(4i / width of a head).
    """
    attention: Literal["global", "axial"] = "global"
    """Attention among all tokens, or along rows and then along columns of patches (appendix D.6)."""
    qk_norm: bool = False
    """Whether each head's queries and keys are normalised."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    patch_bias: bool = True
    """Whether the patch embedding has a bias."""
    pre_norm: bool = False
    """Whether a norm precedes the first block, as in CLIP."""
    pooled_norm: bool = False
    """Whether the final norm comes after pooling instead of before."""
    final_norm: bool = True
    """Whether there is a final norm; transformers' CLIP classifier has none."""
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """The paper's MLP, or the gated one of DINOv2's giant model, whose first layer has gate and value."""
    gelu: Literal["tanh", "erf", "quick"] = "tanh"
    """Form of GELU: the tanh approximation (Google's weights), the exact form (timm, transformers), or
    x * sigmoid(1.702 x) (OpenAI's CLIP).
    """
    norm_eps: float = 1e-6
    """Epsilon of every LayerNorm."""
    layer_scale: float | None = None
    """Initial value of LayerScale; None: no LayerScale."""
    dropout: float = 0.0
    """Dropout after every dense layer except q, k and v, and after adding positions."""
    attention_dropout: float = 0.0
    """Dropout of the blocks' attention probabilities; the paper has none, and attention pooling has none."""
    patch_dropout: float = 0.0
    """Fraction of the patches that a training step drops."""
    drop_path: float = 0.0
    """Stochastic depth: probability of skipping the last block's branches, falling linearly to 0 at the first block."""
    drop_path_form: Literal["sample", "batch"] = "sample"
    """`sample` skips each image independently; `batch` skips a fixed number of images and saves their computation."""
    representation_size: int | None = None
    """Width of the tanh layer before the head, used in pre-training; None: no such layer."""
    head_bias: float | None = 0.0
    """Initial bias of the head; the paper's sigmoid pre-training uses -10. None: no bias."""

    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("channels", "width", "depth", "num_heads", "mlp_dim", "num_classes", "representation_size")
        check_minimum(self, 1, *sizes)
        check_minimum(self, 0, "num_registers")
        check_maximum(self, LARGEST)
        check_fractions(self, "dropout", "attention_dropout", "patch_dropout", "drop_path")
        self.check_image(self.image_hw)
        if self.width % self.num_heads:
            raise UserError(f"width {self.width} is not divisible by {self.num_heads} heads")
        if not self.norm_eps > 0:
            raise UserError(f"norm_eps must be above 0, not {self.norm_eps}")
        self._check_parts()

    def _check_parts(self) -> None:
        """Raises UserError for parts that contradict each other."""
        positions = self.positions  # checks itself
        if self.attention == "axial" and self.num_prefix_tokens:
            raise UserError(
                "axial attention runs along rows and columns of patches, without class token or registers: "
                "choose pool gap, map or none, and 0 registers"
            )
        if self.attention == "axial" and positions.in_attention:
            raise UserError(f"axial attention cannot go with position {self.position}: choose one added to tokens")
        if self.rope_periods is not None and self.position != "rope":
            raise UserError(f"rope_periods are those of position rope, not of {self.position}: leave them out")
        if self.pooled_norm and (self.pool == "cls_gap" or not self.final_norm):
            raise UserError(
                "pooled_norm moves the final norm after pooling: it needs final_norm, and a pool other than cls_gap"
            )
        if self.distillation and (self.pool != "cls" or self.representation_size is not None):
            raise UserError(
                "distillation adds a token beside the class token: it needs pool cls, and no representation_size"
            )
        if self.patch_dropout and (self.attention == "axial" or not positions.only_at_stem):
            raise UserError(
                "patch_dropout leaves gaps in the grid, so it needs global attention and positions added at the stem"
            )

    @property
    def image_hw(self) -> tuple[int, int]:
        """Image height and width in pixels."""
        return pair(self.image_size)

    @property
    def patch_hw(self) -> tuple[int, int]:
        """Patch height and width in pixels."""
        return pair(self.patch_size)

    @property
    def stem(self) -> dict[str, Any]:
        """Arguments of a hybrid's patch embedding beyond those of a plain one."""
        return {name: getattr(self, name) for name in ("stem_stages", "stem_width", "stem_numerics")}

    @property
    def stem_stride(self) -> int:
        """Pixels of the image per pixel of a hybrid's feature map, which rounds up; 1 for a plain ViT."""
        return 1 if self.stem_stages is None else 4 * 2 ** max(len(self.stem_stages) - 1, 0)

    def check_image(self, image_hw: tuple[int, int]) -> None:
        """Raises UserError for an image that whole patches do not fill, or that is smaller than one of a hybrid."""
        smaller = any(length < patch for length, patch in zip(image_hw, self.patch_hw, strict=True))
        if self.stem_stages is None or smaller or min(self.patch_hw) < 1:
            check_divisible(image_hw, self.patch_hw)

    def check_separate_patches(self, *, training: bool) -> None:
        """Raises UserError if the model does not take patches one by one: of several images, or of any aspect ratio."""
        if self.attention != "global" or self.stem_stages is not None:
            raise UserError(
                "axial attention and a hybrid's ResNet need whole images, not patches of any aspect ratio: choose "
                "attention global, and stem_stages None"
            )
        self.positions.check_coordinates()
        if training and (self.patch_dropout or (self.drop_path and self.drop_path_form == "batch")):
            raise UserError(
                "patch_dropout, and drop_path with drop_path_form batch, need images of one size: set patch_dropout 0, "
                "and drop_path_form sample"
            )

    def check_input(self, shape: torch.Size, *, training: bool) -> None:
        """Raises UserError if the model does not take images, or rows of patches, of this shape."""
        if len(shape) == 4 and shape[1] == self.channels:
            self.check_image((shape[2], shape[3]))
        elif len(shape) == 4:
            raise UserError(f"this model takes images of {self.channels} channels, not {shape[1]}")
        elif len(shape) == 3 and shape[2] == PLACE + self.channels * prod(self.patch_hw):
            self.check_separate_patches(training=training)
        else:
            raise UserError(
                f"this model takes images of shape (batch, {self.channels}, height, width), or rows of patches of "
                f"shape (batch, patches, {PLACE + self.channels * prod(self.patch_hw)}), not {tuple(shape)}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches (gh, gw)."""
        return self.grid_of(self.image_hw)

    def grid_of(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of an image; a hybrid leaves out the rest of its feature map."""
        stride = self.stem_stride
        rows, columns = (
            -(-length // stride) // max(patch // stride, 1)
            for length, patch in zip(image_hw, self.patch_hw, strict=True)
        )
        return rows, columns

    @property
    def num_class_tokens(self) -> int:
        """Class token and distillation token."""
        return (self.pool in ("cls", "cls_gap")) + self.distillation

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class tokens and registers."""
        return self.num_class_tokens + self.num_registers

    @property
    def pooled_tokens(self) -> slice:
        """The tokens that pooling reads: class tokens, all tokens or the patches."""
        slices = {"cls": slice(0, self.num_class_tokens), "cls_gap": slice(None)}
        return slices.get(self.pool, slice(self.num_prefix_tokens, None))

    @property
    def pooled_width(self) -> int:
        """Width of the image representation."""
        return 2 * self.width if self.pool == "cls_gap" else self.width

    @property
    def positions(self) -> Positions:
        """The position embedding of a model with these sizes; it holds no tensors."""
        return POSITIONS[self.position](
            kind=self.position,
            grid=self.grid,
            num_class_tokens=self.num_class_tokens,
            num_registers=self.num_registers,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            injection=self.position_injection,
            resample=self.position_resample,
            per_layer=self.relative_per_layer,
            per_head=self.relative_per_head,
            periods=self.rope_periods,
        )
