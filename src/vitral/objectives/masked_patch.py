"""Masked patch prediction, the paper's self-supervision (section 4.6 and appendix B.1.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
import tyro
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.objective import Panel
from vitral.objectives.patches import across, as_pixels, patchify, taken, unpatchify
from vitral.objectives.prng import sample_without_replacement, uniforms
from vitral.objectives.self_supervised import Learner, plain_vit

__all__ = ["Colours", "MaskedPatchConfig", "MaskedPatchLearner", "Pixels", "corrupted"]

LEVELS = 8
"""Three bits a channel."""
SMALL = 4
"""Rows and columns of a patch made small."""
WHICH, HOW, OTHER = range(3)
"""What random numbers are for."""


@dataclass(frozen=True, kw_only=True)
class MaskedPatchConfig:
    """What masked patch prediction hides, and what it asks for. The defaults are the paper's, or say where it is open.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar = "features"
    name: tyro.conf.Suppress[Literal["masked_patch"]] = "masked_patch"
    target: Literal["mean_colour", "small_patch", "pixels"] = "mean_colour"
    """`mean_colour`: the patch's mean at 3 bits a channel, one of 512 classes (8 of grey images). `small_patch`: the
    same of each of its 4x4 parts, 16 predictions side by side. `pixels`: all its values in the model's range, by mean
    squared error.
    """
    share: float = 0.5
    """Share of an image's patches that is corrupted; 0.15 is BERT's."""
    masked: float = 0.8
    """Chance that a corrupted patch's embedding becomes the learned [mask]."""
    replaced: float = 0.1
    """Chance that it becomes another patch's; what is left stays as it is, and is asked for all the same."""
    replaced_from: Literal["image", "batch"] = "image"
    """Where the other patch is from, which the paper does not say: the same image, or the next one of the part of the
    batch that a device computes at once.
    """
    rounding: Literal["floor", "nearest"] = "floor"
    """How a mean x in 0..1 becomes one of 8 levels, which the paper leaves open: min(floor(8 x), 7), or round(7 x)."""
    hidden: bool = False
    """Whether a dense layer with tanh, as that before the classifier, comes before the prediction; the paper does not
    say.
    """

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"--objective.share must be above 0 and at most 1, not {self.share}")
        if not (self.masked >= 0 and self.replaced >= 0 and self.masked + self.replaced <= 1):
            raise UserError(
                "--objective.masked and --objective.replaced are chances that add up to at most 1, "
                f"not {self.masked} and {self.replaced}"
            )


