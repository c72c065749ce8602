"""Self-distillation: a student that sees parts of an image tells what its own average makes of others.

DINO (Caron et al., arXiv 2104.14294), with iBOT's masked patches (Zhou et al., arXiv 2111.07832), Sinkhorn-Knopp and
KoLeo as DINOv2 has them (Oquab et al., arXiv 2304.07193).
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.assignment import Centre, koleo, sinkhorn
from vitral.objectives.crops import view
from vitral.objectives.objective import Panel
from vitral.objectives.patches import as_pixels, taken
from vitral.objectives.prng import sample_without_replacement
from vitral.objectives.self_supervised import Learner, plain_vit
from vitral.vit import ViT

__all__ = ["DINOConfig", "DINOLearner", "Projection", "ViewConfig"]

MASKED = 100
"""What random numbers of masks are for; views have the lower numbers."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Which parts of an image are compared. The defaults are DINO's."""

    num_local: int = 8
    """Small views beside the two large ones."""
    local_size: int | None = None
    """Pixels of their sides; None: 3/7 of the model's image size, in whole patches, as 96 of 224."""
    global_area: tuple[float, float] = (0.4, 1.0)
    """Shares of the image that a large view is."""
    local_area: tuple[float, float] = (0.05, 0.4)
    """Shares of the image that a small view is."""
    jitter: float = 0.4
    """Brightness and contrast of each view change by up to this share; hue, blur and solarising are left out."""


@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """How a student learns from its own average.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar = "features"
    name: tyro.conf.Suppress[Literal["dino"]] = "dino"
    views: ViewConfig = ViewConfig()
    prototypes: int = 65536
    """Outputs of the projection."""
    hidden: int = 2048
    """Width of its two hidden layers."""
    bottleneck: int = 256
    """Width of the layer before the prototypes, whose output has length 1."""
    student_temperature: float = 0.1
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    """At the beginning, and after the warm-up."""
    teacher_warmup: float = 0.1
    """Share of the run in which it rises."""
    momentum: float = 0.996
    """Of the average at the beginning; it rises to 1 by a cosine."""
    assignment: Literal["centre", "sinkhorn"] = "centre"
    """What keeps outputs from collapsing: their running mean is taken off, or Sinkhorn-Knopp."""
    centre_momentum: float = 0.9
    """Of the running mean."""
    patch_weight: float = 0.0
    """Weight of iBOT's loss: masked patches of large views tell what the teacher makes of them unmasked; 0: none."""
    masked_share: float = 0.3
    """Share of patches that are masked for it."""
    koleo: float = 0.0
    """Weight of KoLeo, which spreads features; DINOv2 takes 0.1."""

    def __post_init__(self) -> None:
        if min(self.prototypes, self.hidden, self.bottleneck) < 1 or self.views.num_local < 0:
            raise UserError("--objective.prototypes, hidden and bottleneck must be at least 1, views.num-local 0")
        if not min(self.student_temperature, *self.teacher_temperature) > 0:
            raise UserError("--objective.student-temperature and teacher-temperature must be above 0")
        shares = (self.momentum, self.centre_momentum, self.teacher_warmup)
        if not all(0 <= share <= 1 for share in shares) or not 0 < self.masked_share < 1:
            raise UserError("--objective.momentum, centre-momentum, teacher-warmup and masked-share are shares of 1")
        if min(self.patch_weight, self.koleo) < 0:
            raise UserError("--objective.patch-weight and koleo must be at least 0")


class Projection(nn.Module):
    """From representations to prototypes: three layers with GELU, length 1, and directions of length 1 to compare."""

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
                # of 2,048 inputs nearly the authors' 0.02, which would leave narrow layers next to nothing to normalise
                nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b prototypes"]:
        return F.linear(F.normalize(self.layers(x), dim=-1), F.normalize(self.prototypes.weight, dim=-1))


