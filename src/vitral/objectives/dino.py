"""Self-distillation: a student that sees crops of an image matches the outputs of its moving average for other crops.

DINO (Caron et al., arXiv 2104.14294), with iBOT's masked patches (Zhou et al., arXiv 2111.07832), Sinkhorn-Knopp and
KoLeo as in DINOv2 (Oquab et al., arXiv 2304.07193), and Gram anchoring as in DINOv3 (Simeoni et al., arXiv 2508.10104).
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vitral.config import renamed
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.assignment import Centre, koleo, sinkhorn
from vitral.objectives.colours import Colours
from vitral.objectives.crops import random_resized_crop
from vitral.objectives.entry import BuildContext, EvaluateBy, RunSettings, require_pictures
from vitral.objectives.gram import GramAnchor
from vitral.objectives.objective import Panel
from vitral.objectives.patches import gather_tokens, to_uint8
from vitral.objectives.prng import sample_without_replacement
from vitral.objectives.self_supervised import Learner, SelfSupervised, plain_vit, refuse_probe
from vitral.vit import ViT

__all__ = ["CropConfig", "DINOConfig", "DINOLearner", "Projection", "build_dino", "validate_dino"]

MASK_STREAM = 100
"""First stream of the masks' random numbers; those of crops are below."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """The crops of an image that are compared. Numbers and areas are DINO's, and so are the colours of recipe `dino`.

    Raises:
        UserError: a value is out of range.
    """

    num_local: int = 8
    """Local crops, beside the two global ones."""
    local_size: int | None = None
    """Height and width of local crops in pixels; None: 3/7 of the model's image size in whole patches, as 96 of 224."""
    global_area: tuple[float, float] = (0.4, 1.0)
    """Smallest and largest area of a global crop, as fractions of the image."""
    local_area: tuple[float, float] = (0.05, 0.4)
    """Smallest and largest area of a local crop, as fractions of the image."""
    jitter: float = 0.4
    """Each crop's brightness and contrast are multiplied by a number within this distance of 1."""
    jitter_probability: float = 1.0
    """Probability of changing a crop's brightness, contrast, saturation and hue."""
    saturation: float = 0.0
    """Largest relative change of saturation."""
    hue: float = 0.0
    """Largest shift of the hue, as a fraction of the circle of hues."""
    grey: float = 0.0
    """Probability of turning a crop grey."""
    blur: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Probability of a Gaussian blur of 0.1 to 2 pixels, of the first and second global crop and of local crops."""
    solarise: float = 0.0
    """Probability of inverting the bright half of the second global crop's values."""

    def __post_init__(self) -> None:
        probabilities = (self.jitter_probability, self.grey, *self.blur, self.solarise)
        if not all(0 <= probability <= 1 for probability in (*probabilities, self.jitter, self.saturation)):
            raise UserError(
                "--objective.crops.jitter, jitter-probability, saturation, grey, blur and solarise must be from 0 to 1"
            )
        if not 0 <= self.hue <= 0.5:
            raise UserError(f"--objective.crops.hue must be from 0 to 0.5, half the circle of hues, not {self.hue}")

    def colours(self, index: int) -> Colours:
        """How the colours of a crop change; the first two are global."""
        return Colours(
            jitter_probability=self.jitter_probability,
            saturation=self.saturation,
            hue=self.hue,
            grey=self.grey,
            blur=self.blur[min(index, 2)],
            solarise=self.solarise if index == 1 else 0.0,
        )


