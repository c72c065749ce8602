"""Merged tokens beside an implementation in NumPy that merges pair by pair, and beside images that lose nothing."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import vitral
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.token_merging import average_tokens, match_tokens, merge_tokens
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

Array = np.ndarray


def model_of(**changes: Any) -> ViT:
    """A random float64 model for 4x5 patches."""
    sizes: dict[str, Any] = dict(
        image_size=(8, 10), patch_size=2, channels=1, width=12, depth=3, num_heads=2, mlp_dim=20, num_classes=4
    )
    model = ViT(ViTConfig(**{**sizes, **changes})).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4, generator=generator)
    return model


def images_of(count: int = 3) -> Tensor:
    return torch.rand(count, 1, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def merge_in_numpy(x: Array, size: Array, keys: Array, *, prefix: int, pairs: int) -> tuple[Array, Array]:
    """Tokens (t d) and sizes (t) of one image after merging, from the definition."""
    patches = range(prefix, len(x))
    even, odd = ([index for index in patches if index % 2 == rest] for rest in (0, 1))
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    nearest = {index: max(odd, key=lambda other: unit[index] @ unit[other]) for index in even}
    merged = sorted(even, key=lambda index: unit[index] @ unit[nearest[index]], reverse=True)[:pairs]
    groups = {index: [index] + [other for other in merged if nearest[other] == index] for index in odd}
    order = [[index] for index in [*range(prefix), *(index for index in even if index not in merged)]]
    members = [*order, *groups.values()]
    weights = [size[group] / size[group].sum() for group in members]
    return (
        np.stack([weight @ x[group] for weight, group in zip(weights, members, strict=True)]),
        np.array([size[group].sum() for group in members]),
    )


def layer_norm(x: Array, norm: torch.nn.LayerNorm) -> Array:
    weight, bias = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps) * weight + bias


def dense(x: Array, layer: torch.nn.Linear) -> Array:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def logits_in_numpy(model: ViT, image: Tensor, per_block: int) -> Array:
    """Logits of a model that pools by average, one image at a time and one head at a time."""
    x = model.embed(image[None])[0][0].detach().numpy()
    size, heads = np.ones(len(x)), model.config.num_heads
    for block in model.blocks:
        qkv = dense(layer_norm(x, block.norm1), block.attn.qkv).reshape(len(x), 3, heads, -1)
        outputs = []
        for head in range(heads):
            q, k, v = qkv[:, 0, head], qkv[:, 1, head], qkv[:, 2, head]
            weights = np.exp(q @ k.T / np.sqrt(k.shape[1])) * size  # a token counts once for each of its patches
            outputs.append(weights / weights.sum(1, keepdims=True) @ v)
        x = x + dense(np.concatenate(outputs, axis=1), block.attn.proj)
        pairs = min(per_block, (len(x) - model.config.num_prefix_tokens) // 2)
        keys = qkv[:, 1].mean(axis=1)
        x, size = merge_in_numpy(x, size, keys, prefix=model.config.num_prefix_tokens, pairs=pairs)
        hidden = dense(layer_norm(x, block.norm2), block.mlp.fc1)
        hidden = hidden * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
        x = x + dense(hidden, block.mlp.fc2)
    prefix = model.config.num_prefix_tokens
    normed = layer_norm(x, model.norm)[prefix:]
    return dense(size[prefix:] @ normed / size[prefix:].sum(), model.head)


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("pairs", [1, 3, 5])
def test_matching_and_averages_are_those_of_the_definition(prefix: int, pairs: int) -> None:
    random = np.random.default_rng(pairs + 10 * prefix)
    t = prefix + 11
    keys, x, size = random.normal(size=(2, t, 4)), random.normal(size=(2, t, 6)), random.integers(1, 9, (2, t, 1))
    target = match_tokens(torch.tensor(keys), prefix=prefix, pairs=pairs)
    merged, sizes = average_tokens(torch.tensor(x), torch.tensor(size, dtype=torch.float64), target, count=t - pairs)
    for image in range(2):
        expected = merge_in_numpy(x[image], size[image, :, 0], keys[image], prefix=prefix, pairs=pairs)
        np.testing.assert_allclose(merged[image], expected[0], atol=1e-12)
        np.testing.assert_array_equal(sizes[image, :, 0], expected[1])


@pytest.mark.parametrize("per_block", [1, 4, 100])
@pytest.mark.parametrize("registers", [0, 2])
def test_logits_are_those_in_numpy(per_block: int, registers: int) -> None:
    model, images = model_of(pool="gap", num_registers=registers), images_of()
    merge_tokens(model, per_block)
    expected = [logits_in_numpy(model, image, per_block) for image in images]
    with torch.no_grad():
        np.testing.assert_allclose(model(images), np.stack(expected), atol=1e-10)


@pytest.mark.parametrize("changes", [{"pool": "cls"}, {"pool": "gap"}, {"pool": "map"}, {"pool": "cls_gap"}])
def test_merging_equal_patches_changes_nothing(changes: dict[str, Any]) -> None:
    """Without positions, a token stands for equal patches as well as they do, wherever they are read."""
    model = model_of(position="none", **changes)
    images = torch.ones(1, 1, 8, 10, dtype=torch.float64)
    images[:, :, :, 4:8] = 0.5
    merged = copy.deepcopy(model)
    merge_tokens(merged, 2)
    with torch.no_grad():
        torch.testing.assert_close(merged(images), model(images), rtol=0, atol=1e-10)
        found, expected = merged.features(images), model.features(images)
        torch.testing.assert_close(found.patches, expected.patches, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.pooled, expected.pooled, rtol=0, atol=1e-10)


def test_every_block_has_fewer_tokens() -> None:
    model = model_of(pool="cls")
    plain = copy.deepcopy(model)
    merge_tokens(model, 3)
    lengths: list[int] = []
    for block in model.blocks:
        block.mlp.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    with torch.no_grad():
        logits = model(images_of())
    assert lengths == [18, 15, 1]  # in the last block, the class token alone is read
    with torch.no_grad():
        torch.testing.assert_close(model.classify(model.features(images_of()).pooled), logits)
        assert not torch.equal(plain(images_of()), logits)
    assert plain.run_blocks.__func__ is ViT.run_blocks


def test_a_copy_merges_with_its_own_weights() -> None:
    model = model_of()
    merge_tokens(model, 2)
    other = copy.deepcopy(model)
    with torch.no_grad():
        before = model(images_of())
        for parameter in other.blocks.parameters():
            parameter.zero_()
        torch.testing.assert_close(model(images_of()), before, rtol=0, atol=0)
        assert not torch.allclose(other(images_of()), before)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"position": "rope", "width": 16}, "rope"),
        ({"position": "relative"}, "relative"),
        ({"position_injection": "every_layer"}, "every_layer"),
        ({"attention": "axial"}, "axial"),
    ],
)
def test_other_models_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        merge_tokens(model_of(**changes), 1)


@pytest.mark.compile
@pytest.mark.parametrize("per_block", [None, 2])
def test_batches_of_any_size_are_one_graph(per_block: int | None) -> None:
    """A batch of one image is a graph of its own; from two images on, none is compiled again."""
    torch.compiler.reset()
    model, counter = model_of(pool="gap", depth=2), CompileCounter()
    if per_block is not None:
        merge_tokens(model, per_block)
    compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
    with torch.inference_mode():
        for count in (2, 1, 3, 8):
            torch.testing.assert_close(compiled(images_of(count)), model(images_of(count)), rtol=0, atol=1e-12)
    assert counter.frame_count <= 2


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UserError, match="at least 1"):
        merge_tokens(model_of(), 0)
    with pytest.raises(UserError, match="ResNet"):
        merge_tokens(vitral.create("BiT-R50x1", num_classes=2, image_size=32), 2)


def test_images_of_many_sizes_raise() -> None:
    model = model_of()
    spec = Preprocessing(image_size=(8, 10), channels=1, resize="native_aspect", max_patches=6, patch_size=(2, 2))
    model.card = ModelCard(classes=("a", "b", "c", "d"), preprocessing=spec)
    with pytest.raises(UserError, match="token merging needs images of one size"):
        merge_tokens(model, 2)
