"""Every figure of a survey by name."""

from collections.abc import Callable

from matplotlib.figure import Figure

from vitral.inspection.embeddings import filter_components, position_similarity
from vitral.inspection.figures import (
    distance_figure,
    filters_figure,
    positions_figure,
    relevance_figure,
    tokens_figure,
)
from vitral.inspection.picture import attention_figure, rollout_figure
from vitral.inspection.survey import Survey, uniform_distance

__all__ = ["NEEDS_IMAGES", "draw"]

NEEDS_IMAGES = ("attention", "rollout", "distance", "tokens", "relevance")
"""Figures of a model that looks at images; the others show its weights alone."""


def draw(name: str, survey: Survey, *, shared_scale: bool = False) -> Figure:
    """One figure; call it inside `font_fallback`.

    Args:
        name: a key of `DRAWN`.
        survey: a model and its images.
        shared_scale: whether the layers of the figure attention share a colour scale.

    Raises:
        UserError: the model does not have what the figure shows, or an image cannot be read.
    """
    if name == "attention":
        return attention_figure(survey.looks, shared_scale=shared_scale)
    return DRAWN[name](survey)


def _distance(survey: Survey) -> Figure:
    distances, count = survey.distances
    config = survey.model.config
    return distance_figure(distances, uniform=uniform_distance(config.grid, config.patch_hw), num_images=count)


DRAWN: dict[str, Callable[[Survey], Figure]] = {
    "rollout": lambda survey: rollout_figure(survey.looks),
    "distance": _distance,
    "positions": lambda survey: positions_figure(position_similarity(survey.model), grid=survey.model.config.grid),
    "filters": lambda survey: filters_figure(filter_components(survey.model)),
    "tokens": lambda survey: tokens_figure(survey.looks, *survey.tokens()),
    "relevance": lambda survey: relevance_figure(survey.looks, *survey.relevance()),
}
