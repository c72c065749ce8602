"""Shapes in signatures are checked while tests run, cost nothing otherwise, and leave the model one graph."""

import jaxtyping
import pytest
import torch

from vitral.vit import ViT, ViTConfig


@pytest.fixture(params=["cls", "gap"])
def model(request: pytest.FixtureRequest) -> ViT:
    """A model small enough to compile in seconds, with a head that gives more than zeros."""
    sizes = dict(image_size=8, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=5)
    vit = ViT(ViTConfig(**sizes, pool=request.param)).eval()
    torch.nn.init.normal_(vit.head.weight)
    return vit


def test_a_wrong_rank_is_caught(model: ViT) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        model.classify(torch.zeros(16))


@pytest.mark.compile
def test_the_model_compiles_into_one_graph(model: ViT) -> None:
    images = torch.rand(2, 3, 8, 8)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.compile
def test_the_model_exports(model: ViT) -> None:
    images = torch.rand(2, 3, 8, 8)
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))
