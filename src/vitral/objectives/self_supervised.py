"""Learning without labels: the parts that masked patch prediction, MAE and DINO share."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vitral.data.augment.mixing import Examples
from vitral.data.batches import Targets, readable
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.entry import RunSettings
from vitral.objectives.objective import Metrics, Panel
from vitral.vit import ViT

__all__ = ["Learner", "SelfSupervised", "plain_vit", "refuse_probe"]


class Learner(nn.Module):
    """A Vision Transformer, `encoder`, with the parts that only its training needs."""

    encoder: ViT
    """The model that gradients train."""

    def models(self) -> Sequence[ViT]:
        """The models inside, which start from the same weights. The first is evaluated and saved."""
        return (self.encoder,)

    def extract_features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Features of the saved model for images in its range: the representation y of Eq. 4."""
        return self.models()[0].features(images).pooled

    @abstractmethod
    def forward(
        self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"], readable: Bool[Tensor, " b"]
    ) -> dict[str, Float[Tensor, " b"]]:
        """The `loss` of each image, and further metrics of each.

        Args:
            images: in the model's range.
            keys: seeds of each image's random numbers.
            readable: which images could be read. The values of others are ignored, and must not change those of
                readable images.
        """

    def after_step(self, *, progress: float) -> None:
        """Updates, after an optimiser step, what gradients do not; `progress` is 1 at the run's last step."""

    @abstractmethod
    def panels(self, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"]) -> Sequence[Panel]:
        """The images beside the model's outputs for them."""


class SelfSupervised:
    """An objective whose learner computes each image's loss. Labels only say which images could be read."""

    def __init__(self, make: Callable[[Model], Learner]) -> None:
        self.make = make

    def learner(self, model: Model) -> Learner:
        """See `Objective`."""
        return self.make(model)

    def models(self, learner: nn.Module) -> Sequence[Model]:
        """See `Objective`."""
        assert isinstance(learner, Learner)
        return learner.models()

    def weight(self, labels: Targets) -> Tensor:
        """See `Objective`: the number of readable images."""
        return readable(labels).sum()

    def loss(
        self, forward: Callable[..., dict[str, Float[Tensor, " b"]]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Objective`."""
        is_readable = readable(examples.labels)
        count = is_readable.sum().clamp(min=1)
        metrics = forward(examples.images, examples.keys, is_readable)
        means = {name: torch.where(is_readable, values, 0.0).sum() / count for name, values in metrics.items()}
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
    """The model, if it is a Vision Transformer that uses all of its patches. Its classifier is frozen, because nothing
    trains it without labels.

    Raises:
        UserError: it is a ResNet, or drops patches.
    """
    if not isinstance(model, ViT):
        raise UserError(f"{what} needs a Vision Transformer, as a ResNet has no patches: choose another --model.name")
    if model.config.patch_dropout:
        raise UserError(f"{what} leaves out patches itself: set --model.patch-dropout 0")
    for part in (model.head, model.pre_logits, model.pool):
        part.requires_grad_(False)
    return model


def refuse_probe(run: RunSettings) -> None:
    """Validates a run whose objective learns without labels.

    Raises:
        UserError: it trains a linear probe.
    """
    if run.data.target != "class":
        raise UserError(f"{run.objective.name} learns without labels: leave out --data.target {run.data.target}")
    if run.model.probe:
        raise UserError("a linear probe learns classes: choose a recipe that does, such as finetune")
