"""Distillation compared with its equations, and a teacher that receives its student's batches."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints import newest, tensors
from tiny import ARCHITECTURE, build_context, tiny_run
from vitral.card import ModelCard
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.models import create
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.distillation import Distillation, DistillationConfig, build_distillation
from vitral.objectives.registry import build_objective
from vitral.runs.metrics import read_metrics
from vitral.runs.run import Run
from vitral.train.fit import fit
from vitral.train.teacher import load_teacher
from vitral.vit import ViT
from vitral.weights.folder import load_model, save_model
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.write import upstream_state_dict

IMAGES = torch.zeros(6, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])
TEACHER_LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
CLASSES = tuple("0123456789")


def random_logits(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def objective(**changes: object) -> Distillation:
    return Distillation(DistillationConfig(**changes), lambda _: TEACHER_LOGITS)


def test_hard_distillation_is_one_cross_entropy_for_each_head() -> None:
    """Equation 3, with both weights one half."""
    both = random_logits(6, 2, 4)
    loss, metrics = objective().loss(lambda _: both, Examples(images=IMAGES, labels=LABELS))
    expected = F.cross_entropy(both[:, 0], LABELS) / 2 + F.cross_entropy(both[:, 1], TEACHER_LOGITS.argmax(1)) / 2
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, both)[0] for value in (loss, expected)))
    assert metrics["agreement"].item() == pytest.approx(
        (both[:, 1].argmax(1) == TEACHER_LOGITS.argmax(1)).float().mean().item()
    )
    assert metrics["accuracy"].item() == pytest.approx((both[:, 0].argmax(1) == LABELS).float().mean().item())


def test_soft_distillation_is_the_divergence_at_a_temperature() -> None:
    """Equation 2, written out."""
    logits = random_logits(6, 4)
    loss, _ = objective(form="soft", teacher_weight=0.1, temperature=3.0).loss(
        lambda _: logits, Examples(images=IMAGES, labels=LABELS)
    )
    expected, own = (TEACHER_LOGITS / 3).softmax(1), (logits / 3).softmax(1)
    divergence = (expected * (expected / own).log()).sum(1).mean()
    torch.testing.assert_close(loss, 0.9 * F.cross_entropy(logits, LABELS) + 0.1 * 9 * divergence)


def test_a_student_equal_to_its_teacher_has_no_gradient() -> None:
    logits = TEACHER_LOGITS.clone().requires_grad_()
    loss, metrics = objective(form="soft", teacher_weight=1.0).loss(
        lambda _: logits, Examples(images=IMAGES, labels=LABELS)
    )
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert logits.grad.abs().max() < 1e-6
    assert metrics["agreement"].item() == 1


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_unreadable_images_are_ignored(form: str) -> None:
    both, labels, readable = random_logits(6, 2, 4), LABELS.clone(), [0, 2, 3, 5]
    labels[[1, 4]] = UNREADABLE
    loss, metrics = objective(form=form).loss(lambda _: both, Examples(images=IMAGES, labels=labels))
    fewer = Distillation(DistillationConfig(form=form), lambda _: TEACHER_LOGITS[readable])
    alone, same = fewer.loss(lambda _: both[readable], Examples(images=IMAGES[readable], labels=LABELS[readable]))
    torch.testing.assert_close(loss, alone)
    assert metrics["agreement"].item() == pytest.approx(same["agreement"].item())
    loss.backward()
    assert not both.grad[[1, 4]].any()


def test_the_labels_loss_equals_classification() -> None:
    """With mixed images and label smoothing."""
    both, labels = random_logits(6, 2, 4), ClassificationConfig(label_smoothing=0.1)
    mixed = Examples(images=IMAGES, labels=LABELS, partners=LABELS.flip(0), mix_weights=torch.linspace(0.3, 1, 6))
    distilled = objective(labels=labels, teacher_weight=1e-9)
    plain = build_objective(labels, build_context(Preprocessing(image_size=(2, 2), channels=1)))
    torch.testing.assert_close(distilled.loss(lambda _: both, mixed)[0], plain.loss(lambda _: both[:, 0], mixed)[0])


def test_two_heads_give_both_logits_in_training_and_their_mean_in_evaluation() -> None:
    model = create("ViT-Ti/16", distillation=True, num_classes=5, image_size=32, depth=1)
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head.dist.weight)
    some = torch.rand(2, 3, 32, 32)
    alone = model.train()(some)
    assert objective().learner(model) is model
    both = model(some)
    assert alone.shape == (2, 5)
    assert both.shape == (2, 2, 5)
    torch.testing.assert_close(both.mean(1), alone)
    torch.testing.assert_close(model.eval()(some), alone)


@pytest.mark.parametrize("wrong", [{"teacher_weight": 0.0}, {"teacher_weight": 1.5}, {"temperature": 0.0}])
def test_wrong_values_are_refused(wrong: dict[str, float]) -> None:
    flag = next(iter(wrong)).replace("_", "-")
    with pytest.raises(ValueError, match=rf"^--objective\.{flag} must be above 0"):
        DistillationConfig(**wrong)


def save_teacher(folder: Path, classes: tuple[str, ...] = CLASSES, **changes: object) -> ViT:
    """A teacher with random weights, in a folder."""
    torch.manual_seed(3)
    model = ViT(replace(ARCHITECTURE, num_classes=len(classes), **changes)).eval()
    torch.nn.init.normal_(model.head.weight)
    size, channels = model.config.image_hw, model.config.channels
    model.card = ModelCard(
        classes=classes,
        preprocessing=Preprocessing(image_size=size, channels=channels, mean=(0.1,), std=(0.7,)),
    )
    save_model(folder, model, model.card)
    return model


def teacher_logits(folder: Path, images: Tensor, **changes: object) -> Tensor:
    return load_teacher(folder, build_context(**{"preprocessing": STUDENT, **changes}))(images)


STUDENT = Preprocessing(image_size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))
PIXELS = torch.randint(0, 256, (3, 8, 8, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_teacher_receives_images_of_its_own_preprocessing(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path)
    expected = teacher(teacher.card.preprocessing.normalise(PIXELS))
    torch.testing.assert_close(teacher_logits(tmp_path, STUDENT.normalise(PIXELS)), expected, rtol=1e-4, atol=1e-5)


def test_a_larger_colour_teacher_receives_small_grey_images(tmp_path: Path) -> None:
    teacher = save_teacher(tmp_path, image_size=16, channels=3)
    large = F.interpolate(PIXELS.permute(0, 3, 1, 2).float() / 255, (16, 16), mode="bilinear", antialias=True)
    expected = teacher(teacher.card.preprocessing.from_unit_range(large.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(teacher_logits(tmp_path, STUDENT.normalise(PIXELS)), expected, rtol=1e-4, atol=1e-5)


def test_logits_come_in_the_students_order_of_classes(tmp_path: Path) -> None:
    save_teacher(tmp_path, CLASSES[::-1])
    images = STUDENT.normalise(PIXELS)
    logits = teacher_logits(tmp_path, images)
    torch.testing.assert_close(logits.flip(1), teacher_logits(tmp_path, images, classes=CLASSES[::-1]))


def test_unsuitable_teachers_are_refused(tmp_path: Path) -> None:
    save_teacher(tmp_path)
    colours = replace(STUDENT, channels=3)
    for words, changes in {
        "has 10 classes, and the images 2": {"classes": ("cat", "dog")},
        "takes grey images, and the student colour": {"preprocessing": colours},
    }.items():
        with pytest.raises(ValueError, match=words):
            teacher_logits(tmp_path, IMAGES, **changes)
    with pytest.raises(ValueError, match=r"name one with --objective\.teacher"):
        build_objective(DistillationConfig(), build_context(STUDENT))


def test_a_run_learns_from_its_teacher_and_saves_a_plain_model(tmp_path: Path) -> None:
    """Without labels the student comes to agree with its teacher, and the run's model holds nothing of the teacher."""
    teacher = save_teacher(tmp_path / "teacher", dropout=0.0)
    config = tiny_run(tmp_path / "run", steps=40, ema=None)
    config = replace(
        config,
        model=replace(config.model, architecture=replace(ARCHITECTURE, distillation=True, dropout=0.0)),
        objective=DistillationConfig(teacher=tmp_path / "teacher", teacher_weight=1.0),
    )
    with closing(Run.create(config.out, recipe=config.recipe)) as run:
        fit(run, config)
    agreement = [
        row["train/agreement"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/agreement" in row
    ]
    assert agreement[-1] > agreement[0] + 0.2
    student = load_model(tmp_path / "run")
    assert student.state_dict().keys() == ViT(config.model.architecture).state_dict().keys()
    assert tensors(newest(tmp_path / "run"), "model").keys() == student.state_dict().keys()
    assert torch.equal(load_model(tmp_path / "teacher").head.weight, teacher.head.weight)


def test_a_teacher_is_a_part_of_another_projects_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = save_teacher(tmp_path / "teacher", channels=1, image_size=8, patch_size=4, pool="gap", gelu="quick")
    tensors, _ = upstream_state_dict(LINEAGES["timm"], teacher)
    part = {f"eye.{name}": tensor for name, tensor in tensors.items()} | {"text.weight": torch.zeros(2)}
    torch.save({"teacher": {}, "student": part, "other": part}, tmp_path / "x.pth")
    config = DistillationConfig(teacher=tmp_path / "x.pth", teacher_checkpoint_key="student")
    context = build_context(STUDENT, load_teacher=load_teacher)
    with pytest.raises(UserError, match=r"--objective\.teacher-prefix eye\."):
        build_distillation(config, context)
    config = replace(config, teacher_prefix="eye.", teacher_num_heads=teacher.config.num_heads)
    with pytest.raises(UserError, match=r"--objective\.teacher-gelu tanh"):
        build_distillation(config, context)
    objective = build_distillation(replace(config, teacher_gelu="quick"), context)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    half = Preprocessing(image_size=(8, 8), channels=1, mean=(0.5,), std=(0.5,))
    expected = teacher(half.from_unit_range(STUDENT.to_unit_range(images)))
    torch.testing.assert_close(objective.teacher(images), expected, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="teacher-num-heads must be at least 1"):
        replace(config, teacher_num_heads=0)
