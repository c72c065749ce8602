"""Self-distillation: crops, assignments, losses, and the updates after a step."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from tiny import all_readable, build_context, keys, tiny_run
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE, TrainingBatches
from vitral.data.images.preprocess import Preprocessing
from vitral.datasets.opening import open_data
from vitral.models import create
from vitral.objectives.assignment import Centre, koleo, sinkhorn
from vitral.objectives.crops import crop_boxes, random_resized_crop
from vitral.objectives.dino import CropConfig, DINOConfig, DINOLearner, Projection, pooled
from vitral.objectives.prng import uniforms
from vitral.objectives.registry import build_objective
from vitral.objectives.self_supervised import SelfSupervised
from vitral.train.session import Session
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

CONFIG = ViTConfig(image_size=16, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=3)
PREPROCESSING = Preprocessing(image_size=(16, 16), channels=3)
SMALL = dict(prototypes=12, hidden=16, bottleneck=8, crops=CropConfig(num_local=2))


def learner(config: ViTConfig = CONFIG, **changes: object) -> DINOLearner:
    torch.manual_seed(0)
    return DINOLearner(ViT(config), DINOConfig(**{**SMALL, **changes}), PREPROCESSING)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class TestCrops:
    def test_boxes_lie_inside_and_have_the_configured_areas_and_aspects(self) -> None:
        actual = crop_boxes(uniforms(keys(4000), 7, stream=0), (0.2, 0.6)).double()
        left, top, width, height = actual.unbind(1)
        assert min(left.min(), top.min()) >= 0
        assert max((left + width).max(), (top + height).max()) <= 1 + 1e-6
        assert stats.kstest(width * height, "uniform", args=(0.2, 0.4)).pvalue > 1e-3
        assert (
            stats.kstest((width / height).log(), "uniform", args=(-math.log(4 / 3), 2 * math.log(4 / 3))).pvalue > 1e-3
        )
        assert stats.kstest(left / (1 - width), "uniform").pvalue > 1e-3

    def test_a_box_of_a_wide_image_is_square_in_pixels(self) -> None:
        width, height = crop_boxes(uniforms(keys(2000), 7, stream=0), (0.1, 0.2), aspect=2.0)[:, 2:].unbind(1)
        assert (2 * width / height).log().mean().item() == pytest.approx(0, abs=0.02)

    def test_a_crop_of_the_whole_area_is_the_image(self) -> None:
        batch = torch.rand(2, 3, 8, 8)
        actual = random_resized_crop(batch, keys(2), index=0, area=(1.0, 1.0), size=(8, 8), jitter=0.0)
        draws = uniforms(keys(2), 7, stream=0)
        for image, part, draw, box in zip(batch, actual, draws, crop_boxes(draws, (1.0, 1.0)), strict=True):
            assert box[2:].max() == 1
            if box[2:].min() > 0.999:
                torch.testing.assert_close(part, image.flip(2) if draw[4] < 0.5 else image, atol=1e-5, rtol=0)

    def test_a_ramp_shows_the_position_of_a_crop(self) -> None:
        """On a ramp from left to right, a crop's values are the positions of its columns, flipped or not."""
        ramp = ((torch.arange(64) + 0.5) / 64).expand(200, 1, 64, 64)
        actual = random_resized_crop(ramp, keys(200), index=3, area=(0.1, 0.5), size=(4, 4), jitter=0.0)[:, 0, 0]
        draws = uniforms(keys(200), 7, stream=3)
        left, _, width, _ = crop_boxes(draws, (0.1, 0.5)).unbind(1)
        positions = left[:, None] + width[:, None] * (torch.arange(4) + 0.5) / 4
        flipped = draws[:, 4] < 0.5
        assert 70 < flipped.sum() < 130
        expected = torch.where(flipped[:, None], positions.flip(1), positions)
        torch.testing.assert_close(actual, expected, atol=0.01, rtol=0)

    def test_local_crops_are_smaller(self) -> None:
        smaller = [crops.shape[2:] for crops in learner().crops(images(3)[:, :, :8, :8], keys(3))]
        assert smaller == [(8, 8), (4, 4)], "crops have the size of their images, and 3/7 of it in whole patches"
        global_crops, local_crops = learner().crops(images(3), keys(3))
        assert global_crops.shape == (6, 3, 16, 16)
        assert local_crops.shape == (6, 3, 8, 8)
        assert min(global_crops.min(), local_crops.min()) >= -1
        assert not torch.equal(global_crops[:3], global_crops[3:])
        assert learner(crops=CropConfig(num_local=0)).crops(images(3), keys(3))[1].shape == (0, 3, 8, 8)


