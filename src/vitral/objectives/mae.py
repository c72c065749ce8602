"""Masked autoencoders (He et al., arXiv 2111.06377): few patches are encoded, the others decoded from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import tyro
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.objective import Panel
from vitral.objectives.patches import across, as_pixels, patchify, taken, unpatchify
from vitral.objectives.prng import sample_without_replacement
from vitral.objectives.self_supervised import Learner, plain_vit
from vitral.vit import ViT

__all__ = ["MAEConfig", "MAELearner"]

WHICH = 0
"""What random numbers are for."""


@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """What a masked autoencoder hides, and what decodes it. The defaults are the paper's.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar = "features"
    name: tyro.conf.Suppress[Literal["mae"]] = "mae"
    share: float = 0.75
    """Share of an image's patches that is hidden."""
    target: Literal["normalised", "pixels"] = "normalised"
    """`normalised`: a patch's values, its own mean taken off and divided by its own standard deviation. `pixels`: its
    values in the model's range.
    """
    width: int = 512
    """Width of the decoder."""
    depth: int = 8
    """Blocks of the decoder."""
    num_heads: int = 16
    """Attention heads of each."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UserError(f"--objective.share must be above 0 and below 1, not {self.share}")
        if min(self.width, self.depth, self.num_heads) < 1 or self.width % self.num_heads:
            raise UserError(
                "--objective.width must be a multiple of --objective.num-heads, and both and --objective.depth at "
                f"least 1, not {self.width}, {self.num_heads} and {self.depth}"
            )


class MAELearner(Learner):
    """An encoder that computes visible patches alone, and a small Transformer that fills in the others.

    The decoder is a Vision Transformer that is given tokens in place of embedded patches: what the encoder made of
    visible patches, and one learned token for all others. Its head gives pixels.
    """

    def __init__(self, model: Model, config: MAEConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder = checked(plain_vit(model, what="a masked autoencoder"))
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
                drop_path=0.0,
            )
        )
        for unused in ("patch_embed", "pool"):
            setattr(self.decoder, unused, nn.Identity())
        nn.init.normal_(self.mask_token, std=0.02)
        for layer in (self.bridge, self.decoder.head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> dict[str, Float[Tensor, " b"]]:
        """See `Learner`: the mean squared error of hidden patches."""
        predicted, hidden, grid = self.predictions(images, keys)
        asked = self.asked(taken(patchify(images, grid), hidden))
        return {"loss": (predicted.float() - asked).square().mean((1, 2))}

    def predictions(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b m values"], Int64[Tensor, "b m"], tuple[int, int]]:
        """What is predicted of the hidden patches, which these are, and the grid that they are counted on."""
        embedded = self.encoder.patches(images)
        rows, columns = embedded.shape[1:3]
        count = rows * columns
        order = sample_without_replacement(keys, count, of=count, use=WHICH)
        # at least one patch on either side
        shown = min(max(round(count * (1 - self.config.share)), 1), count - 1)
        visible, hidden = order[:, :shown], order[:, shown:]
        x, positions = self.encoder.assemble(embedded)
        prefix = self.encoder.config.num_prefix_tokens
        seen = torch.cat([x[:, :prefix], taken(x[:, prefix:], visible)], dim=1)
        tokens = self.bridge(self.encoder.encode(seen, positions))
        everywhere = self.mask_token.to(tokens.dtype).expand(len(images), count, -1)
        placed = everywhere.scatter(1, across(visible, everywhere), tokens[:, prefix:])
        filled, positions = self.decoder.assemble(placed.unflatten(1, (rows, columns)))
        filled = torch.cat([filled[:, :prefix] + tokens[:, :prefix], filled[:, prefix:]], dim=1)
        final = self.decoder.encode(filled, positions)[:, prefix:]
        return self.decoder.head(taken(final, hidden)), hidden, (rows, columns)

    def asked(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m values"]:
        """The target of each patch; the deviation is that of a sample, as in the authors' code."""
        values = patches.flatten(2)
        if self.config.target == "pixels":
            return values
        return (values - values.mean(2, keepdim=True)) / (values.var(2, keepdim=True) + 1e-6).sqrt()

    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """See `Learner`: hidden patches grey, as predicted (with their own mean and deviation), and whole."""
        predicted, hidden, grid = self.predictions(images, keys)
        whole = patchify(images, grid)
        patches = taken(whole, hidden)
        values = predicted.float()
        if self.config.target == "normalised":
            own = patches.flatten(2)
            values = values * (own.var(2, keepdim=True) + 1e-6).sqrt() + own.mean(2, keepdim=True)
        shares = self.preprocessing.shares(whole)
        shown = {
            "visible": torch.full_like(patches, 0.5),
            "predicted": self.preprocessing.shares(values.reshape(patches.shape)),
        }
        rows = {title: shares.scatter(1, across(hidden, shares), part) for title, part in shown.items()}
        return [
            Panel(title=title, images=as_pixels(unpatchify(part, grid)))
            for title, part in {**rows, "image": shares}.items()
        ]


def checked(model: ViT) -> ViT:
    """The model, if it can leave patches out unseen.

    Raises:
        UserError: it cannot.
    """
    config = model.config
    if config.stem_stages is not None:
        raise UserError("a masked autoencoder needs patches of pixels: the ResNet of a hybrid would see hidden ones")
    if config.attention != "global" or not model.positions.only_at_stem:
        raise UserError(
            "a masked autoencoder leaves out patches, which only positions added to the first tokens allow: "
            "set --model.position sincos_2d_mae, --model.position-injection stem and --model.attention global"
        )
    return model
