"""Learning without labels: what masked patches, MAE and DINO share."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.objective import Figures, Panel
from vitral.vit import ViT

__all__ = ["Learner", "SelfSupervised", "plain_vit"]


class Learner(nn.Module):
    """A Vision Transformer, `encoder`, with the parts that only its training needs."""

    encoder: ViT
    """What gradients train."""

    def models(self) -> Sequence[ViT]:
        """Its models, which begin with the same weights; the first is evaluated and kept."""
        return (self.encoder,)

    def extract_features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """What the model that is kept makes of images in its range: the representation y of Eq. 4."""
        return self.models()[0].features(images).pooled

    @abstractmethod
    def forward(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> dict[str, Float[Tensor, " b"]]:
        """The loss of each image, as `loss`, and further figures of each.

        Args:
            images: in the model's range.
            keys: what each image's random numbers are drawn by.
        """

    def after_step(self, *, progress: float) -> None:
        """Changes what gradients do not, when a step was taken; `progress` reaches 1 with the last."""

    @abstractmethod
    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """The images and what was made of them."""


class SelfSupervised:
    """An objective whose learner gives each image's loss; labels only tell which images could be read."""

    def __init__(self, make: Callable[[Model], Learner]) -> None:
        self.make = make

    def learner(self, model: Model) -> Learner:
        """See `Objective`."""
        return self.make(model)

    def models(self, learner: nn.Module) -> Sequence[Model]:
        """See `Objective`."""
        assert isinstance(learner, Learner)
        return learner.models()

    def loss(
        self, forward: Callable[..., dict[str, Float[Tensor, " b"]]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Figures]:
        """See `Objective`."""
        readable = examples.labels != UNREADABLE
        count = readable.sum().clamp(min=1)
        figures = forward(examples.images, examples.keys)
        means = {name: torch.where(readable, each, 0.0).sum() / count for name, each in figures.items()}
        return means.pop("loss"), {name: value.detach() for name, value in means.items()}

    def after_step(self, learner: nn.Module, *, progress: float) -> None:
        """See `Objective`."""
        assert isinstance(learner, Learner)
        learner.after_step(progress=progress)

    @torch.no_grad()
    def panels(self, learner: nn.Module, examples: Examples) -> Sequence[Panel]:
        """See `Objective`."""
        assert isinstance(learner, Learner)
        assert examples.keys is not None
        return learner.panels(examples.images, examples.keys)


def plain_vit(model: Model, *, what: str) -> ViT:
    """The model, if it is a Vision Transformer that sees all of its patches; what classifies is kept as it is, since
    it learns nothing without labels.

    Raises:
        UserError: the model is another.
    """
    if not isinstance(model, ViT):
        raise UserError(f"{what} needs a Vision Transformer, as a ResNet has no patches: choose another --model.name")
    if model.config.patch_dropout:
        raise UserError(f"{what} leaves out patches itself: set --model.patch-dropout 0")
    for part in (model.head, model.pre_logits, model.pool):
        part.requires_grad_(False)
    return model