@runtime_checkable
class Target(Protocol):
    """What is asked of a corrupted patch. Patches are in the model's range."""

    def outputs(self, channels: int, patch_hw: tuple[int, int]) -> int:
        """Numbers that a prediction has."""
        ...

    def losses(
        self, predicted: Float[Tensor, "b m outputs"], patches: Float[Tensor, "b m c p q"]
    ) -> dict[str, Float[Tensor, "b m"]]:
        """The loss of each patch, and further figures."""
        ...

    def painted(
        self, predicted: Float[Tensor, "b m outputs"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """The patches that are predicted, in 0..1."""
        ...

    def perfect(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m c p q"]:
        """What a prediction without fault looks like, in 0..1."""
        ...


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Mean colours at 3 bits a channel, of the whole patch or of `side` x `side` parts: a class each."""

    preprocessing: Preprocessing
    rounding: Literal["floor", "nearest"] = "floor"
    side: int

    def outputs(self, channels: int, patch_hw: tuple[int, int]) -> int:
        """See `Target`."""
        return self.side**2 * LEVELS**channels

    def losses(
        self, predicted: Float[Tensor, "b m outputs"], patches: Float[Tensor, "b m c p q"]
    ) -> dict[str, Float[Tensor, "b m"]]:
        """See `Target`: cross-entropy in nats, the mean over the parts, and the share of parts that were right."""
        classes = self.classes(patches)
        logits = rearrange(predicted, "b m (parts classes) -> b classes m parts", parts=self.side**2)
        loss = F.cross_entropy(logits, classes, reduction="none").mean(2)
        return {"loss": loss, "accuracy": (logits.argmax(1) == classes).float().mean(2)}

    def classes(self, patches: Float[Tensor, "b m c p q"]) -> Int64[Tensor, "b m parts"]:
        """The class of each part: its channels' levels as the digits of a number to base 8, red first."""
        means = F.adaptive_avg_pool2d(self.preprocessing.shares(patches).flatten(0, 1), self.side)
        # a mean of values that were shifted and scaled may miss an edge between levels by a rounding error
        scaled = {"floor": LEVELS * means + 1e-5, "nearest": (LEVELS - 1) * means + 0.5}[self.rounding]
        levels = scaled.floor().long().clamp(0, LEVELS - 1)
        number = torch.zeros_like(levels[:, 0])
        for level in levels.unbind(1):
            number = number * LEVELS + level
        return rearrange(number, "(b m) rows columns -> b m (rows columns)", b=len(patches))

    def painted(
        self, predicted: Float[Tensor, "b m outputs"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        parts = rearrange(predicted, "b m (parts classes) -> b m parts classes", parts=self.side**2)
        return self.colours(parts.argmax(3), like)

    def perfect(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        return self.colours(self.classes(patches), patches)

    def colours(
        self, classes: Int64[Tensor, "b m parts"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """Patches that have the colour in the middle of each class."""
        b, m, c, p, q = like.shape
        powers = LEVELS ** torch.arange(c - 1, -1, -1, device=classes.device)
        levels = rearrange(classes, "b m (rows columns) -> (b m) 1 rows columns", rows=self.side)
        levels = levels // powers[:, None, None] % LEVELS
        shares = {"floor": (levels + 0.5) / LEVELS, "nearest": levels / (LEVELS - 1)}[self.rounding]
        return F.interpolate(shares, size=(p, q)).reshape(b, m, c, p, q)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """All values of a patch in the model's range."""

    preprocessing: Preprocessing

    def outputs(self, channels: int, patch_hw: tuple[int, int]) -> int:
        """See `Target`."""
        return channels * patch_hw[0] * patch_hw[1]

    def losses(
        self, predicted: Float[Tensor, "b m outputs"], patches: Float[Tensor, "b m c p q"]
    ) -> dict[str, Float[Tensor, "b m"]]:
        """See `Target`: the mean squared error."""
        return {"loss": (predicted - patches.flatten(2)).square().mean(2)}

    def painted(
        self, predicted: Float[Tensor, "b m outputs"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        return self.perfect(predicted.reshape(like.shape))

    def perfect(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        return self.preprocessing.shares(patches)


class MaskedPatchLearner(Learner):
    """An encoder that sees corrupted patch embeddings, and a prediction from each corrupted patch's final token."""

    def __init__(self, model: Model, config: MaskedPatchConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder = plain_vit(model, what="masked patch prediction")
        self.config = config
        self.preprocessing = preprocessing
        self.target = target_of(config, preprocessing)
        width, channels = self.encoder.config.width, self.encoder.config.channels
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.Tanh()) if config.hidden else nn.Identity()
        self.predict = nn.Linear(width, self.target.outputs(channels, self.encoder.config.patch_hw))
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.zeros_(self.predict.bias)

    def forward(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> dict[str, Float[Tensor, " b"]]:
        """See `Learner`; every corrupted patch counts alike, and no other."""
        embedded = self.encoder.patches(images)
        grid = (embedded.shape[1], embedded.shape[2])
        predicted, where = self.predictions(embedded, keys)
        figures = self.target.losses(predicted.float(), taken(patchify(images, grid), where))
        return {name: values.mean(1) for name, values in figures.items()}

    def predictions(
        self, embedded: Float[Tensor, "b gh gw d"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b m outputs"], Int64[Tensor, "b m"]]:
        """What is predicted for the corrupted patches, and which these are."""
        flat = embedded.flatten(1, 2)
        where = corrupted(self.config, keys, patches=flat.shape[1])
        changed = flat.scatter(1, across(where, flat), self._replacements(flat, where, keys))
        x, positions = self.encoder.assemble(changed.view_as(embedded))
        tokens = self.encoder.encode(x, positions)[:, self.encoder.config.num_prefix_tokens :]
        return self.predict(self.hidden(taken(tokens, where))), where

    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """See `Learner`: corrupted patches grey, as predicted, as asked for; and the image."""
        embedded = self.encoder.patches(images)
        grid = (embedded.shape[1], embedded.shape[2])
        predicted, where = self.predictions(embedded, keys)
        whole = patchify(images, grid)
        hidden = taken(whole, where)
        shares = self.preprocessing.shares(whole)
        shown = {
            "corrupted": torch.full_like(hidden, 0.5),
            "predicted": self.target.painted(predicted.float(), hidden),
            "asked for": self.target.perfect(hidden),
        }
        with_parts = {title: shares.scatter(1, across(where, shares), part) for title, part in shown.items()}
        return [
            Panel(title=title, images=as_pixels(unpatchify(patches, grid)))
            for title, patches in {**with_parts, "image": shares}.items()
        ]

    def _replacements(
        self, flat: Float[Tensor, "b n d"], where: Int64[Tensor, "b m"], keys: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b m d"]:
        """What stands in the place of each corrupted embedding: [mask], another patch's, or itself."""
        n, count = flat.shape[1], where.shape[1]
        how, draw = (uniforms(keys, count, use=use)[:, :, None] for use in (HOW, OTHER))
        own = self.config.replaced_from == "image"
        other = (draw[:, :, 0] * (max(n - 1, 1) if own else n)).long()
        other = (other + (other >= where)) % n if own else other
        replaced = taken(flat if own else flat.roll(-1, dims=0), other)
        kept = torch.where(how < self.config.masked + self.config.replaced, replaced, taken(flat, where))
        return torch.where(how < self.config.masked, self.mask_token.to(flat.dtype), kept)


def target_of(config: MaskedPatchConfig, preprocessing: Preprocessing) -> Target:
    """What a configuration asks for."""
    colours = partial(Colours, preprocessing=preprocessing, rounding=config.rounding)
    return {
        "mean_colour": lambda: colours(side=1),
        "small_patch": lambda: colours(side=SMALL),
        "pixels": lambda: Pixels(preprocessing=preprocessing),
    }[config.target]()


def corrupted(config: MaskedPatchConfig, keys: Int64[Tensor, " b"], *, patches: int) -> Int64[Tensor, "b m"]:
    """Which patches of each image are corrupted: the configured share of them, and at least one."""
    return sample_without_replacement(keys, max(1, round(config.share * patches)), of=patches, use=WHICH)
