"""What a Vision Transformer is made of: its sizes, and which part stands in each place."""

from dataclasses import dataclass
from typing import Literal

from vitral.config import check_choices, check_divisible, check_minimum, check_shares, pair
from vitral.errors import UserError
from vitral.layers.positions import POSITIONS, Positions

__all__ = ["ViTConfig"]


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Architecture of a Vision Transformer; the defaults are ViT-B/16 at 224 pixels.

    Raises:
        UserError: the sizes or parts do not fit together; the sentence says which and what to change.
    """

    image_size: int | tuple[int, int] = 224
    """Input size in pixels: one number for a square, or height and width."""
    patch_size: int | tuple[int, int] = 16
    """Pixels of the image that become one token, in a hybrid too; it must divide the image size."""
    channels: int = 3
    """Channels of the input images."""
    stem_stages: tuple[int, ...] | None = None
    """A hybrid's ResNet: units in each stage; no stage at all leaves its root, None makes patches of pixels."""
    stem_width: int = 64
    """Channels of a hybrid's root: 64 times the width factor."""
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
    pool: Literal["cls", "gap", "map", "none"] = "cls"
    """What represents the image: class token, mean of the patches, attention over them; none: each patch itself."""
    distillation: bool = False
    """Whether a second class token with a head of its own learns from a teacher, as in DeiT (arXiv 2012.12877)."""
    num_registers: int = 0
    """Register tokens, which serve attention and are not read (arXiv 2309.16588)."""
    position: Literal[
        "none", "learned_1d", "learned_2d", "factorized_2d", "relative", "sincos_2d", "sincos_2d_mae", "rope"
    ] = "learned_1d"
    """Kind of position embeddings."""
    position_injection: Literal["stem", "every_layer", "every_layer_shared"] = "stem"
    """Where positions are added: once, or to each block's input, from a table of its own or the same one."""
    position_resample: Literal["google", "timm", "huggingface", "torchvision", "dinov2", "mae"] = "google"
    """Whose way of interpolating learned positions to another grid of patches."""
    relative_per_layer: bool = True
    """Whether each layer has its own relative embeddings."""
    relative_per_head: bool = False
    """Whether each head has its own relative embeddings."""
    attention: Literal["global", "axial"] = "global"
    """Among all tokens, or along rows and then along columns of patches (appendix D.6)."""
    qk_norm: bool = False
    """Whether each head's queries and keys are normalised."""
    qkv_bias: bool = True
    """Whether queries, keys and values have a bias."""
    patch_bias: bool = True
    """Whether the patch embedding has a bias."""
    pre_norm: bool = False
    """Whether the tokens are normed before the first block, as CLIP's are."""
    pooled_norm: bool = False
    """Whether the final norm comes after pooling instead of before: the mean of the patches is normed, not they."""
    mlp: Literal["gelu", "swiglu"] = "gelu"
    """The paper's MLP, or the gated one of DINOv2's giant, whose gate has a first layer of its own."""
    gelu: Literal["tanh", "erf", "quick"] = "tanh"
    """Form of GELU: Google's weights use the tanh form, timm's own and transformers' the exact one, OpenAI's CLIP
    x * sigmoid(1.702 x).
    """
    norm_eps: float = 1e-6
    """Epsilon of every LayerNorm."""
    layer_scale: float | None = None
    """Initial factor of what attention and MLP add, learned for each channel; None leaves it out."""
    dropout: float = 0.0
    """Dropout after every dense layer except q, k, v, and after adding positions."""
    patch_dropout: float = 0.0
    """Share of the patches that a training step leaves out."""
    drop_path: float = 0.0
    """Stochastic depth: chance of skipping the last block's branches, falling linearly to 0 at the first block."""
    drop_path_form: Literal["sample", "batch"] = "sample"
    """Each image for itself, or equally many in every step, whose computation is saved."""
    representation_size: int | None = None
    """Width of the tanh layer before the head, used in pre-training; None leaves it out."""
    head_bias: float | None = 0.0
    """Initial bias of the head; the paper's sigmoid pre-training uses -10. None leaves the bias out."""

    def __post_init__(self) -> None:
        check_choices(self)
        sizes = ("channels", "width", "depth", "num_heads", "mlp_dim", "num_classes", "representation_size")
        check_minimum(self, 1, *sizes)
        check_minimum(self, 0, "num_registers")
        check_shares(self, "dropout", "patch_dropout", "drop_path")
        check_divisible(self.image_hw, self.patch_hw)
        if self.width % self.num_heads:
            raise UserError(f"width {self.width} is not divisible by {self.num_heads} heads")
        if not self.norm_eps > 0:
            raise UserError(f"norm_eps must be above 0, not {self.norm_eps}")
        self._check_parts()

    def _check_parts(self) -> None:
        """Refuses parts that contradict each other."""
        in_heads = self.positions.in_heads
        at_stem = self.position_injection == "stem" and not in_heads
        if self.attention == "axial" and (self.pool == "cls" or self.num_registers):
            raise UserError(
                "axial attention runs along rows and columns of patches, where class token and registers have no "
                "place: choose pool gap, map or none, and no registers"
            )
        if self.attention == "axial" and in_heads:
            raise UserError(f"axial attention cannot go with position {self.position}: choose one added to tokens")
        if self.distillation and (self.pool != "cls" or self.representation_size is not None):
            raise UserError("distillation has a token beside the class token: choose pool cls, and no tanh layer")
        if self.patch_dropout and (self.attention == "axial" or not at_stem):
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
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches (gh, gw)."""
        (h, w), (p, q) = self.image_hw, self.patch_hw
        return h // p, w // q

    @property
    def class_tokens(self) -> int:
        """Tokens that stand for the whole image: class token and distillation token."""
        return (self.pool == "cls") + self.distillation

    @property
    def positions(self) -> Positions:
        """How this model's table of positions is shaped and read."""
        return POSITIONS[self.position](
            kind=self.position,
            grid=self.grid,
            cls=self.class_tokens,
            registers=self.num_registers,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            injection=self.position_injection,
            resample=self.position_resample,
            per_layer=self.relative_per_layer,
            per_head=self.relative_per_head,
        )