class TestAssignment:
    def test_sinkhorns_rows_sum_to_one_and_its_columns_are_equal(self) -> None:
        logits = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
        actual = sinkhorn(logits, temperature=0.5, readable=all_readable(logits), rounds=50)
        torch.testing.assert_close(actual.sum(1), torch.ones(64))
        torch.testing.assert_close(actual.sum(0), torch.full((8,), 8.0), atol=0.05, rtol=0)
        few = sinkhorn(logits, temperature=0.5, readable=all_readable(logits))
        assert (few.sum(0) - 8).abs().max() < (F.softmax(logits / 0.5, dim=1).sum(0) - 8).abs().max()

    def test_sinkhorn_does_not_overflow(self) -> None:
        logits = torch.tensor([[900.0, 0.0], [0.0, 900.0]])
        actual = sinkhorn(logits, temperature=1.0, readable=all_readable(logits))
        torch.testing.assert_close(actual, torch.eye(2))

    def test_the_centre_by_hand(self) -> None:
        centre = Centre(2, momentum=0.9)
        centre.accumulate(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([True, True]))
        centre.accumulate(torch.tensor([[5.0, 9.0], [99.0, 99.0]]), torch.tensor([True, False]))
        centre.update()
        torch.testing.assert_close(centre.mean, torch.tensor([0.3, 0.5]))
        centre.update()
        torch.testing.assert_close(centre.mean, torch.tensor([0.3, 0.5]), msg="no outputs since the last update")
        centre.eval().accumulate(torch.ones(1, 2), torch.tensor([True]))
        assert centre.count == 0

    def test_koleo_by_hand(self) -> None:
        points = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
        torch.testing.assert_close(koleo(points, all_readable(points)), -torch.full((3,), math.sqrt(2)).log())
        assert koleo(points[:1], all_readable(points[:1])).tolist() == [0.0]
        near = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1]]), dim=1)
        assert koleo(near, all_readable(near)).sum() > koleo(points, all_readable(points)).sum()


def test_the_loss_by_hand() -> None:
    """Two global crops: the student's output for each matches the teacher's for the other, minus the centre."""
    model, batch, image_keys = learner(crops=CropConfig(num_local=0)).eval(), images(3), keys(3)
    model.centre.mean.copy_(torch.linspace(-0.5, 0.5, 12))
    global_crops, _ = model.crops(batch, image_keys)
    with torch.no_grad():
        outputs = model.teacher_project(model.teacher.features(global_crops).pooled)
        targets = F.softmax((outputs - model.centre.mean) / 0.04, dim=1).chunk(2)
        logs = F.log_softmax(model.project(model.encoder.features(global_crops).pooled) / 0.1, dim=1).chunk(2)
        expected = -((targets[0] * logs[1]).sum(1) + (targets[1] * logs[0]).sum(1)) / 2
        actual = model(batch, image_keys, all_readable(batch))
    torch.testing.assert_close(actual["loss"], expected)
    entropy = -sum((part * part.log()).sum(1) for part in targets) / 2
    torch.testing.assert_close(actual["entropy"], entropy, atol=1e-4, rtol=1e-4)


def test_only_the_student_drops() -> None:
    """The authors' teacher has no stochastic depth."""
    model = learner(replace(CONFIG, dropout=0.5, attention_dropout=0.5, drop_path=0.5)).train()
    batch = model.crops(images(4), keys(4))[0]
    first, second = (model.teacher.features(batch).pooled for _ in range(2))
    assert torch.equal(first, second)
    first, second = (model.encoder.features(batch).pooled for _ in range(2))
    assert not torch.allclose(first, second)
    assert not model.eval().encoder.training


def test_every_crop_of_the_student_is_compared_with_every_other_crop_of_the_teacher() -> None:
    model, batch, image_keys = learner().eval(), images(2), keys(2)
    global_crops, local_crops = model.crops(batch, image_keys)
    with torch.no_grad():
        outputs = model.teacher_project(model.teacher.features(global_crops).pooled)
        targets = model.assign(outputs, model.centre.mean, all_readable(outputs)).chunk(2)
        predictions = [
            model.project(model.encoder.features(part).pooled)
            for part in (*global_crops.chunk(2), *local_crops.chunk(2))
        ]
        logs = [F.log_softmax(part / 0.1, dim=1) for part in predictions]
        pairs = [-(targets[i] * logs[j]).sum(1) for i in range(2) for j in range(4) if i != j]
        assert len(pairs) == 6
        torch.testing.assert_close(model(batch, image_keys, all_readable(batch))["loss"], torch.stack(pairs).mean(0))


ASSIGNMENTS = [
    {"assignment": "centre", "patch_weight": 1.0},
    {"assignment": "sinkhorn", "patch_weight": 1.0},
    {"koleo": 0.5},
]