@renamed(keys={"views": "crops", "masked_share": "masked_fraction"})
@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """The settings of self-distillation.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar[EvaluateBy] = "features"
    name: tyro.conf.Suppress[Literal["dino"]] = "dino"
    crops: CropConfig = CropConfig()
    prototypes: int = 65536
    """Outputs of the projection."""
    hidden: int = 2048
    """Width of the projection's two hidden layers."""
    bottleneck: int = 256
    """Width of the layer before the prototypes, whose output is normalised to length 1."""
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """At the beginning, and after the warm-up."""
    teacher_warmup: float = 0.1
    """Fraction of the run in which the teacher's temperature rises."""
    momentum: float = 0.996
    """Momentum of the teacher at the beginning; it rises to 1 along a cosine."""
    assignment: Literal["centre", "sinkhorn"] = "centre"
    """What keeps outputs from collapsing: subtracting their running mean, or Sinkhorn-Knopp."""
    centre_momentum: float = 0.9
    """Momentum of the running mean."""
    patch_weight: float = 0.0
    """Weight of iBOT's loss, in which masked patches of the student's global crops match the teacher's outputs for them
    unmasked; 0: no such loss.
    """
    masked_fraction: float = 0.3
    """Fraction of the patches that is masked for it."""
    koleo: float = 0.0
    """Weight of the KoLeo loss, which spreads features; DINOv2's is 0.1."""
    gram_weight: float = 0.0
    """Weight of the Gram loss, which keeps similarities of patches as an earlier teacher has them; DINOv3's is 2."""
    gram_start: float = 0.5
    """Fraction of the run after which it begins, with a copy of the teacher."""
    gram_refresh: float = 0.1
    """Fraction of the run between copies of the teacher; 0: there is one copy only."""

    def __post_init__(self) -> None:
        if min(self.prototypes, self.hidden, self.bottleneck) < 1 or self.crops.num_local < 0:
            raise UserError("--objective.prototypes, hidden and bottleneck must be at least 1, crops.num-local 0")
        if not min(self.student_temperature, *self.teacher_temperature) > 0:
            raise UserError("--objective.student-temperature and teacher-temperature must be above 0")
        fractions = (self.momentum, self.centre_momentum, self.teacher_warmup)
        if not all(0 <= value <= 1 for value in fractions) or not 0 < self.masked_fraction < 1:
            raise UserError(
                "--objective.momentum, centre-momentum and teacher-warmup must be from 0 to 1, and masked-fraction "
                "between them"
            )
        if min(self.patch_weight, self.koleo, self.gram_weight, self.gram_refresh) < 0:
            raise UserError("--objective.patch-weight, koleo, gram-weight and gram-refresh must be at least 0")
        if not 0 <= self.gram_start < 1:
            raise UserError(f"--objective.gram-start must be at least 0 and below 1, not {self.gram_start}")


