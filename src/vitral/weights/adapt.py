"""A trained model for other classes, another resolution, other patches or other channels than it was trained for."""

from dataclasses import replace
from typing import Any

from vitral.card import ModelCard
from vitral.config import pair
from vitral.errors import UserError
from vitral.models import Model, build
from vitral.weights.transfer import transfer

__all__ = ["adapted"]


def adapted(model: Model, **asked: Any) -> tuple[Model, list[str]]:
    """The model with `num_classes`, `image_size`, `patch_size` or `channels` as asked, and a sentence on each change.

    Another number of classes gives a head of zeros, whose classes have numbers for names, without the tanh layer
    before it; positions are resampled as the trained model resamples them (see `transfer`). The same number of classes
    keeps the head. A model that is so already is returned as it is.

    Raises:
        UserError: the model has no such part, or the sizes do not fit each other.
    """
    config = model.config
    wrong = [name for name in asked if not hasattr(config, name)]
    if wrong:
        raise UserError(f"a {type(model).__name__} has no {wrong[0]} to change")
    if all(pair(getattr(config, name)) == pair(value) for name, value in asked.items()):
        return model, []
    fresh = asked.get("num_classes", config.num_classes) != config.num_classes
    if fresh and getattr(config, "representation_size", None) is not None:
        asked["representation_size"] = None
    target = build(replace(config, **asked))
    card = model.card
    if fresh or card is None:
        classes = tuple(f"class {label}" for label in range(target.config.num_classes))
    else:
        classes = card.classes
    said = transfer(model, target, classes=classes)
    if card is not None:
        target.card, without = _fitted(card, target, classes)
        said += without
    return target.eval(), said


def _fitted(card: ModelCard, target: Model, classes: tuple[str, ...]) -> tuple[ModelCard | None, list[str]]:
    """The card for the adapted model, which was never measured; None where no image file has such channels."""
    size, channels = target.config.image_hw, target.config.channels
    try:
        preprocessing = card.preprocessing.fitted(image_size=size, channels=channels)
    except ValueError:
        return None, [f"no card: image files are read with 1 or 3 channels, not {channels}"]
    return replace(card, preprocessing=preprocessing, classes=classes, metrics={}), []