def stepped(model: DINOLearner, batch: Examples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and its gradients, and the centres after a step."""
    loss, _ = SelfSupervised(lambda _: model).loss(model, batch)
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.after_step(progress=0.1)
    return loss, {**gradients, "centre": model.centre.mean, "patch_centre": model.patch_centre.mean}


@pytest.mark.parametrize("settings", ASSIGNMENTS)
@pytest.mark.parametrize("unreadable", [[0], [1, 4], [0, 1, 2, 3], [0, 1, 2, 3, 5]])
def test_unreadable_images_change_nothing(settings: dict[str, object], unreadable: list[int]) -> None:
    """A batch with them has the loss, the gradients and the centres of the batch without them."""
    batch, image_keys, labels = images(6), keys(6), torch.zeros(6, dtype=torch.int64)
    batch[unreadable], labels[unreadable] = -1.0, UNREADABLE
    rest = labels != UNREADABLE
    loss, actual = stepped(learner(**settings), Examples(images=batch, labels=labels, keys=image_keys))
    expected, without = stepped(
        learner(**settings), Examples(images=batch[rest], labels=labels[rest], keys=image_keys[rest])
    )
    torch.testing.assert_close(loss, expected)
    for name, value in without.items():
        torch.testing.assert_close(
            actual[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("settings", ASSIGNMENTS)
def test_a_batch_without_a_readable_image_has_no_gradient(settings: dict[str, object]) -> None:
    labels = torch.full((4,), UNREADABLE)
    loss, actual = stepped(learner(**settings), Examples(images=images(4), labels=labels, keys=keys(4)))
    assert loss == 0
    assert not any(value.any() for value in actual.values())


def test_sinkhorn_and_koleo_exclude_unreadable_rows() -> None:
    rows, readable = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.ones(6, dtype=torch.bool)
    readable[[1, 5]] = False
    actual = sinkhorn(rows, temperature=0.5, readable=readable)
    torch.testing.assert_close(actual[readable], sinkhorn(rows[readable], temperature=0.5, readable=readable[readable]))
    assert not actual[~readable].any()
    rows[5] = rows[0]  # would be its nearest neighbour
    actual = koleo(rows, readable)
    torch.testing.assert_close(actual[readable], koleo(rows[readable], readable[readable]))
    assert not actual[~readable].any()


@pytest.mark.parametrize("patch_weight", [0.0, 1.0])
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_equals_one_big_batch(patch_weight: float, parts: int) -> None:
    """With a centre, which is updated once a step, also where parts have different numbers of readable images."""
    config = DINOConfig(**{**SMALL, "patch_weight": patch_weight, "crops": CropConfig(num_local=1, local_size=4)})
    run = tiny_run(optimiser="sgd", ema=None, batch_size=16)
    architecture = replace(run.model.architecture, dropout=0.0)
    run = replace(run, model=replace(run.model, architecture=architecture), objective=config)
    batches = TrainingBatches(
        source=open_data(run.data)["train"],
        preprocessing=run.resolved(num_classes=10).preprocessing,
        augment=run.augment,
        batch_size=16,
        seed=run.seed,
    )
    states = []
    for accumulate in (1, parts):
        session = Session(
            replace(run, train=replace(run.train, accumulate=accumulate)).resolved(num_classes=10),
            classes=tuple("0123456789"),
        )
        metrics = {}
        for step in range(2):
            batch = batches[step]
            batch.labels[[0, 1, 9]] = UNREADABLE
            metrics |= {f"{name} {step}": value for name, value in session.train_step(batch, lr=0.1).items()}
        states.append(metrics | session.model.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(
            states[1][name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("patch_weight", [0.0, 1.0])
def test_everything_but_the_teacher_has_a_gradient(patch_weight: float) -> None:
    model = learner(patch_weight=patch_weight, koleo=0.1)
    sum(model(images(4), keys(4), all_readable(images(4))).values()).sum().backward()
    for name, weight in model.named_parameters():
        idle = name.startswith(("teacher", "encoder.head")) or (name == "mask_token" and not patch_weight)
        assert (weight.grad is None) == idle, name
        assert weight.requires_grad != idle


def test_the_mask_token_replaces_only_masked_patches() -> None:
    model, batch, image_keys = learner(patch_weight=1.0, masked_fraction=0.25), images(2), keys(2)
    global_crops, _ = model.crops(batch, image_keys)
    mask = model.masks(image_keys, global_crops)
    assert mask.shape == (4, 4)
    assert not torch.equal(mask[:2], mask[2:]), "each crop has its own mask"
    given = []
    model.encoder.assemble = lambda patches, real=model.encoder.assemble: given.append(patches) or real(patches)
    model.student_tokens(global_crops, mask)
    hidden = (given[0].flatten(1, 2) == model.mask_token).all(2)
    assert torch.equal(hidden.nonzero()[:, 1].view(4, 4), mask.sort(1).values)


@pytest.mark.parametrize(("momentum", "progress"), [(1.0, 0.0), (0.0, 0.0), (0.9, 0.5), (0.9, 1.0)])
def test_the_teacher_is_updated_with_the_current_momentum(momentum: float, progress: float) -> None:
    model = learner(momentum=momentum)
    with torch.no_grad():
        for weight in (*model.encoder.parameters(), *model.project.parameters()):
            weight.add_(1.0)
    before = model.teacher.norm.weight.clone()
    model.after_step(progress=progress)
    weight = (1 - momentum) * (1 + math.cos(math.pi * progress)) / 2
    torch.testing.assert_close(model.teacher.norm.weight, before + weight)
    torch.testing.assert_close(
        model.teacher_project.prototypes.weight, model.project.prototypes.weight - 1.0 + weight, atol=1e-6, rtol=0
    )


def test_the_teachers_temperature_rises_in_the_warm_up() -> None:
    model = learner(teacher_warmup=0.2)
    for progress, expected in ((0.0, 0.04), (0.1, 0.055), (0.2, 0.07), (0.9, 0.07)):
        model.after_step(progress=progress)
        assert model.teacher_temperature.item() == pytest.approx(expected)


def test_the_state_dict_holds_everything_that_changes() -> None:
    """So checkpoints hold it too: a copy continues identically."""
    one = learner(patch_weight=1.0)
    one(images(4), keys(4), all_readable(images(4)))
    one.after_step(progress=0.05)
    other = learner(patch_weight=1.0)
    other.load_state_dict(one.state_dict())
    again = [model(images(4, seed=1), keys(4), all_readable(images(4, seed=1)))["loss"] for model in (one, other)]
    assert torch.equal(*again)


@pytest.mark.parametrize("assignment", ["centre", "sinkhorn"])
def test_it_learns_without_collapsing(assignment: str) -> None:
    """Images of four colours: after 60 steps the teacher distinguishes them."""
    model = learner(assignment=assignment, momentum=0.9, crops=CropConfig(num_local=2, jitter=0.1))
    colours = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1]])
    batch = colours.repeat(8, 1)[:, :, None, None].expand(-1, -1, 16, 16)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, 3e-3)
    for step in range(60):
        loss = model(batch, keys(32) + step, all_readable(batch))["loss"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.after_step(progress=step / 200)
    features = F.normalize(model.eval().extract_features(batch[:4]), dim=1)
    similarity = features @ features.T
    assert similarity.min() < 0.5, "with a collapsed teacher all are 1"
    outputs = model.teacher_project(model.extract_features(batch[:4]))
    probabilities = model.assign(outputs, model.centre.mean, all_readable(outputs))
    assert (probabilities.argmax(1).bincount(minlength=12) > 0).sum() > 1, "more than one prototype is used"
    assert model.models()[0] is model.teacher


def test_the_projection_gives_cosine_similarities() -> None:
    torch.manual_seed(0)
    project = Projection(16, DINOConfig(**SMALL))
    outputs = project(torch.randn(5, 16))
    assert outputs.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        project.prototypes.weight.mul_(3.0)
    torch.testing.assert_close(project(torch.zeros(1, 16)), project(torch.zeros(1, 16)))


def test_pooled_gives_the_models_features() -> None:
    for pool in ("cls", "gap", "map"):
        model = ViT(replace(CONFIG, pool=pool, num_registers=2))
        batch = images(2)
        torch.testing.assert_close(pooled(model, model.encode(*model.embed(batch))), model.features(batch).pooled)


def test_panels_show_crops() -> None:
    titles = [panel.title for panel in learner().panels(images(2), keys(2))]
    assert titles == ["global crop 1", "global crop 2", "local crop 1", "local crop 2", "image"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prototypes": 0}, "must be at least 1"),
        ({"student_temperature": 0.0}, "must be above 0"),
        ({"momentum": 1.1}, "must be from 0 to 1"),
        ({"koleo": -1.0}, "at least 0"),
    ],
)
def test_wrong_settings(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DINOConfig(**values)


def test_unsuitable_models_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="DINO needs a Vision Transformer"):
        build_objective(DINOConfig(**SMALL), build_context(PREPROCESSING)).learner(create("BiT-R50x1", image_size=32))
    with pytest.raises(ValueError, match=r"set --model\.pool cls or gap"):
        learner(replace(CONFIG, pool="cls_gap"))
    with pytest.raises(ValueError, match="must be a multiple of the patch size"):
        learner(crops=CropConfig(local_size=9))


def test_a_second_average_is_refused() -> None:
    """It would average the student only; the teacher inside, which is saved, would never change."""
    config = tiny_run(ema=None)
    with pytest.raises(ValueError, match=r"leave out --train\.ema"):
        replace(config, objective=DINOConfig(**SMALL), train=replace(config.train, ema=0.9))
