"""Self-distillation: views, assignments, what moves how, what is asked of whom."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from tiny import keys, tiny_run
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.objectives.assignment import Centre, koleo, sinkhorn
from vitral.objectives.crops import boxes, view
from vitral.objectives.dino import DINOConfig, DINOLearner, Projection, ViewConfig, pooled
from vitral.objectives.kinds import objective_of
from vitral.objectives.prng import uniforms
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=3)
PREPROCESSING = Preprocessing(image_size=(16, 16), channels=3)
SMALL = dict(prototypes=12, hidden=16, bottleneck=8, views=ViewConfig(num_local=2))


def learner(config: ViTConfig = CONFIG, **changes: object) -> DINOLearner:
    torch.manual_seed(0)
    return DINOLearner(ViT(config), DINOConfig(**{**SMALL, **changes}), PREPROCESSING)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class TestViews:
    def test_boxes_lie_inside_and_have_the_area_and_aspect_that_are_asked_for(self) -> None:
        found = boxes(uniforms(keys(4000), 7, use=0), (0.2, 0.6)).double()
        left, top, width, height = found.unbind(1)
        assert min(left.min(), top.min()) >= 0
        assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
        assert stats.kstest(width * height, "uniform", args=(0.2, 0.4)).pvalue > 1e-3
        assert (
            stats.kstest((width / height).log(), "uniform", args=(-math.log(4 / 3), 2 * math.log(4 / 3))).pvalue > 1e-3
        )
        assert stats.kstest(left / (1 - width), "uniform").pvalue > 1e-3

    def test_a_box_of_a_wide_image_is_square_in_pixels(self) -> None:
        width, height = boxes(uniforms(keys(2000), 7, use=0), (0.1, 0.2), wider=2.0)[:, 2:].unbind(1)
        assert (2 * width / height).log().mean().item() == pytest.approx(0, abs=0.02)

    def test_the_whole_image_is_the_image(self) -> None:
        some = torch.rand(2, 3, 8, 8)
        found = view(some, keys(2), number=0, area=(1.0, 1.0), size=(8, 8), jitter=0.0)
        draws = uniforms(keys(2), 7, use=0)
        for image, part, draw, box in zip(some, found, draws, boxes(draws, (1.0, 1.0)), strict=True):
            assert box[2:].max() == 1
            if box[2:].min() > 0.999:
                torch.testing.assert_close(part, image.flip(2) if draw[4] < 0.5 else image, atol=1e-5, rtol=0)

    def test_a_ramp_shows_where_a_view_is_from(self) -> None:
        """On a ramp from left to right, a view's columns are its box's places, mirrored or not."""
        ramp = ((torch.arange(64) + 0.5) / 64).expand(200, 1, 64, 64)
        found = view(ramp, keys(200), number=3, area=(0.1, 0.5), size=(4, 4), jitter=0.0)[:, 0, 0]
        draws = uniforms(keys(200), 7, use=3)
        left, _, width, _ = boxes(draws, (0.1, 0.5)).unbind(1)
        places = left[:, None] + width[:, None] * (torch.arange(4) + 0.5) / 4
        mirrored = draws[:, 4] < 0.5
        assert 70 < mirrored.sum() < 130
        expected = torch.where(mirrored[:, None], places.flip(1), places)
        torch.testing.assert_close(found, expected, atol=0.01, rtol=0)

    def test_small_views_are_smaller(self) -> None:
        large, small = learner().views(images(3), keys(3))
        assert large.shape == (6, 3, 16, 16)
        assert small.shape == (6, 3, 8, 8)
        assert min(large.min(), small.min()) >= -1
        assert not torch.equal(large[:3], large[3:])
        assert learner(views=ViewConfig(num_local=0)).views(images(3), keys(3))[1].shape == (0, 3, 8, 8)


class TestAssignment:
    def test_sinkhorns_rows_sum_to_one_and_its_columns_are_even(self) -> None:
        logits = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        found = sinkhorn(logits, temperature=0.5, rounds=50)
        torch.testing.assert_close(found.sum(1), torch.ones(64))
        torch.testing.assert_close(found.sum(0), torch.full((8,), 8.0), atol=0.05, rtol=0)
        few = sinkhorn(logits, temperature=0.5)
        assert (few.sum(0) - 8).abs().max() < (F.softmax(logits / 0.5, dim=1).sum(0) - 8).abs().max()

    def test_sinkhorn_stands_large_logits(self) -> None:
        found = sinkhorn(torch.tensor([[900.0, 0.0], [0.0, 900.0]]), temperature=1.0)
        torch.testing.assert_close(found, torch.eye(2))

    def test_the_centre_by_hand(self) -> None:
        centre = Centre(2, momentum=0.9)
        centre.remember(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        centre.remember(torch.tensor([[5.0, 9.0]]))
        centre.update()
        torch.testing.assert_close(centre.mean, torch.tensor([0.3, 0.5]))
        centre.update()
        torch.testing.assert_close(centre.mean, torch.tensor([0.3, 0.5]), msg="nothing was seen")
        centre.eval().remember(torch.ones(1, 2))
        assert centre.count == 0

    def test_koleo_by_hand(self) -> None:
        points = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
        torch.testing.assert_close(koleo(points), -torch.full((3,), math.sqrt(2)).log())
        assert koleo(points[:1]).tolist() == [0.0]
        near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), dim=1)
        assert koleo(near).sum() > koleo(points).sum()


def test_the_loss_by_hand() -> None:
    """Two large views: each tells the student of the other, with the centre taken off."""
    model, some, drawn = learner(views=ViewConfig(num_local=0)).eval(), images(3), keys(3)
    model.centre.mean.copy_(torch.linspace(-0.5, 0.5, 12))
    large, _ = model.views(some, drawn)
    with torch.no_grad():
        outputs = model.teacher_project(model.teacher.features(large).pooled)
        told = F.softmax((outputs - model.centre.mean) / 0.04, dim=1).chunk(2)
        logs = F.log_softmax(model.project(model.encoder.features(large).pooled) / 0.1, dim=1).chunk(2)
        expected = -((told[0] * logs[1]).sum(1) + (told[1] * logs[0]).sum(1)) / 2
        found = model(some, drawn)
    torch.testing.assert_close(found["loss"], expected)
    entropy = -sum((part * part.log()).sum(1) for part in told) / 2
    torch.testing.assert_close(found["entropy"], entropy, atol=1e-4, rtol=1e-4)


def test_every_view_of_the_student_meets_every_other_of_the_teacher() -> None:
    model, some, drawn = learner().eval(), images(2), keys(2)
    large, small = model.views(some, drawn)
    with torch.no_grad():
        told = model.assigned(model.teacher_project(model.teacher.features(large).pooled), model.centre.mean).chunk(2)
        said = [model.project(model.encoder.features(part).pooled) for part in (*large.chunk(2), *small.chunk(2))]
        logs = [F.log_softmax(part / 0.1, dim=1) for part in said]
        pairs = [-(told[i] * logs[j]).sum(1) for i in range(2) for j in range(4) if i != j]
        assert len(pairs) == 6
        torch.testing.assert_close(model(some, drawn)["loss"], torch.stack(pairs).mean(0))


@pytest.mark.parametrize("patch_weight", [0.0, 1.0])
def test_the_teacher_has_no_gradient_and_all_else_has(patch_weight: float) -> None:
    model = learner(patch_weight=patch_weight, koleo=0.1)
    sum(model(images(4), keys(4)).values()).sum().backward()
    for name, weight in model.named_parameters():
        idle = name.startswith(("teacher", "encoder.head")) or (name == "mask_token" and not patch_weight)
        assert (weight.grad is None) == idle, name
        assert weight.requires_grad != idle


def test_only_the_masked_patches_of_the_student_are_hidden() -> None:
    model, some, drawn = learner(patch_weight=1.0, masked_share=0.25), images(2), keys(2)
    large, _ = model.views(some, drawn)
    mask = model.masks(drawn, large)
    assert mask.shape == (4, 4)
    assert not torch.equal(mask[:2], mask[2:]), "each view has its own"
    given = []
    model.encoder.assemble = lambda patches, real=model.encoder.assemble: given.append(patches) or real(patches)
    model.student_tokens(large, mask)
    hidden = (given[0].flatten(1, 2) == model.mask_token).all(2)
    assert torch.equal(hidden.nonzero()[:, 1].view(4, 4), mask.sort(1).values)


@pytest.mark.parametrize(("momentum", "progress"), [(1.0, 0.0), (0.0, 0.0), (0.9, 0.5), (0.9, 1.0)])
def test_the_teacher_follows_by_the_momentum_of_the_moment(momentum: float, progress: float) -> None:
    model = learner(momentum=momentum)
    with torch.no_grad():
        for weight in (*model.encoder.parameters(), *model.project.parameters()):
            weight.add_(1.0)
    before = model.teacher.norm.weight.clone()
    model.after_step(progress=progress)
    share = (1 - momentum) * (1 + math.cos(math.pi * progress)) / 2
    torch.testing.assert_close(model.teacher.norm.weight, before + share)
    torch.testing.assert_close(
        model.teacher_project.prototypes.weight, model.project.prototypes.weight - 1.0 + share, atol=1e-6, rtol=0
    )


def test_the_teachers_temperature_rises_in_the_warm_up() -> None:
    model = learner(teacher_warmup=0.2)
    for progress, expected in ((0.0, 0.04), (0.1, 0.055), (0.2, 0.07), (0.9, 0.07)):
        model.after_step(progress=progress)
        assert model.teacher_temperature.item() == pytest.approx(expected)


def test_all_that_moves_is_in_the_state() -> None:
    """Hence in checkpoints: a copy goes on alike."""
    one = learner(patch_weight=1.0)
    one(images(4), keys(4))
    one.after_step(progress=0.05)
    other = learner(patch_weight=1.0)
    other.load_state_dict(one.state_dict())
    again = [model(images(4, seed=1), keys(4))["loss"] for model in (one, other)]
    assert torch.equal(*again)


@pytest.mark.parametrize("assignment", ["centre", "sinkhorn"])
def test_it_learns_without_collapsing(assignment: str) -> None:
    """Images of four colours: after some steps the teacher tells them apart."""
    model = learner(assignment=assignment, momentum=0.9, views=ViewConfig(num_local=2, jitter=0.1))
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    some = colours.repeat(8, 1)[:, :, None, None].expand(-1, -1, 16, 16)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, 3e-3)
    for step in range(60):
        loss = model(some, keys(32) + step)["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_step(progress=step / 200)
    features = F.normalize(model.eval().extract_features(some[:4]), dim=1)
    similarity = features @ features.T
    assert similarity.min() < 0.5, "of a collapsed teacher all are 1"
    probabilities = model.assigned(model.teacher_project(model.extract_features(some[:4])), model.centre.mean)
    assert (probabilities.argmax(1).bincount(minlength=12) > 0).sum() > 1, "not all in one"
    assert model.models()[0] is model.teacher


def test_the_projection_compares_directions() -> None:
    torch.manual_seed(0)
    project = Projection(16, DINOConfig(**SMALL))
    outputs = project(torch.randn(5, 16))
    assert outputs.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        project.prototypes.weight.mul_(3.0)
    torch.testing.assert_close(project(torch.zeros(1, 16)), project(torch.zeros(1, 16)))


def test_pooled_is_the_models_own_representation() -> None:
    for pool in ("cls", "gap", "map"):
        model = ViT(replace(CONFIG, pool=pool, num_registers=2))
        some = images(2)
        torch.testing.assert_close(pooled(model, model.encode(*model.embed(some))), model.features(some).pooled)


def test_panels_are_views() -> None:
    titles = [panel.title for panel in learner().panels(images(2), keys(2))]
    assert titles == ["large view 1", "large view 2", "small view 1", "small view 2", "image"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prototypes": 0}, "must be at least 1"),
        ({"student_temperature": 0.0}, "must be above 0"),
        ({"momentum": 1.1}, "are shares of 1"),
        ({"koleo": -1.0}, "at least 0"),
    ],
)
def test_wrong_settings(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DINOConfig(**values)


def test_models_and_sizes_that_cannot_learn_so() -> None:
    with pytest.raises(ValueError, match="DINO needs a Vision Transformer"):
        objective_of(DINOConfig(**SMALL), PREPROCESSING, read_teacher=pytest.fail).learner(
            create("BiT-R50x1", image_size=32)
        )
    with pytest.raises(ValueError, match="must be a multiple of the patch size"):
        learner(views=ViewConfig(local_size=9))


def test_a_second_average_is_refused() -> None:
    """It would follow the student, while the teacher in it, which is kept, stayed as it began."""
    config = tiny_run(ema=None)
    with pytest.raises(ValueError, match=r"leave out --train\.ema"):
        replace(config, objective=DINOConfig(**SMALL), train=replace(config.train, ema=0.9))
