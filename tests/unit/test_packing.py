"""Packed images have the logits of the images run one by one."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from vitral.packing import Packed, pack, packed_logits
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

SIZES = [(8, 12), (16, 6), (4, 3), (12, 3), (4, 9), (8, 12)]


def model_of(**changes: Any) -> ViT:
    """A random float64 model for 4x3 patches."""
    sizes: dict[str, Any] = dict(
        image_size=(8, 12), patch_size=(4, 3), channels=2, width=24, depth=2, num_heads=3, mlp_dim=40, num_classes=5
    )
    model = ViT(ViTConfig(**{**sizes, "pool": "gap", **changes})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
        if not model.positions.learned:
            model.positions.fill(model.pos_embed)
    return model


def images_of(sizes: Sequence[tuple[int, int]] = SIZES) -> list[Tensor]:
    return [torch.rand(2, *size, dtype=torch.float64) * 2 - 1 for size in sizes]


def packed(images: list[Tensor], *, length: int = 12, max_images: int = 3, num_sequences: int = 4) -> Packed:
    return pack(images, patch_hw=(4, 3), length=length, max_images=max_images, num_sequences=num_sequences)


@pytest.mark.parametrize("pool", ["gap", "map"])
@pytest.mark.parametrize(
    ("position", "injection"),
    [
        ("none", "stem"),
        ("learned_1d", "stem"),
        ("learned_1d", "every_layer"),
        ("learned_2d", "every_layer_shared"),
        ("factorized_2d", "stem"),
        ("sincos_2d", "stem"),
        ("sincos_2d_mae", "every_layer_shared"),
        ("rope", "stem"),
    ],
)
def test_packed_images_have_the_logits_of_single_images(pool: str, position: str, injection: str) -> None:
    model = model_of(pool=pool, position=position, position_injection=injection)
    images = images_of()
    alone = torch.cat([model(image[None]) for image in images])
    together = packed_logits(model, packed(images))
    # fixed positions are kept in float32 for the model's own grid
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("changes", [dict(pre_norm=True), dict(pooled_norm=True), dict(pool="map", pooled_norm=True)])
def test_norms_before_the_blocks_and_after_pooling_apply_to_packed_images(changes: dict[str, Any]) -> None:
    model, images = model_of(**changes), images_of()
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(packed_logits(model, packed(images)), alone, rtol=0, atol=1e-12)


def test_packed_images_have_the_gradients_of_single_images() -> None:
    model, images = model_of(position="factorized_2d"), images_of()
    parameters = list(model.parameters())
    alone = torch.autograd.grad(torch.cat([model(image[None]) for image in images]).square().sum(), parameters)
    together = torch.autograd.grad(packed_logits(model, packed(images)).square().sum(), parameters)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    model, images = model_of(), images_of()
    before = packed_logits(model, packed(images))
    images[1] = -images[1]
    after = packed_logits(model, packed(images))
    changed = (after - before).abs().amax(dim=1) > 1e-12
    assert changed.tolist() == [False, True, False, False, False, False]


def test_shapes_depend_on_the_lengths_only() -> None:
    few, many = packed(images_of([(4, 3)])), packed(images_of())
    assert few.patches.shape == many.patches.shape == (4, 12, 24)
    assert few.image.shape == many.image.shape == (4, 12)
    assert few.fill_fraction == pytest.approx(1 / 48)
    assert many.fill_fraction == pytest.approx((8 + 8 + 1 + 3 + 3 + 8) / 48)


def test_patches_and_coordinates_are_those_of_the_images() -> None:
    image = images_of([(8, 6)])[0]
    sequences = packed([image])
    assert sequences.coordinates.index[0, :4].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert sequences.coordinates.grids[0, :4].tolist() == [[2, 2]] * 4
    assert torch.equal(sequences.patches[0, 1], image[:, :4, 3:].flatten())
    assert sequences.image[0].tolist() == [0] * 4 + [-1] * 8


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(pool="cls"), "the model needs pool gap or map, and no registers"),
        (dict(num_registers=1), "the model needs pool gap or map, and no registers"),
        (dict(attention="axial"), "axial attention and a hybrid's ResNet need whole images"),
        (dict(position="relative"), "choose another position than relative"),
        (dict(position_resample="timm"), "need position_resample google, not timm"),
    ],
)
def test_models_that_do_not_support_packed_images_raise(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        packed_logits(model_of(**changes), packed(images_of()))


@pytest.mark.parametrize(
    "changes", [dict(patch_dropout=0.5), dict(drop_path=0.5), dict(drop_path=0.5, drop_path_form="batch")]
)
def test_parts_that_drop_images_raise_in_training(changes: dict[str, Any]) -> None:
    model, images = model_of(**changes), packed(images_of())
    assert packed_logits(model, images).shape == (6, 5)
    with pytest.raises(ValueError, match="drop whole images, not sequences of several"):
        packed_logits(model.train(), images)


def test_packing_stays_on_the_images_device() -> None:
    images = [image.to("meta") for image in images_of()]
    sequences = packed(images)
    assert packed_logits(model_of(pool="map").to("meta"), sequences).shape == (6, 5)


def test_images_that_do_not_fit_raise() -> None:
    for images in ([], [torch.zeros(2, 4, 3), torch.zeros(3, 4, 3)]):
        with pytest.raises(ValueError, match="at least one image, and the same number of channels"):
            packed(images)
    with pytest.raises(ValueError, match="packed with another patch size, or other channels"):
        packed_logits(model_of(), packed([torch.zeros(3, 4, 3, dtype=torch.float64)]))
    with pytest.raises(ValueError, match="2 images do not fit into 1 sequences of 12 patches and 3 images: one of 8"):
        packed(images_of([(8, 12), (8, 12)]), num_sequences=1)
    with pytest.raises(ValueError, match="2 images do not fit"):
        packed(images_of([(4, 3), (4, 3)]), num_sequences=1, max_images=1)
    with pytest.raises(ValueError, match="image size 9x12 is not divisible by patch size 4x3: choose 8x12"):
        packed(images_of([(9, 12)]))


@pytest.mark.compile
@pytest.mark.parametrize("pool", ["gap", "map"])
def test_one_compiled_graph_serves_other_images(pool: str) -> None:
    torch.compiler.reset()
    model = model_of(pool=pool, position="factorized_2d")
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(packed_logits, fullgraph=True, backend=backend)
    for sizes in ([(8, 12), (4, 3), (12, 3)], [(4, 9), (16, 6), (4, 6)]):
        images = packed(images_of(sizes))
        torch.testing.assert_close(compiled(model, images), packed_logits(model, images), rtol=0, atol=1e-12)
    assert len(graphs) == 1
