"""Gram anchoring: the loss, when the anchor is copied, and that it keeps similarities of patches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from tiny import all_readable, keys
from vitral.data.images.preprocess import Preprocessing
from vitral.objectives.dino import CropConfig, DINOConfig, DINOLearner
from vitral.objectives.gram import GramAnchor, gram_loss
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

CONFIG = ViTConfig(
    image_size=16, patch_size=4, channels=1, width=24, depth=2, num_heads=2, mlp_dim=48, num_classes=3, num_registers=1
)
SMALL = DINOConfig(
    prototypes=32, hidden=32, bottleneck=16, crops=CropConfig(num_local=1), momentum=0.8, gram_weight=2.0
)


def learner(**changes: object) -> DINOLearner:
    torch.manual_seed(0)
    return DINOLearner(ViT(CONFIG), replace(SMALL, **changes), Preprocessing(image_size=(16, 16), channels=1))


def digits(count: int) -> torch.Tensor:
    pixels = torch.from_numpy(load_digits().images[:count]).float()[:, None] / 8 - 1
    return F.interpolate(pixels, size=16, mode="bilinear")


def test_the_loss_by_hand_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    student, anchor = (torch.randn(2, 5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = torch.zeros(2, dtype=torch.float64)
    for image in range(2):
        for i in range(5):
            for j in range(5):
                one, other = (F.cosine_similarity(part[image, i], part[image, j], dim=0) for part in (student, anchor))
                expected[image] += (one - other) ** 2 / 25
    torch.testing.assert_close(gram_loss(student, anchor), expected, rtol=1e-12, atol=0)


def test_only_directions_relative_to_each_other_count() -> None:
    patches = torch.randn(2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rotation = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))[0]
    lengths = torch.rand(2, 5, 1, dtype=torch.float64) + 0.5
    assert gram_loss(patches @ rotation * lengths, patches).max() < 1e-24
    with torch.autocast("cpu", torch.bfloat16):
        assert gram_loss(patches.bfloat16(), patches.bfloat16()).dtype == torch.float32


def test_copies_are_made_at_the_start_and_at_intervals() -> None:
    teacher = ViT(CONFIG)
    anchor = GramAnchor(teacher, start=0.5, refresh=0.2).train()
    copied = []
    for step in range(1, 11):
        torch.nn.init.constant_(teacher.norm.bias, step)
        anchor.update(teacher, progress=step / 10)
        copied.append(int(anchor.model.norm.bias[0].item()))
    assert copied == [0, 0, 0, 0, 5, 5, 7, 7, 9, 9]
    once = GramAnchor(teacher, start=0.0, refresh=0.0).train()
    for step in range(1, 11):
        torch.nn.init.constant_(teacher.norm.bias, step)
        once.update(teacher, progress=step / 10)
    assert once.model.norm.bias[0] == 1


def test_a_loaded_anchor_is_active_and_is_not_copied_again() -> None:
    teacher = ViT(CONFIG)
    saved = GramAnchor(teacher, start=0.5, refresh=0.2).train()
    saved.update(teacher, progress=0.6)
    resumed = GramAnchor(ViT(CONFIG), start=0.5, refresh=0.2)
    with torch.no_grad():  # as checkpoints are loaded: into the tensors, without a hook
        for name, tensor in resumed.state_dict().items():
            tensor.copy_(saved.state_dict()[name])
    resumed.train()
    resumed.update(ViT(CONFIG), progress=0.65)
    batch = digits(2)
    tokens = torch.randn(2, 18, 24)
    assert (resumed.loss(batch, tokens) > 0).all()
    torch.testing.assert_close(resumed.loss(batch, tokens), saved.loss(batch, tokens))


def test_the_loss_is_part_of_the_objective_from_its_start_on() -> None:
    model, batch = learner(gram_start=0.5).train(), digits(4)
    before = model(batch, keys(4), all_readable(batch))
    assert (before["gram_loss"] == 0).all()
    with torch.no_grad():
        model.encoder.blocks[1].mlp.fc1.weight.mul_(2)
    model.after_step(progress=0.6)
    after = model(batch, keys(4), all_readable(batch))
    assert (after["gram_loss"] > 0).all()
    without = learner(gram_weight=0.0)
    assert without.anchor is None
    assert "gram_loss" not in without.train()(batch, keys(4), all_readable(batch))
    after["loss"].mean().backward()
    assert model.encoder.blocks[0].attn.qkv.weight.grad is not None
    assert all(weight.grad is None for weight in model.anchor.parameters())


def drift(**changes: object) -> float:
    """The Gram loss between the teacher halfway through a run and at its end, on images of digits."""
    model, batch = learner(**changes).train(), digits(24)
    optimiser = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], 3e-3)
    steps, halfway = 30, None
    for step in range(1, steps + 1):
        rows = torch.arange(step * 8, (step + 1) * 8) % 24
        loss = model(batch[rows], keys(24)[rows] + step, all_readable(rows))["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_step(progress=step / steps)
        if step == steps // 2:
            halfway = model.teacher.features(batch).patches.detach()
    return gram_loss(model.teacher.features(batch).patches, halfway).mean().item()


def test_similarities_of_patches_drift_less() -> None:
    assert drift(gram_refresh=0.0) < 0.4 * drift(gram_weight=0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gram_weight": -1.0}, "gram-weight and gram-refresh must be at least 0"),
        ({"gram_refresh": -0.1}, "gram-weight and gram-refresh must be at least 0"),
        ({"gram_start": 1.0}, "gram-start must be at least 0 and below 1"),
    ],
)
def test_wrong_settings(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DINOConfig(**values)
