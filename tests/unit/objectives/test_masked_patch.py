"""Masked patch prediction: corruption, targets, and which weights learn."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from tiny import all_readable, build_context, keys
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.objectives.masked_patch import Colours, MaskedPatchConfig, MaskedPatchLearner, Pixels, corrupted
from vitral.objectives.patches import patchify, unpatchify
from vitral.objectives.registry import build_objective
from vitral.recipes import RECIPES
from vitral.train.resolution import ResolutionConfig
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=3)
PREPROCESSING = Preprocessing(image_size=(16, 16), channels=3)
THREE_PATCHES = ResolutionConfig(sizes=(48,), until=("50percent",))


def learner(config: ViTConfig = CONFIG, **changes: object) -> MaskedPatchLearner:
    torch.manual_seed(0)
    return MaskedPatchLearner(ViT(config), MaskedPatchConfig(**changes), PREPROCESSING)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 8), (0.15, 2), (1.0, 16), (0.01, 1)])
def test_the_configured_fraction_of_patches_is_corrupted(fraction: float, count: int) -> None:
    where = corrupted(MaskedPatchConfig(corrupted_fraction=fraction), keys(50), grid=(4, 4))
    assert where.shape == (50, count)
    assert all(len(set(row)) == count for row in where.tolist())


def test_patches_are_corrupted_in_whole_units() -> None:
    where = corrupted(MaskedPatchConfig(corrupted_fraction=0.5, mask_unit=2), keys(50), grid=(4, 6))
    masks = torch.zeros(50, 24).scatter(1, where, 1.0).view(50, 2, 2, 3, 2)
    each = masks.mean((2, 4))
    assert set(each.flatten().tolist()) == {0.0, 1.0}
    assert each.sum((1, 2)).tolist() == [3.0] * 50
    assert each.mean(0).min() > 0.25, "every unit is chosen"
    recipe = RECIPES["simmim"]()
    for changes in ({"objective": MaskedPatchConfig(mask_unit=4)}, {"resolution": THREE_PATCHES}):
        with pytest.raises(ValueError, match=r"mask-unit \d does not divide a grid of"):
            replace(recipe, **changes)


@pytest.mark.parametrize("replaced_from", ["image", "batch"])
def test_four_fifths_are_masked_a_tenth_replaced_a_tenth_unchanged(replaced_from: str) -> None:
    """Each patch's embedding is its number, which shows where a replacement came from."""
    model = learner(replaced_from=replaced_from)
    count, n, d = 600, 16, CONFIG.width
    flat = torch.arange(count * n, dtype=torch.float32)[:, None].expand(-1, d).reshape(count, n, d)
    nn.init.constant_(model.mask_token, -1.0)
    image_keys = keys(count)
    where = corrupted(model.config, image_keys, grid=(4, 4))
    actual = model.replacements(flat, where, image_keys)[:, :, 0]
    own = flat[:, :, 0].gather(1, where)
    masked, unchanged = actual == -1, actual == own
    replaced = ~masked & ~unchanged
    total = masked.numel()
    assert masked.sum().item() == pytest.approx(0.8 * total, abs=4 * (0.16 * total) ** 0.5)
    assert replaced.sum().item() == pytest.approx(0.1 * total, abs=4 * (0.09 * total) ** 0.5)
    row = torch.arange(count)[:, None].expand_as(actual)
    from_image = (actual.long() // n)[replaced]
    wanted = row if replaced_from == "image" else (row + 1) % count
    assert torch.equal(from_image, wanted[replaced])
    places = (actual.long() % n)[replaced].bincount(minlength=n)
    assert places.min() > 0.4 * places.float().mean(), "every other patch is used"


def test_only_corrupted_embeddings_change_and_only_their_outputs_have_gradients() -> None:
    model, batch = learner(), images(2)
    embedded = model.encoder.patches(batch).detach()
    seen = {}
    model.encoder.assemble = lambda patches, real=model.encoder.assemble: (
        seen.setdefault("x", patches) is None or real(patches)
    )
    final: list[torch.Tensor] = []

    def encode(x, layout, real=model.encoder.encode):
        final.append(real(x, layout))
        final[0].retain_grad()
        return final[0]

    model.encoder.encode = encode
    model(batch, keys(2), all_readable(batch))["loss"].sum().backward()
    where = corrupted(model.config, keys(2), grid=(4, 4))
    outside = torch.ones(2, 16, dtype=torch.bool).scatter(1, where, False)
    changed = (seen["x"].flatten(1, 2) != embedded.flatten(1, 2)).any(2)
    assert not changed[outside].any()
    gradient = final[0].grad
    assert gradient is not None
    assert (gradient[:, 0] == 0).all(), "the class token has no loss"
    patches = gradient[:, 1:].abs().sum(2)
    assert (patches[outside] == 0).all()
    assert (patches[~outside] > 0).all()


def test_black_is_the_first_class_and_white_the_last() -> None:
    for rounding in ("floor", "nearest"):
        colours = Colours(preprocessing=PREPROCESSING, rounding=rounding, side=1)
        patches = torch.stack([torch.full((3, 4, 4), value) for value in (-1.0, 1.0)])[None]
        assert colours.classes(patches).tolist() == [[[0], [511]]]


@pytest.mark.parametrize(
    ("rounding", "colour", "expected"),
    [
        ("floor", (0.5, 0.125, 0.124), 4 * 64 + 1 * 8 + 0),
        ("floor", (0.999, 0.75, 0.25), 7 * 64 + 6 * 8 + 2),
        ("nearest", (0.5, 0.072, 0.071), 4 * 64 + 1 * 8 + 0),
        ("nearest", (0.93, 0.928, 1.0), 7 * 64 + 6 * 8 + 7),
    ],
)
def test_a_mean_colour_is_a_number_to_base_eight(rounding: str, colour: tuple[float, ...], expected: int) -> None:
    """Means of uneven patches: half of the pixels are above, half below."""
    mean = torch.tensor(colour)[:, None, None].expand(3, 4, 4)
    spread = torch.tensor([0.04, -0.04]).repeat(8).reshape(1, 4, 4)
    patch = (torch.where((mean > 0.05) & (mean < 0.95), mean + spread, mean) * 2 - 1)[None, None]
    assert Colours(preprocessing=PREPROCESSING, rounding=rounding, side=1).classes(patch).item() == expected


def test_a_small_patch_has_a_colour_for_each_part() -> None:
    levels = torch.arange(16).reshape(4, 4) % 8
    small = ((levels + 0.5) / 8).expand(3, 4, 4)
    patch = small.repeat_interleave(4, 1).repeat_interleave(4, 2)  # 16x16 pixels of 4x4 parts
    colours = Colours(preprocessing=PREPROCESSING, side=4)
    classes = colours.classes((patch * 2 - 1)[None, None])
    assert classes.flatten().tolist() == [level * 73 for level in levels.flatten().tolist()]
    torch.testing.assert_close(colours.colours(classes, patch[None, None])[0, 0], patch)
    assert colours.num_outputs(3, (16, 16)) == 16 * 512


def test_losses_by_hand() -> None:
    black = torch.full((1, 2, 3, 4, 4), -1.0)
    logits = torch.zeros(1, 2, 512)
    logits[0, 0, 0] = 5.0
    actual = Colours(preprocessing=PREPROCESSING, side=1).losses(logits, black)
    expected = [-5 + torch.tensor(5.0).exp().add(511).log(), torch.tensor(512.0).log()]
    torch.testing.assert_close(actual["loss"][0], torch.stack(expected))
    assert actual["accuracy"].tolist() == [[1.0, 1.0]], "of equal logits the first counts as predicted"
    squares = Pixels(preprocessing=PREPROCESSING).losses(torch.zeros(1, 2, 48), black)
    assert squares["loss"].tolist() == [[1.0, 1.0]]
    halves = Pixels(preprocessing=PREPROCESSING, error="l1").losses(torch.full((1, 2, 48), -0.5), black)
    assert halves["loss"].tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("target", ["mean_colour", "small_patch", "pixels", "pixels_l1"])
def test_it_learns_to_fill_in(target: str) -> None:
    """Each image has one colour, so the visible patches determine the others."""
    model = learner(target=target)
    batch = (torch.rand(32, 3, 1, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1).expand(-1, 3, 16, 16)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(60):
        loss = model(batch, keys(32) + step, all_readable(batch))["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_the_loss_is_a_mean_over_readable_images() -> None:
    objective = build_objective(MaskedPatchConfig(), build_context(PREPROCESSING))
    model = objective.learner(ViT(CONFIG))
    batch, image_keys = images(3), keys(3)
    each = model(batch, image_keys, all_readable(batch))
    whole, metrics = objective.loss(
        model, Examples(images=batch, labels=torch.tensor([0, UNREADABLE, 0]), keys=image_keys)
    )
    torch.testing.assert_close(whole, (each["loss"][0] + each["loss"][2]) / 2)
    torch.testing.assert_close(metrics["accuracy"], (each["accuracy"][0] + each["accuracy"][2]) / 2)


def test_the_classifier_is_frozen() -> None:
    model = learner(replace(CONFIG, pool="map", representation_size=8))
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    assert {name.split(".")[1] for name in frozen} == {"head", "pre_logits", "pool"}
    assert all(name.startswith("encoder.") for name in frozen)
    model(images(2), keys(2), all_readable(keys(2)))["loss"].mean().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_panels_show_every_patch_at_its_position() -> None:
    model, batch, image_keys = learner(target="pixels"), images(2), keys(2)
    grey, predicted, targets, whole = (panel.images for panel in model.panels(batch, image_keys))
    assert torch.equal(targets, whole), "the target is the image itself"
    assert ((whole.double() - 127.5) / 127.5 - batch.permute(0, 2, 3, 1)).abs().max() < 0.01
    hidden = (grey == 128).all(3)
    assert hidden.float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(predicted[~hidden], whole[~hidden])


def test_unpatchify_inverts_patchify() -> None:
    batch = torch.rand(2, 3, 8, 12)
    patches = patchify(batch, (2, 3))
    assert torch.equal(patches[0, 4], batch[0, :, 4:8, 4:8])
    assert torch.equal(unpatchify(patches, (2, 3)), batch)


def test_patches_are_in_the_order_of_the_models_tokens() -> None:
    """The target of a prediction is the patch whose embedding was masked."""
    model, batch = learner(), images(1)
    other = batch.clone()
    patchify(other, (4, 4))  # a copy: what follows changes the image itself
    other[:, :, 4:8, 8:12] = 0
    differs = (model.encoder.patches(batch) != model.encoder.patches(other)).any(3).flatten()
    assert differs.nonzero().flatten().tolist() == [6]
    assert (patchify(batch, (4, 4)) != patchify(other, (4, 4))).flatten(2).any(2).nonzero()[:, 1].tolist() == [6]


def test_a_hybrid_predicts_the_pixels_under_its_features() -> None:
    hybrid = create("R50+ViT-B/16", width=24, depth=1, num_heads=2, mlp_dim=24, image_size=32)
    preprocessing = Preprocessing(image_size=(32, 32), channels=3)
    model = MaskedPatchLearner(hybrid, MaskedPatchConfig(target="pixels"), preprocessing)
    metrics = model(torch.zeros(2, 3, 32, 32), keys(2), all_readable(keys(2)))
    assert metrics["loss"].shape == (2,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"corrupted_fraction": 0.0}, "corrupted-fraction must be above 0"),
        ({"masked": 0.8, "replaced": 0.3}, "add up to at most 1"),
        ({"mask_unit": 0}, "mask-unit must be at least 1"),
    ],
)
def test_wrong_settings(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedPatchConfig(**values)


def test_unsuitable_models_are_refused() -> None:
    with pytest.raises(ValueError, match="masked patch prediction needs a Vision Transformer"):
        build_objective(MaskedPatchConfig(), build_context(PREPROCESSING)).learner(create("BiT-R50x1", image_size=32))
    with pytest.raises(ValueError, match="leaves out patches itself"):
        learner(replace(CONFIG, patch_dropout=0.5))
