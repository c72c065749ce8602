"""Images of any aspect ratio in one batch have the outputs and gradients of the images run one by one."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vitral.data.images.patch_rows import PLACE
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.inspection.attention import attention_weights
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

SIZES = [(40, 40), (90, 16), (12, 80), (33, 50), (200, 5)]
SPEC = Preprocessing(image_size=(16, 12), channels=3, resize="native_aspect", patch_size=(4, 3), max_patches=23)


def model_of(**changes: Any) -> ViT:
    """A random float64 model for 4x3 patches."""
    sizes: dict[str, Any] = dict(image_size=(16, 12), patch_size=(4, 3), width=24, depth=2, num_heads=3, mlp_dim=40)
    model = ViT(ViTConfig(**{**sizes, "num_classes": 5, "pool": "gap", **changes})).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
        if not model.positions.learned:
            model.positions.fill(model.pos_embed)
    return model


def images_of(sizes: list[tuple[int, int]] = SIZES) -> tuple[list[Tensor], Tensor]:
    """Images at the size that they have in the batch, and the batch of their rows."""
    prng = np.random.default_rng(0)
    pictures = [Image.fromarray(prng.integers(0, 256, (*size[::-1], 3), np.uint8)) for size in sizes]
    rows = SPEC.normalise(torch.from_numpy(np.stack([SPEC.pixels(picture) for picture in pictures]))).double()
    return [whole(row) for row in rows], rows


def whole(rows: Tensor) -> Tensor:
    """The image whose patches the rows are."""
    gh, gw = (int(side) for side in rows[:, :PLACE].amax(dim=0))
    patches = rows[: gh * gw, PLACE:].reshape(gh, gw, 3, 4, 3)
    return patches.permute(2, 0, 3, 1, 4).reshape(1, 3, gh * 4, gw * 3)


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(pool="cls"),
        dict(pool="cls_gap", num_registers=2),
        dict(pool="map", pre_norm=True),
        dict(pool="cls", distillation=True, num_registers=1),
        dict(pooled_norm=True, position="none", qk_norm=True),
        dict(pool="cls", num_registers=2, position="learned_1d", position_injection="every_layer"),
        dict(pool="cls", num_registers=2, position="learned_2d", position_injection="every_layer_shared"),
        dict(pool="cls_gap", position="factorized_2d"),
        dict(pool="map", position="sincos_2d", num_registers=2),
        dict(pool="cls", position="sincos_2d_mae"),
        dict(pool="cls", position="rope", num_registers=2, width=36),
    ],
)
def test_a_batch_has_the_outputs_of_single_images(changes: dict[str, Any]) -> None:
    model, (images, rows) = model_of(**changes), images_of()
    assert (rows[:, :, 0] == 0).any()
    alone, together = [model.features(image) for image in images], model.features(rows)
    # fixed positions are kept in float32 for the model's own grid
    torch.testing.assert_close(model(rows), torch.cat([model(image) for image in images]), rtol=0, atol=1e-6)
    torch.testing.assert_close(together.pooled, torch.cat([one.pooled for one in alone]), rtol=0, atol=1e-6)
    for number, one in enumerate(alone):
        patches = together.patches[number, : one.patches.shape[1]]
        torch.testing.assert_close(patches, one.patches[0], rtol=0, atol=1e-6)
        torch.testing.assert_close(together.registers[number], one.registers[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("changes", [dict(position="factorized_2d"), dict(pool="cls"), dict(pool="map")])
def test_a_batch_has_the_gradients_of_single_images(changes: dict[str, Any]) -> None:
    model, (images, rows) = model_of(**changes), images_of()
    parameters = list(model.parameters())
    alone = torch.autograd.grad(torch.cat([model(image) for image in images]).square().sum(), parameters)
    together = torch.autograd.grad(model(rows).square().sum(), parameters)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("changes", [dict(), dict(pool="cls", position="rope", width=36), dict(pool="map")])
def test_what_fills_up_a_sequence_does_not_matter(changes: dict[str, Any]) -> None:
    model, (_, rows) = model_of(**changes), images_of()
    padding = rows[:, :, :1] == 0
    other = torch.where(padding & (torch.arange(rows.shape[2]) >= PLACE), torch.randn_like(rows) * 100, rows)
    assert not torch.equal(rows, other)
    torch.testing.assert_close(model(other), model(rows), rtol=0, atol=1e-12)
    longer = torch.cat([rows, rows.new_zeros(len(rows), 7, rows.shape[2])], dim=1)
    torch.testing.assert_close(model(longer), model(rows), rtol=0, atol=1e-12)


def test_attention_weights_are_those_of_single_images() -> None:
    model, (images, rows) = model_of(pool="cls"), images_of()
    for layer, weights in enumerate(attention_weights(model, rows)):
        for number, image in enumerate(images):
            alone = attention_weights(model, image)[layer][0]
            count = alone.shape[-1]
            torch.testing.assert_close(weights[number, :, :count, :count], alone, rtol=0, atol=1e-9)
            assert not weights[number, :, :, count:].any()


def test_the_order_of_patches_does_not_matter() -> None:
    model, (_, rows) = model_of(pool="cls"), images_of([(40, 40)])
    count = int((rows[0, :, 0] > 0).sum())
    shuffled = torch.cat([rows[:, torch.randperm(count)], rows[:, count:]], dim=1)
    torch.testing.assert_close(model(shuffled), model(rows), rtol=0, atol=1e-12)


def test_an_unreadable_image_leaves_gradients_finite() -> None:
    model = model_of(pool="map").train()
    rows = torch.cat([images_of()[1][:1], torch.zeros(1, 23, PLACE + 36, dtype=torch.float64)])
    model(rows)[0].sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(attention="axial"), "axial attention and a hybrid's ResNet need whole images"),
        (dict(stem_stages=(1,), patch_size=(8, 8), image_size=16), "axial attention and a hybrid's ResNet need"),
        (dict(position="relative"), "choose another position than relative"),
        (dict(position_resample="timm"), "need position_resample google, not timm"),
    ],
)
def test_models_that_need_whole_images_raise(changes: dict[str, Any], sentence: str) -> None:
    model = model_of(**changes)
    values = PLACE + 3 * model.config.patch_hw[0] * model.config.patch_hw[1]
    with pytest.raises(UserError, match=sentence):
        model(torch.zeros(1, 4, values, dtype=torch.float64))


@pytest.mark.parametrize("changes", [dict(patch_dropout=0.5), dict(drop_path=0.5, drop_path_form="batch")])
def test_parts_that_drop_parts_of_the_batch_raise_in_training(changes: dict[str, Any]) -> None:
    model, (_, rows) = model_of(**changes), images_of()
    assert model(rows).shape == (5, 5)
    with pytest.raises(UserError, match="patch_dropout, and drop_path with drop_path_form batch"):
        model.train()(rows)


def test_rows_of_another_size_raise() -> None:
    with pytest.raises(UserError, match=r"rows of patches of shape \(batch, patches, 38\), not \(1, 4, 37\)"):
        model_of()(torch.zeros(1, 4, 37, dtype=torch.float64))
    with pytest.raises(UserError, match="outputs of single blocks are those of whole images"):
        model_of().forward_features(images_of()[1])


@pytest.mark.compile
@pytest.mark.parametrize("pool", ["gap", "cls", "map"])
def test_one_compiled_graph_serves_other_images(pool: str) -> None:
    torch.compiler.reset()
    model = model_of(pool=pool)
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for sizes in ([(8, 12), (4, 3), (12, 3)], [(40, 9), (16, 6), (4, 60)]):
        _, rows = images_of(sizes)
        torch.testing.assert_close(compiled(rows), model(rows), rtol=0, atol=1e-12)
    assert len(graphs) == 1
