"""Masked patch prediction, the self-supervision of the paper (section 4.6 and appendix B.1.2); and SimMIM (Xie et al.,
arXiv 2111.09886), which masks larger squares and predicts their pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
import tyro
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vitral.config import check_divisible, renamed
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.entry import BuildContext, EvaluateBy, RunSettings
from vitral.objectives.objective import Panel
from vitral.objectives.patches import expand_indices, gather_tokens, patchify, to_uint8, unpatchify
from vitral.objectives.prng import sample_without_replacement, uniforms
from vitral.objectives.self_supervised import Learner, SelfSupervised, plain_vit, refuse_probe

__all__ = [
    "Colours",
    "MaskedPatchConfig",
    "MaskedPatchLearner",
    "Pixels",
    "build_masked_patch",
    "corrupted",
    "validate_masked_patch",
]

LEVELS = 8
"""Three bits a channel."""
SMALL = 4
"""Rows and columns of the target `small_patch`."""
CORRUPTED_STREAM, CORRUPTION_STREAM, REPLACEMENT_STREAM = range(3)
"""Streams of random numbers: which patches are corrupted, how, and by which other patch."""


@renamed(keys={"share": "corrupted_fraction"})
@dataclass(frozen=True, kw_only=True)
class MaskedPatchConfig:
    """Corruption and targets of masked patch prediction. The defaults are the paper's where it states a value.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar[EvaluateBy] = "features"
    name: tyro.conf.Suppress[Literal["masked_patch"]] = "masked_patch"
    target: Literal["mean_colour", "small_patch", "pixels", "pixels_l1"] = "mean_colour"
    """`mean_colour`: the patch's mean at 3 bits a channel, one of 512 classes (8 for grey images). `small_patch`: the
    same for each of its 4x4 parts, 16 predictions side by side. `pixels`: all values in the model's range, with the
    mean squared error as loss. `pixels_l1`: the same with the mean absolute error, as in SimMIM.
    """
    corrupted_fraction: float = 0.5
    """Fraction of an image's patches that is corrupted; BERT's is 0.15."""
    mask_unit: int = 1
    """Rows and columns of patches that are corrupted together; SimMIM's 32 pixels are 2 patches of 16."""
    masked: float = 0.8
    """Probability that a corrupted patch's embedding becomes the learned [mask]."""
    replaced: float = 0.1
    """Probability that it becomes another patch's. Otherwise it is unchanged, and predicted all the same."""
    replaced_from: Literal["image", "batch"] = "image"
    """Source of the other patch, which the paper does not state: the same image, or the next image in the batch of a
    device.
    """
    rounding: Literal["floor", "nearest"] = "floor"
    """How a mean x in 0..1 becomes one of 8 levels, which the paper does not state: min(floor(8 x), 7), or round(7 x).
    """
    hidden: bool = False
    """Whether a dense layer with tanh, as in the classifier, comes before the prediction; the paper does not state it.
    """

    def __post_init__(self) -> None:
        if not 0 < self.corrupted_fraction <= 1:
            raise UserError(
                f"--objective.corrupted-fraction must be above 0 and at most 1, not {self.corrupted_fraction}"
            )
        if self.mask_unit < 1:
            raise UserError(f"--objective.mask-unit must be at least 1, not {self.mask_unit}")
        if not (self.masked >= 0 and self.replaced >= 0 and self.masked + self.replaced <= 1):
            raise UserError(
                "--objective.masked and --objective.replaced are probabilities that add up to at most 1, "
                f"not {self.masked} and {self.replaced}"
            )


