"""Filters are scikit-learn's principal components; similarities are symmetric with a diagonal of 1."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.testing import assert_close

from models import small_model
from vitral.errors import UserError
from vitral.inspection.embeddings import filter_components, position_similarity


def test_filters_are_the_principal_components() -> None:
    model = small_model(width=36, num_heads=3)
    components = filter_components(model, count=5)
    assert components.shape == (5, 8, 8, 3)
    filters = model.patch_embed.proj.weight.detach().numpy().reshape(36, -1)
    expected = PCA(n_components=5, svd_solver="full").fit(filters.astype(float)).components_
    np.testing.assert_allclose(components.transpose(0, 3, 1, 2).reshape(5, -1), expected, atol=1e-9)
    # and by the definition: eigenvectors of the covariance, the largest eigenvalue first
    covariance = np.cov(filters.astype(float).T)
    for vector in components.transpose(0, 3, 1, 2).reshape(5, -1):
        value = vector @ covariance @ vector
        np.testing.assert_allclose(covariance @ vector, value * vector, atol=1e-9)


def test_there_are_no_more_components_than_filters_or_values() -> None:
    assert len(filter_components(small_model())) == 12
    assert len(filter_components(small_model(patch_size=2, channels=1, image_size=8))) == 4


def test_a_hybrid_has_no_filters_of_pixels() -> None:
    with pytest.raises(UserError, match="is a hybrid"):
        filter_components(small_model(stem_stages=(), image_size=64, patch_size=8))


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(position="learned_2d", num_registers=2),
        dict(position="factorized_2d", pool="gap"),
        dict(position="sincos_2d"),
        dict(position_injection="every_layer"),
        dict(image_size=(40, 8)),
    ],
)
def test_similarities_are_symmetric_with_a_diagonal_of_one(changes: dict[str, Any]) -> None:
    model = small_model(**changes)
    similarity = position_similarity(model)
    patches = model.config.grid[0] * model.config.grid[1]
    assert similarity.shape == (patches, patches)
    assert_close(similarity, similarity.T)
    assert_close(similarity.diagonal(), torch.ones(patches, dtype=torch.float64))
    assert similarity.abs().max() <= 1 + 1e-9


def test_similarities_are_those_of_the_table_without_the_class_token() -> None:
    model = small_model()
    table = model.pos_embed.detach()[0, 1:].double()
    assert position_similarity(model)[0, 4].item() == pytest.approx(
        torch.cosine_similarity(table[0], table[4], dim=0).item()
    )


@pytest.mark.parametrize("position", ["none", "relative", "rope"])
def test_models_that_add_no_positions_are_refused(position: str) -> None:
    with pytest.raises(UserError, match="adds no position embedding"):
        position_similarity(small_model(position=position))
