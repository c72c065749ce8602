"""Masked autoencoders (He et al., arXiv 2111.06377): encode a few patches, and decode the others from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import torch
import tyro
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vitral.config import renamed
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.entry import BuildContext, EvaluateBy
from vitral.objectives.objective import Panel
from vitral.objectives.patches import expand_indices, gather_tokens, patchify, to_uint8, unpatchify
from vitral.objectives.prng import sample_without_replacement
from vitral.objectives.self_supervised import Learner, SelfSupervised, plain_vit
from vitral.vit import ViT

__all__ = ["MAEConfig", "MAELearner", "build_mae"]

MASK_STREAM = 0
"""Stream of the random numbers."""


@renamed(keys={"share": "masked_fraction"})
@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """Masking and decoder of a masked autoencoder. The defaults are the paper's.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar[EvaluateBy] = "features"
    name: tyro.conf.Suppress[Literal["mae"]] = "mae"
    masked_fraction: float = 0.75
    """Fraction of an image's patches that is masked."""
    target: Literal["normalised", "pixels"] = "normalised"
    """`normalised`: a patch's values minus their mean, divided by their standard deviation. `pixels`: the values in the
    model's range.
    """
    width: int = 512
    """Width of the decoder."""
    depth: int = 8
    """Blocks of the decoder."""
    num_heads: int = 16
    """Attention heads of each decoder block."""

    def __post_init__(self) -> None:
        if not 0 < self.masked_fraction < 1:
            raise UserError(f"--objective.masked-fraction must be above 0 and below 1, not {self.masked_fraction}")
        if min(self.width, self.depth, self.num_heads) < 1 or self.width % self.num_heads:
            raise UserError(
                "--objective.width must be a multiple of --objective.num-heads, and both and --objective.depth at "
                f"least 1, not {self.width}, {self.num_heads} and {self.depth}"
            )


class MAELearner(Learner):
    """An encoder of the visible patches, and a small Transformer that predicts the masked ones.

    The decoder is a Vision Transformer whose input tokens replace embedded patches: the encoder's output for visible
    patches, and one learned token for masked ones. Its head predicts pixels.
    """

    def __init__(self, model: Model, config: MAEConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder = check_maskable(plain_vit(model, what="a masked autoencoder"))
        self.config = config
        self.preprocessing = preprocessing
        inner = self.encoder.config
        self.bridge = nn.Linear(inner.width, config.width)
        self.mask_token = nn.Parameter(torch.zeros(config.width))
        self.decoder = ViT(
            replace(
                inner,
                width=config.width,
                depth=config.depth,
                num_heads=config.num_heads,
                mlp_dim=4 * config.width,
                num_classes=inner.channels * inner.patch_hw[0] * inner.patch_hw[1],
                representation_size=None,
                dropout=0.0,
                attention_dropout=0.0,
                drop_path=0.0,
            )
        )
        for unused in ("patch_embed", "pool"):
            setattr(self.decoder, unused, nn.Identity())
        nn.init.normal_(self.mask_token, std=0.02)
        for layer in (self.bridge, self.decoder.head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"], readable: Bool[Tensor, " b"]
    ) -> dict[str, Float[Tensor, " b"]]:
        """See `Learner`: the mean squared error over masked patches."""
        predicted, masked, grid = self.predictions(images, keys)
        targets = self.targets(gather_tokens(patchify(images, grid), masked))
        return {"loss": (predicted.float() - targets).square().mean((1, 2))}

    def predictions(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b m values"], Int64[Tensor, "b m"], tuple[int, int]]:
        """The predicted values of masked patches, the indices of these, and the patch grid."""
        embedded = self.encoder.patches(images)
        rows, columns = embedded.shape[1:3]
        count = rows * columns
        order = sample_without_replacement(keys, count, of=count, stream=MASK_STREAM)
        # at least one visible patch, and one masked
        num_visible = min(max(round(count * (1 - self.config.masked_fraction)), 1), count - 1)
        visible, masked = order[:, :num_visible], order[:, num_visible:]
        x, positions = self.encoder.assemble(embedded)
        prefix = self.encoder.config.num_prefix_tokens
        seen = torch.cat([x[:, :prefix], gather_tokens(x[:, prefix:], visible)], dim=1)
        tokens = self.bridge(self.encoder.encode(seen, positions))
        mask_tokens = self.mask_token.to(tokens.dtype).expand(len(images), count, -1)
        patches = mask_tokens.scatter(1, expand_indices(visible, mask_tokens), tokens[:, prefix:])
        filled, positions = self.decoder.assemble(patches.unflatten(1, (rows, columns)))
        filled = torch.cat([filled[:, :prefix] + tokens[:, :prefix], filled[:, prefix:]], dim=1)
        final = self.decoder.encode(filled, positions)[:, prefix:]
        return self.decoder.head(gather_tokens(final, masked)), masked, (rows, columns)

    def targets(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m values"]:
        """The target of each patch; the deviation is that of a sample, as in the authors' code."""
        values = patches.flatten(2)
        if self.config.target == "pixels":
            return values
        return (values - values.mean(2, keepdim=True)) / (values.var(2, keepdim=True) + 1e-6).sqrt()

    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """See `Learner`: masked patches grey; masked patches as predicted, with the target's mean and deviation; and
        the image.
        """
        predicted, masked, grid = self.predictions(images, keys)
        patches = patchify(images, grid)
        targets = gather_tokens(patches, masked)
        values = predicted.float()
        if self.config.target == "normalised":
            flat = targets.flatten(2)
            values = values * (flat.var(2, keepdim=True) + 1e-6).sqrt() + flat.mean(2, keepdim=True)
        whole = self.preprocessing.to_unit_range(patches)
        shown = {
            "visible": torch.full_like(targets, 0.5),
            "predicted": self.preprocessing.to_unit_range(values.reshape(targets.shape)),
        }
        pasted = {title: whole.scatter(1, expand_indices(masked, whole), part) for title, part in shown.items()}
        return [
            Panel(title=title, images=to_uint8(unpatchify(part, grid)))
            for title, part in {**pasted, "image": whole}.items()
        ]


def check_maskable(model: ViT) -> ViT:
    """The model, if its other patches do not depend on those that are left out.

    Raises:
        UserError: they do.
    """
    config = model.config
    if config.stem_stages is not None:
        raise UserError("a masked autoencoder needs patches of pixels: the ResNet of a hybrid would see masked ones")
    if config.attention != "global" or not model.positions.only_at_stem:
        raise UserError(
            "a masked autoencoder leaves out patches, which works only with positions added to the first tokens: "
            "set --model.position sincos_2d_mae, --model.position-injection stem and --model.attention global"
        )
    return model


def build_mae(config: MAEConfig, context: BuildContext) -> SelfSupervised:
    """See `ObjectiveEntry`."""
    return SelfSupervised(partial(MAELearner, config=config, preprocessing=context.preprocessing))