@runtime_checkable
class Target(Protocol):
    """What is predicted of a corrupted patch. Patches are in the model's range."""

    def num_outputs(self, channels: int, patch_hw: tuple[int, int]) -> int:
        """Length of a prediction."""
        ...

    def losses(
        self, predicted: Float[Tensor, "b m outputs"], patches: Float[Tensor, "b m c p q"]
    ) -> dict[str, Float[Tensor, "b m"]]:
        """The `loss` of each patch, and further metrics."""
        ...

    def draw(
        self, predicted: Float[Tensor, "b m outputs"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """The predicted patches, in 0..1."""
        ...

    def draw_target(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m c p q"]:
        """The patches that a perfect prediction would draw, in 0..1."""
        ...


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Mean colours at 3 bits a channel, of the whole patch or of `side` x `side` parts; each colour is a class."""

    preprocessing: Preprocessing
    rounding: Literal["floor", "nearest"] = "floor"
    side: int

    def num_outputs(self, channels: int, patch_hw: tuple[int, int]) -> int:
        """See `Target`."""
        return self.side**2 * LEVELS**channels

    def losses(
        self, predicted: Float[Tensor, "b m outputs"], patches: Float[Tensor, "b m c p q"]
    ) -> dict[str, Float[Tensor, "b m"]]:
        """See `Target`: cross-entropy in nats, the mean over the parts, and the fraction of correct parts."""
        classes = self.classes(patches)
        logits = rearrange(predicted, "b m (parts classes) -> b classes m parts", parts=self.side**2)
        loss = F.cross_entropy(logits, classes, reduction="none").mean(2)
        return {"loss": loss, "accuracy": (logits.argmax(1) == classes).float().mean(2)}

    def classes(self, patches: Float[Tensor, "b m c p q"]) -> Int64[Tensor, "b m parts"]:
        """The class of each part: its channels' levels as the digits of a number to base 8, red first."""
        means = F.adaptive_avg_pool2d(self.preprocessing.to_unit_range(patches).flatten(0, 1), self.side)
        # rounding errors of normalised values must not push a mean below the edge of its level
        scaled = {"floor": LEVELS * means + 1e-5, "nearest": (LEVELS - 1) * means + 0.5}[self.rounding]
        levels = scaled.floor().long().clamp(0, LEVELS - 1)
        number = torch.zeros_like(levels[:, 0])
        for level in levels.unbind(1):
            number = number * LEVELS + level
        return rearrange(number, "(b m) rows columns -> b m (rows columns)", b=len(patches))

    def draw(
        self, predicted: Float[Tensor, "b m outputs"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        parts = rearrange(predicted, "b m (parts classes) -> b m parts classes", parts=self.side**2)
        return self.colours(parts.argmax(3), like)

    def draw_target(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        return self.colours(self.classes(patches), patches)

    def colours(
        self, classes: Int64[Tensor, "b m parts"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """Patches in the middle colour of each class."""
        b, m, c, p, q = like.shape
        powers = LEVELS ** torch.arange(c - 1, -1, -1, device=classes.device)
        levels = rearrange(classes, "b m (rows columns) -> (b m) 1 rows columns", rows=self.side)
        levels = levels // powers[:, None, None] % LEVELS
        values = {"floor": (levels + 0.5) / LEVELS, "nearest": levels / (LEVELS - 1)}[self.rounding]
        return F.interpolate(values, size=(p, q)).reshape(b, m, c, p, q)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """All values of a patch in the model's range."""

    preprocessing: Preprocessing
    error: Literal["mse", "l1"] = "mse"

    def num_outputs(self, channels: int, patch_hw: tuple[int, int]) -> int:
        """See `Target`."""
        return channels * patch_hw[0] * patch_hw[1]

    def losses(
        self, predicted: Float[Tensor, "b m outputs"], patches: Float[Tensor, "b m c p q"]
    ) -> dict[str, Float[Tensor, "b m"]]:
        """See `Target`: the mean squared or absolute error."""
        error = {"mse": F.mse_loss, "l1": F.l1_loss}[self.error]
        return {"loss": error(predicted, patches.flatten(2), reduction="none").mean(2)}

    def draw(
        self, predicted: Float[Tensor, "b m outputs"], like: Float[Tensor, "b m c p q"]
    ) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        return self.draw_target(predicted.reshape(like.shape))

    def draw_target(self, patches: Float[Tensor, "b m c p q"]) -> Float[Tensor, "b m c p q"]:
        """See `Target`."""
        return self.preprocessing.to_unit_range(patches)


class MaskedPatchLearner(Learner):
    """An encoder of partly corrupted patch embeddings, and a prediction from each corrupted patch's final token."""

    def __init__(self, model: Model, config: MaskedPatchConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder = plain_vit(model, what="masked patch prediction")
        check_divisible(self.encoder.config.image_hw, self.encoder.config.patch_hw)  # a hybrid takes other sizes too
        self.config = config
        self.preprocessing = preprocessing
        self.target = target_of(config, preprocessing)
        width, channels = self.encoder.config.width, self.encoder.config.channels
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.hidden = nn.Sequential(nn.Linear(width, width), nn.Tanh()) if config.hidden else nn.Identity()
        self.predict = nn.Linear(width, self.target.num_outputs(channels, self.encoder.config.patch_hw))
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.zeros_(self.predict.bias)

    def forward(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"], readable: Bool[Tensor, " b"]
    ) -> dict[str, Float[Tensor, " b"]]:
        """See `Learner`: means over corrupted patches; others have no loss."""
        embedded = self.encoder.patches(images)
        grid = (embedded.shape[1], embedded.shape[2])
        predicted, indices = self.predictions(embedded, keys)
        metrics = self.target.losses(predicted.float(), gather_tokens(patchify(images, grid), indices))
        return {name: values.mean(1) for name, values in metrics.items()}

    def predictions(
        self, embedded: Float[Tensor, "b gh gw d"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b m outputs"], Int64[Tensor, "b m"]]:
        """The predictions for corrupted patches, and the indices of these."""
        flat = embedded.flatten(1, 2)
        indices = corrupted(self.config, keys, grid=(embedded.shape[1], embedded.shape[2]))
        changed = flat.scatter(1, expand_indices(indices, flat), self.replacements(flat, indices, keys))
        x, positions = self.encoder.assemble(changed.view_as(embedded))
        tokens = self.encoder.encode(x, positions)[:, self.encoder.config.num_prefix_tokens :]
        return self.predict(self.hidden(gather_tokens(tokens, indices))), indices

    def replacements(
        self, flat: Float[Tensor, "b n d"], indices: Int64[Tensor, "b m"], keys: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b m d"]:
        """The embeddings that replace those of corrupted patches: [mask], another patch's, or the same."""
        n, m = flat.shape[1], indices.shape[1]
        same_image = self.config.replaced_from == "image"
        corruption, draws = (
            uniforms(keys, m, stream=stream)[:, :, None] for stream in (CORRUPTION_STREAM, REPLACEMENT_STREAM)
        )
        others = (draws[:, :, 0] * (max(n - 1, 1) if same_image else n)).long()
        others = (others + (others >= indices)) % n if same_image else others
        replaced = gather_tokens(flat if same_image else flat.roll(-1, dims=0), others)
        unmasked = torch.where(
            corruption < self.config.masked + self.config.replaced, replaced, gather_tokens(flat, indices)
        )
        return torch.where(corruption < self.config.masked, self.mask_token.to(flat.dtype), unmasked)

    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """See `Learner`: corrupted patches grey, as predicted, and as their targets; and the image."""
        embedded = self.encoder.patches(images)
        grid = (embedded.shape[1], embedded.shape[2])
        predicted, indices = self.predictions(embedded, keys)
        patches = patchify(images, grid)
        targets = gather_tokens(patches, indices)
        whole = self.preprocessing.to_unit_range(patches)
        shown = {
            "corrupted": torch.full_like(targets, 0.5),
            "predicted": self.target.draw(predicted.float(), targets),
            "target": self.target.draw_target(targets),
        }
        pasted = {title: whole.scatter(1, expand_indices(indices, whole), part) for title, part in shown.items()}
        return [
            Panel(title=title, images=to_uint8(unpatchify(part, grid)))
            for title, part in {**pasted, "image": whole}.items()
        ]


def target_of(config: MaskedPatchConfig, preprocessing: Preprocessing) -> Target:
    """The target of a configuration."""
    colours = partial(Colours, preprocessing=preprocessing, rounding=config.rounding)
    return {
        "mean_colour": lambda: colours(side=1),
        "small_patch": lambda: colours(side=SMALL),
        "pixels": lambda: Pixels(preprocessing=preprocessing),
        "pixels_l1": lambda: Pixels(preprocessing=preprocessing, error="l1"),
    }[config.target]()


def corrupted(config: MaskedPatchConfig, keys: Int64[Tensor, " b"], *, grid: tuple[int, int]) -> Int64[Tensor, "b m"]:
    """Indices of the corrupted patches of each image: the configured fraction of its units, at least one.

    Raises:
        UserError: units do not fill the grid.
    """
    check_unit(config.mask_unit, grid)
    side, columns = config.mask_unit, grid[1] // config.mask_unit
    units = grid[0] // side * columns
    count = max(1, round(config.corrupted_fraction * units))
    chosen = sample_without_replacement(keys, count, of=units, stream=CORRUPTED_STREAM)
    first = chosen // columns * side * grid[1] + chosen % columns * side
    offsets = torch.arange(side, device=keys.device)
    inside = (offsets[:, None] * grid[1] + offsets).flatten()
    return rearrange(first[:, :, None] + inside, "b units inside -> b (units inside)")


def check_unit(unit: int, grid: tuple[int, int]) -> None:
    """Raises UserError if squares of `unit` patches do not fill the grid."""
    if any(count % unit for count in grid):
        raise UserError(
            f"--objective.mask-unit {unit} does not divide a grid of {grid[0]}x{grid[1]} patches: choose another, or "
            "another --model.image-size"
        )


def build_masked_patch(config: MaskedPatchConfig, context: BuildContext) -> SelfSupervised:
    """See `ObjectiveEntry`.

    Raises:
        UserError: batches are split, and patches are replaced by those of other images.
    """
    if context.accumulate > 1 and config.replaced_from == "batch":
        raise UserError(
            "--objective.replaced-from batch takes patches of the next image of a batch, which splitting it would "
            "change: set --train.accumulate 1, or --objective.replaced-from image"
        )
    return SelfSupervised(partial(MaskedPatchLearner, config=config, preprocessing=context.preprocessing))


def validate_masked_patch(run: RunSettings) -> None:
    """See `ObjectiveEntry`.

    Raises:
        UserError: the run trains a linear probe, predicts colours of images that have none, or has image sizes that
            units do not fill.
    """
    refuse_probe(run)
    assert isinstance(run.objective, MaskedPatchConfig)
    for grid in run.training_grids:
        check_unit(run.objective.mask_unit, grid)
    if run.data.channels is not None and run.objective.target in ("mean_colour", "small_patch"):
        raise UserError(
            f"images of {run.data.channels} channels (--data.channels) have no colours to predict: give "
            "--objective.target pixels"
        )
