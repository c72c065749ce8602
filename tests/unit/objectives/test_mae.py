"""Masked autoencoders: what is hidden stays hidden, and is what is asked for."""

from dataclasses import replace

import pytest
import torch

from tiny import keys
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.objectives.kinds import objective_of
from vitral.objectives.mae import MAEConfig, MAELearner
from vitral.objectives.patches import patchify, taken
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=3)
PREPROCESSING = Preprocessing(image_size=(16, 16), channels=3)
SMALL = dict(width=8, depth=1, num_heads=2)


def learner(config: ViTConfig = CONFIG, **changes: object) -> MAELearner:
    torch.manual_seed(0)
    return MAELearner(ViT(config), MAEConfig(**{**SMALL, **changes}), PREPROCESSING)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(("share", "hidden"), [(0.75, 12), (0.5, 8), (0.01, 1), (0.99, 15)])
def test_as_many_patches_are_hidden_as_configured(share: float, hidden: int) -> None:
    predicted, where, grid = learner(share=share).predictions(images(5), keys(5))
    assert predicted.shape == (5, hidden, 3 * 4 * 4)
    assert grid == (4, 4)
    assert all(len(set(row)) == hidden for row in where.tolist())


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_hidden_pixels_change_nothing_and_visible_ones_do(pool: str) -> None:
    model, some = learner(replace(CONFIG, pool=pool)), images(2)
    before, hidden, _ = model.predictions(some, keys(2))
    noise = torch.zeros(2, 16, 3, 4, 4)
    noise.scatter_(1, hidden[:, :, None, None, None].expand(-1, -1, 3, 4, 4), 1.0)
    mask = torch.stack([noise[:, :, channel] for channel in range(3)], 2)
    whole = mask.reshape(2, 4, 4, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 16, 16)
    assert torch.equal(model.predictions(some + 5 * whole, keys(2))[0], before)
    visible = model.predictions(some + 0.1 * (1 - whole), keys(2))[0]
    assert (visible != before).any(2).all()


def test_the_encoder_computes_visible_patches_alone() -> None:
    model = learner()
    lengths = []
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    model(images(2), keys(2))
    assert lengths == [5, 5, 17], "a class token with 4, then all 16"


def test_every_token_is_put_back_in_its_place() -> None:
    """With a decoder that changes nothing, a visible patch's token comes out where the patch is."""
    model = learner(replace(CONFIG, pool="gap"), share=0.5)
    given = []
    model.decoder.assemble = lambda patches, real=model.decoder.assemble: given.append(patches) or real(patches)
    some = images(1)
    _, hidden, _ = model.predictions(some, keys(1))
    placed = given[0].flatten(1, 2)[0]
    is_mask = (placed == model.mask_token).all(1)
    assert sorted(hidden[0].tolist()) == is_mask.nonzero().flatten().tolist()
    moved = some.clone()
    where = (~is_mask).nonzero()[0].item()
    row, column = divmod(where, 4)
    moved[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
    model.predictions(moved, keys(1))
    change = (given[1].flatten(1, 2)[0] - placed).abs().sum(1)
    assert change.argmax().item() == where
    assert (change[is_mask] == 0).all()


def test_targets_by_hand() -> None:
    patch = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(12).reshape(1, 1, 3, 4, 4)
    plain = learner(target="pixels").asked(patch)
    assert torch.equal(plain, patch.flatten(2))
    normalised = learner().asked(patch)
    deviation = (48 * 0.25 / 47) ** 0.5  # of a sample of 48 values
    torch.testing.assert_close(normalised.unique(), torch.tensor([-0.5, 0.5]) / deviation, atol=1e-5, rtol=1e-5)


def test_the_loss_is_of_hidden_patches_alone() -> None:
    model, some = learner(target="pixels"), images(3)
    predicted, hidden, grid = model.predictions(some, keys(3))
    patches = patchify(some, grid).flatten(2)
    by_hand = torch.stack([(predicted[i] - patches[i, hidden[i]]).square().mean() for i in range(3)])
    torch.testing.assert_close(model(some, keys(3))["loss"], by_hand)


@pytest.mark.parametrize("pool", ["cls", "gap", "map"])
def test_everything_but_what_classifies_learns(pool: str) -> None:
    model = learner(replace(CONFIG, pool=pool, num_registers=2, representation_size=8))
    model(images(2), keys(2))["loss"].mean().backward()
    idle = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert {name.split(".")[1] for name in idle} <= {"head", "pre_logits", "pool"}
    assert all(name.startswith("encoder.") for name in idle)


def test_it_learns_to_fill_in() -> None:
    """Images of one colour each."""
    model = learner(target="pixels")
    some = (torch.rand(32, 3, 1, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1).expand(-1, 3, 16, 16)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(80):
        loss = model(some, keys(32) + step)["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_panels_put_predictions_into_the_image() -> None:
    model, some, drawn = learner(), images(2), keys(2)
    visible, predicted, whole = (panel.images for panel in model.panels(some, drawn))
    hidden = (visible == 128).all(3)
    assert hidden.float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert torch.equal(predicted[~hidden], whole[~hidden])
    means = [patchify(part.permute(0, 3, 1, 2).float(), (4, 4)).mean((2, 3, 4)) for part in (predicted, whole)]
    where = model.predictions(some, drawn)[1]
    # an untrained decoder predicts around each patch's own mean
    assert (taken(means[0], where) - taken(means[1], where)).abs().mean() < 40


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "rope"},
        {"position_injection": "every_layer"},
        {"position": "relative"},
        {"attention": "axial"},
    ],
)
def test_positions_that_need_every_patch_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"set --model\.position sincos_2d_mae"):
        learner(replace(CONFIG, pool="gap", **changes))


def test_models_that_cannot_learn_so() -> None:
    objective = objective_of(MAEConfig(), PREPROCESSING, read_teacher=pytest.fail)
    with pytest.raises(ValueError, match="the ResNet of a hybrid would see hidden ones"):
        objective.learner(create("R50+ViT-B/16", width=24, depth=1, num_heads=2, mlp_dim=24, image_size=32))
    with pytest.raises(ValueError, match="a masked autoencoder needs a Vision Transformer"):
        objective.learner(create("BiT-R50x1", image_size=32))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 0.0}, "share must be above 0 and below 1"),
        ({"share": 1.0}, "share must be above 0 and below 1"),
        ({"width": 10, "num_heads": 4}, "must be a multiple of"),
        ({"depth": 0}, "at least 1"),
    ],
)
def test_wrong_settings(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MAEConfig(**values)