class Projection(nn.Module):
    """From features to prototypes: three layers with GELU, and the cosine of their output with each prototype."""

    def __init__(self, width: int, config: DINOConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        self.prototypes = nn.Linear(config.bottleneck, config.prototypes, bias=False)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                # with 2,048 inputs close to the authors' 0.02, which in narrow layers would give outputs near zero
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b prototypes"]:
        return F.linear(F.normalize(self.layers(x), dim=-1), F.normalize(self.prototypes.weight, dim=-1))


class DINOLearner(Learner):
    """A student, `encoder`, and its moving average, the teacher, which is the model that is saved."""

    def __init__(self, model: Model, config: DINOConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder = plain_vit(model, what="DINO")
        self.config = config
        self.preprocessing = preprocessing
        inner = self.encoder.config
        if inner.pool == "cls_gap":
            raise UserError("DINO projects single tokens, not two side by side: set --model.pool cls or gap")
        self.project = Projection(inner.width, config)
        self.teacher = deepcopy(self.encoder).requires_grad_(False)
        self.teacher_project = deepcopy(self.project).requires_grad_(False)
        self.anchor = None
        if config.gram_weight > 0:
            self.anchor = GramAnchor(self.teacher, start=config.gram_start, refresh=config.gram_refresh)
        # DDP needs a gradient for every trained weight
        self.mask_token = nn.Parameter(torch.zeros(inner.width), requires_grad=config.patch_weight > 0)
        self.centre, self.patch_centre = (Centre(config.prototypes, momentum=config.centre_momentum) for _ in range(2))
        self.teacher_temperature = nn.Buffer(torch.tensor(config.teacher_temperature[0]))
        local_size(config.crops, inner.image_hw, inner.patch_hw)  # checks it

    def train(self, mode: bool = True) -> "DINOLearner":
        """As for any module, but the teacher drops nothing: neither values nor, at random, its blocks."""
        super().train(mode)
        self.teacher.eval()
        return self

    def models(self) -> Sequence[ViT]:
        """See `Learner`: the teacher is evaluated and saved."""
        return (self.teacher, self.encoder) if self.anchor is None else (self.teacher, self.encoder, self.anchor.model)

    def forward(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"], readable: Bool[Tensor, " b"]
    ) -> dict[str, Float[Tensor, " b"]]:
        """See `Learner`: the mean cross-entropy over all pairs of a teacher's crop and a different crop of the student.

        `entropy` is that of the teacher's probabilities, in nats.
        """
        config = self.config
        global_crops, local_crops = self.crops(images, keys)
        twice = readable.repeat(2)
        with torch.no_grad():
            teacher_tokens = self.teacher.encode(*self.teacher.embed(global_crops))
            outputs = self.teacher_project(pooled(self.teacher, teacher_tokens)).float()
            targets = self.assign(outputs, self.centre.mean, twice).unflatten(0, (2, -1))
            self.centre.accumulate(outputs, twice)
        mask = self.masks(keys, global_crops)
        student_tokens = self.student_tokens(global_crops, mask)
        features = pooled(self.encoder, student_tokens)
        predictions = [self.project(features)]
        if len(local_crops):
            predictions.append(
                self.project(pooled(self.encoder, self.encoder.encode(*self.encoder.embed(local_crops))))
            )
        logits = torch.cat([part.unflatten(0, (-1, len(images))) for part in predictions]).float()
        logs = F.log_softmax(logits / config.student_temperature, dim=2)
        pairs = [-(targets[i] * logs[j]).sum(1) for i in range(2) for j in range(len(logs)) if i != j]
        metrics = {"loss": torch.stack(pairs).mean(0)}
        metrics["entropy"] = -(targets * targets.clamp(min=1e-12).log()).sum(2).mean(0)
        if config.patch_weight > 0:
            metrics["patch_loss"] = self.patch_loss(teacher_tokens, student_tokens, mask, twice)
            metrics["loss"] = metrics["loss"] + config.patch_weight * metrics["patch_loss"]
        if config.koleo > 0:
            metrics["koleo"] = torch.stack([koleo(part, readable) for part in features.chunk(2)]).mean(0)
            metrics["loss"] = metrics["loss"] + config.koleo * metrics["koleo"]
        if self.anchor is not None:
            metrics["gram_loss"] = torch.stack(self.anchor.loss(global_crops, student_tokens).chunk(2)).mean(0)
            metrics["loss"] = metrics["loss"] + config.gram_weight * metrics["gram_loss"]
        return metrics

    def crops(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "2*b c h w"], Float[Tensor, "n c p q"]]:
        """The two global crops of each image, of its own size, all first ones before all second ones, and the local
        crops likewise; in the model's range.
        """
        unit_range, config = self.preprocessing.to_unit_range(images), self.config.crops

        def sample(indices: range, area: tuple[float, float], size: tuple[int, int]) -> Float[Tensor, "m c p q"]:
            if not indices:
                return unit_range.new_zeros(0, unit_range.shape[1], *size)
            parts = [
                random_resized_crop(
                    unit_range,
                    keys,
                    index=index,
                    area=area,
                    size=size,
                    jitter=config.jitter,
                    colours=config.colours(index),
                )
                for index in indices
            ]
            return self.preprocessing.from_unit_range(torch.cat(parts))

        whole = (images.shape[2], images.shape[3])
        local = local_size(config, whole, self.encoder.config.patch_hw)
        global_crops = sample(range(2), config.global_area, whole)
        return global_crops, sample(range(2, 2 + config.num_local), config.local_area, local)

    def masks(self, keys: Int64[Tensor, " b"], crops: Float[Tensor, "2*b c h w"]) -> Int64[Tensor, "2*b m"]:
        """Indices of the masked patches of global crops; none without iBOT's loss."""
        n = math.prod(self.encoder.config.grid_of((crops.shape[2], crops.shape[3])))
        m = max(1, round(self.config.masked_fraction * n)) if self.config.patch_weight > 0 else 0
        streams = range(MASK_STREAM, MASK_STREAM + 2)
        return torch.cat([sample_without_replacement(keys, m, of=n, stream=stream) for stream in streams])

    def student_tokens(self, images: Float[Tensor, "b c h w"], mask: Int64[Tensor, "b m"]) -> Float[Tensor, "b t d"]:
        """Final tokens of images, with [mask] in place of the embeddings of masked patches."""
        embedded = self.encoder.patches(images)
        no_mask = torch.zeros(embedded.shape[:3], dtype=torch.bool, device=images.device)
        masked = no_mask.flatten(1).scatter(1, mask, True).view(*embedded.shape[:3], 1)
        changed = torch.where(masked, self.mask_token.to(embedded.dtype), embedded)
        return self.encoder.encode(*self.encoder.assemble(changed))

    def patch_loss(
        self,
        teacher_tokens: Float[Tensor, "n t d"],
        student_tokens: Float[Tensor, "n t d"],
        mask: Int64[Tensor, "n m"],
        readable: Bool[Tensor, " n"],
    ) -> Float[Tensor, " b"]:
        """iBOT's loss: the mean cross-entropy over masked patches of both global crops."""
        prefix = self.encoder.config.num_prefix_tokens
        with torch.no_grad():
            outputs = self.teacher_project(gather_tokens(teacher_tokens[:, prefix:], mask)).float().flatten(0, 1)
            patches = readable.repeat_interleave(mask.shape[1])
            targets = self.assign(outputs, self.patch_centre.mean, patches).view(*mask.shape, -1)
            self.patch_centre.accumulate(outputs, patches)
        logits = self.project(gather_tokens(student_tokens[:, prefix:], mask)).float()
        logs = F.log_softmax(logits / self.config.student_temperature, dim=2)
        return torch.stack((-(targets * logs).sum(2).mean(1)).chunk(2)).mean(0)

    def assign(
        self, outputs: Float[Tensor, "n p"], centre: Float[Tensor, " p"], readable: Bool[Tensor, " n"]
    ) -> Float[Tensor, "n p"]:
        """The teacher's probabilities."""
        if self.config.assignment == "sinkhorn":
            return sinkhorn(outputs, temperature=self.teacher_temperature, readable=readable)
        return F.softmax((outputs - centre) / self.teacher_temperature, dim=1)

    @torch.no_grad()
    def after_step(self, *, progress: float) -> None:
        """See `Learner`: updates the teacher, its copy, the centres and the teacher's temperature."""
        config = self.config
        momentum = 1 - (1 - config.momentum) * (1 + math.cos(math.pi * progress)) / 2
        pairs = [(self.teacher, self.encoder), (self.teacher_project, self.project)]
        means, weights = ([weight for pair in pairs for weight in pair[side].parameters()] for side in (0, 1))
        get_ema_multi_avg_fn(momentum)(means, weights, 0)
        if self.anchor is not None:
            self.anchor.update(self.teacher, progress=progress)
        self.centre.update()
        self.patch_centre.update()
        first, last = config.teacher_temperature
        warmed_up = min(progress / config.teacher_warmup, 1.0) if config.teacher_warmup else 1.0
        self.teacher_temperature.fill_(first + (last - first) * warmed_up)

    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """See `Learner`: both global crops, at most two local ones, and the image."""
        global_crops, local_crops = self.crops(images, keys)
        shown = {
            f"{kind} crop {number}": part
            for kind, crops in (("global", global_crops), ("local", local_crops))
            for number, part in enumerate(crops.split(len(images))[:2], 1)
        }
        shown["image"] = images
        return [
            Panel(title=title, images=to_uint8(self.preprocessing.to_unit_range(part))) for title, part in shown.items()
        ]


def pooled(model: ViT, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
    """The features of images, from their final tokens."""
    return model.pool(tokens[:, model.pool_tokens])


def local_size(crops: CropConfig, image_hw: tuple[int, int], patch_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of local crops, in whole patches.

    Raises:
        UserError: the configured size is not a multiple of the patch size.
    """
    if crops.local_size is None:
        (h, w), (p, q) = image_hw, patch_hw
        return max(1, round(h * 3 / 7 / p)) * p, max(1, round(w * 3 / 7 / q)) * q
    if any(crops.local_size % patch for patch in patch_hw):
        raise UserError(f"--objective.crops.local-size must be a multiple of the patch size {patch_hw}")
    return crops.local_size, crops.local_size


def build_dino(config: DINOConfig, context: BuildContext) -> SelfSupervised:
    """See `ObjectiveEntry`.

    Raises:
        UserError: batches are split, and a term of the loss compares all images of a batch.
    """
    if context.accumulate > 1 and (config.assignment == "sinkhorn" or config.koleo > 0):
        raise UserError(
            "--objective.assignment sinkhorn and --objective.koleo compare all images of a batch, which splitting it "
            "would change: set --train.accumulate 1, or --objective.assignment centre and --objective.koleo 0"
        )
    return SelfSupervised(partial(DINOLearner, config=config, preprocessing=context.preprocessing))


def validate_dino(run: RunSettings) -> None:
    """See `ObjectiveEntry`.

    Raises:
        UserError: the run trains a linear probe, keeps a second moving average, or has no pictures.
    """
    refuse_probe(run)
    require_pictures(run)
    if run.train.ema is not None:
        raise UserError("DINO's teacher already is a moving average of the weights: leave out --train.ema")
