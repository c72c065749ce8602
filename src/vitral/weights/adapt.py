"""A trained model with another number of classes or channels, another image size or another patch size."""

from dataclasses import replace
from typing import Any

from vitral.card import ModelCard
from vitral.config import pair
from vitral.errors import UserError
from vitral.models import Model, build
from vitral.weights.options import check_options
from vitral.weights.transfer import transfer_weights

__all__ = ["adapt_model"]


def adapt_model(model: Model, **changes: Any) -> tuple[Model, list[str]]:
    """Builds a model with other `num_classes`, `image_size`, `patch_size` or `channels`, and transfers the weights.

    Another number of classes gives a zero head without the tanh layer before it; its class names are numbers. Positions
    are interpolated as the trained model interpolates them (see `transfer_weights`). With the same number of classes,
    the head stays. If nothing changes, the model itself is returned.

    Returns:
        The model, and one sentence for each change.

    Raises:
        UserError: the model has no such field, or the sizes do not fit each other.
    """
    config = model.config
    unknown = [name for name in changes if not hasattr(config, name)]
    if unknown:
        raise UserError(f"a {type(model).__name__} has no {unknown[0]} to change")
    changes = check_options(changes, type(config))
    if changes.get("num_classes") == 0:
        raise UserError("num_classes must be at least 1, not 0: leave it out, and call model.features(images).pooled")
    if all(pair(getattr(config, name)) == pair(value) for name, value in changes.items()):
        return model, []
    new_head = changes.get("num_classes", config.num_classes) != config.num_classes
    if new_head and getattr(config, "representation_size", None) is not None:
        changes["representation_size"] = None
    target = build(replace(config, **changes))
    card = model.card
    if new_head or card is None:
        classes = tuple(f"class {label}" for label in range(target.config.num_classes))
    else:
        classes = card.classes
    notes = transfer_weights(model, target, classes=classes)
    if card is not None:
        target.card, card_notes = _adapt_card(card, target, classes)
        notes += card_notes
    return target.eval(), notes


def _adapt_card(card: ModelCard, target: Model, classes: tuple[str, ...]) -> tuple[ModelCard | None, list[str]]:
    """Card of the adapted model, without metrics; None if image files cannot have its number of channels."""
    size, channels = target.config.image_hw, target.config.channels
    patch = getattr(target.config, "patch_hw", None)
    try:
        preprocessing = card.preprocessing.with_input(image_size=size, channels=channels, patch_size=patch)
    except UserError as error:
        return None, [f"no card: {error}"]
    return replace(card, preprocessing=preprocessing, classes=classes, metrics={}), []