class DINOLearner(Learner):
    """A student, `encoder`, and the running average that teaches it, which is what is kept."""

    def __init__(self, model: Model, config: DINOConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.encoder = plain_vit(model, what="DINO")
        self.config = config
        self.preprocessing = preprocessing
        inner = self.encoder.config
        self.project = Projection(inner.width, config)
        self.teacher = deepcopy(self.encoder).requires_grad_(False)
        self.teacher_project = deepcopy(self.project).requires_grad_(False)
        # DDP wants every weight to learn
        self.mask_token = nn.Parameter(torch.zeros(inner.width), requires_grad=config.patch_weight > 0)
        self.centre, self.patch_centre = (Centre(config.prototypes, momentum=config.centre_momentum) for _ in range(2))
        self.teacher_temperature = nn.Buffer(torch.tensor(config.teacher_temperature[0]))
        self.sizes = (inner.image_hw, local_size(config.views, inner.image_hw, inner.patch_hw))

    def models(self) -> tuple[ViT, ViT]:
        """See `Learner`: the teacher is what is kept."""
        return self.teacher, self.encoder

    def forward(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> dict[str, Float[Tensor, " b"]]:
        """See `Learner`: the mean cross-entropy of all pairs of a teacher's view and another view of the student."""
        config = self.config
        large, small = self.views(images, keys)
        with torch.no_grad():
            tokens = self.teacher.encode(*self.teacher.embed(large))
            outputs = self.teacher_project(pooled(self.teacher, tokens)).float()
            told = self.assigned(outputs, self.centre.mean).unflatten(0, (2, -1))
            self.centre.remember(outputs)
        mask = self.masks(keys, large)
        seen = self.student_tokens(large, mask)
        features = pooled(self.encoder, seen)
        said = [self.project(features)]
        if len(small):
            said.append(self.project(pooled(self.encoder, self.encoder.encode(*self.encoder.embed(small)))))
        views = torch.cat([part.unflatten(0, (-1, len(images))) for part in said]).float()
        logs = F.log_softmax(views / config.student_temperature, dim=2)
        pairs = [-(told[i] * logs[j]).sum(1) for i in range(2) for j in range(len(logs)) if i != j]
        figures = {"loss": torch.stack(pairs).mean(0)}
        figures["entropy"] = -(told * told.clamp(min=1e-12).log()).sum(2).mean(0)
        if config.patch_weight > 0:
            figures["patch_loss"] = self.patch_losses(tokens, seen, mask)
            figures["loss"] = figures["loss"] + config.patch_weight * figures["patch_loss"]
        if config.koleo > 0:
            figures["koleo"] = torch.stack([koleo(part) for part in features.chunk(2)]).mean(0)
            figures["loss"] = figures["loss"] + config.koleo * figures["koleo"]
        return figures

    def views(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]
    ) -> tuple[Float[Tensor, "large c h w"], Float[Tensor, "small c p q"]]:
        """Two large views of each image, one after the other, and the small ones; in the model's range."""
        shares, config = self.preprocessing.shares(images), self.config.views

        def drawn(numbers: range, area: tuple[float, float], size: tuple[int, int]) -> Float[Tensor, "views c p q"]:
            parts = [
                view(shares, keys, number=number, area=area, size=size, jitter=config.jitter) for number in numbers
            ]
            return self.preprocessing.scaled(torch.cat(parts)) if parts else shares.new_zeros(0, shares.shape[1], *size)

        large = drawn(range(2), config.global_area, self.sizes[0])
        return large, drawn(range(2, 2 + config.num_local), config.local_area, self.sizes[1])

    def masks(self, keys: Int64[Tensor, " b"], large: Float[Tensor, "large c h w"]) -> Int64[Tensor, "large m"]:
        """Which patches of large views are masked; none without iBOT's loss."""
        n = (large.shape[2] // self.encoder.config.patch_hw[0]) * (large.shape[3] // self.encoder.config.patch_hw[1])
        m = max(1, round(self.config.masked_share * n)) if self.config.patch_weight > 0 else 0
        return torch.cat([sample_without_replacement(keys, m, of=n, use=MASKED + number) for number in range(2)])

    def student_tokens(self, images: Float[Tensor, "b c h w"], mask: Int64[Tensor, "b m"]) -> Float[Tensor, "b t d"]:
        """Final tokens of images whose masked patches are hidden."""
        embedded = self.encoder.patches(images)
        hidden = (
            torch.zeros(embedded.shape[:3], dtype=torch.bool, device=images.device).flatten(1).scatter(1, mask, True)
        )
        token = self.mask_token.to(embedded.dtype)
        changed = torch.where(hidden.view(*embedded.shape[:3], 1), token, embedded)
        return self.encoder.encode(*self.encoder.assemble(changed))

    def patch_losses(
        self, told: Float[Tensor, "large t d"], seen: Float[Tensor, "large t d"], mask: Int64[Tensor, "large m"]
    ) -> Float[Tensor, " b"]:
        """iBOT's loss: the mean cross-entropy of masked patches."""
        prefix = self.encoder.config.num_prefix_tokens
        with torch.no_grad():
            outputs = self.teacher_project(taken(told[:, prefix:], mask)).float().flatten(0, 1)
            targets = self.assigned(outputs, self.patch_centre.mean).view(*mask.shape, -1)
            self.patch_centre.remember(outputs)
        said = self.project(taken(seen[:, prefix:], mask)).float()
        logs = F.log_softmax(said / self.config.student_temperature, dim=2)
        return torch.stack((-(targets * logs).sum(2).mean(1)).chunk(2)).mean(0)

    def assigned(self, outputs: Float[Tensor, "n p"], centre: Float[Tensor, " p"]) -> Float[Tensor, "n p"]:
        """The teacher's probabilities."""
        if self.config.assignment == "sinkhorn":
            return sinkhorn(outputs, temperature=self.teacher_temperature)
        return F.softmax((outputs - centre) / self.teacher_temperature, dim=1)

    @torch.no_grad()
    def after_step(self, *, progress: float) -> None:
        """See `Learner`: moves teacher, centres and temperature."""
        config = self.config
        momentum = 1 - (1 - config.momentum) * (1 + math.cos(math.pi * progress)) / 2
        pairs = [(self.teacher, self.encoder), (self.teacher_project, self.project)]
        means, weights = ([weight for pair in pairs for weight in pair[side].parameters()] for side in (0, 1))
        get_ema_multi_avg_fn(momentum)(means, weights, 0)
        self.centre.update()
        self.patch_centre.update()
        first, last = config.teacher_temperature
        risen = min(progress / config.teacher_warmup, 1.0) if config.teacher_warmup else 1.0
        self.teacher_temperature.fill_(first + (last - first) * risen)

    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """See `Learner`: the views that are compared."""
        large, small = self.views(images, keys)
        shown = {
            f"{kind} view {number + 1}": part
            for kind, views in (("large", large), ("small", small))
            for number, part in enumerate(views.split(len(images))[:2])
        }
        return [
            *(Panel(title=title, images=as_pixels(self.preprocessing.shares(part))) for title, part in shown.items()),
            Panel(title="image", images=as_pixels(self.preprocessing.shares(images))),
        ]


def pooled(model: ViT, tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
    """The representation of images by their final tokens."""
    return model.pool(tokens[:, model.pool_tokens])


def local_size(views: ViewConfig, image_hw: tuple[int, int], patch_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width of small views, in whole patches.

    Raises:
        UserError: the size that is asked for has none.
    """
    if views.local_size is None:
        (h, w), (p, q) = image_hw, patch_hw
        return max(1, round(h * 3 / 7 / p)) * p, max(1, round(w * 3 / 7 / q)) * q
    if any(views.local_size % patch for patch in patch_hw):
        raise UserError(f"--objective.views.local-size must be a multiple of the patch size {patch_hw}")
    return views.local_size, views.local_size
