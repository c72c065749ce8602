"""Distillation against its equations, and a teacher that hears what was made for its student."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from checkpoints import newest, tensors
from tiny import ARCHITECTURE, tiny_run
from vitral.card import ModelCard
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.distillation import Distillation, DistillationConfig
from vitral.objectives.kinds import objective_of
from vitral.runs.metrics import read_metrics
from vitral.train.fit import fit
from vitral.train.run import Run
from vitral.train.teacher import read_teacher
from vitral.vit import ViT
from vitral.weights.folder import load_model, save_model

IMAGES = torch.zeros(6, 1, 2, 2)
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])
TOLD = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
NAMES = tuple("0123456789")


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


def objective(**changes: object) -> Distillation:
    return Distillation(DistillationConfig(**changes), lambda _: TOLD)


def test_hard_distillation_is_two_cross_entropies_each_with_its_head() -> None:
    """Equation 3 with the share one half."""
    both = drawn(6, 2, 4)
    loss, figures = objective().loss(lambda _: both, Examples(images=IMAGES, labels=LABELS))
    asked = F.cross_entropy(both[:, 0], LABELS) / 2 + F.cross_entropy(both[:, 1], TOLD.argmax(1)) / 2
    torch.testing.assert_close(loss, asked)
    torch.testing.assert_close(*(torch.autograd.grad(value, both)[0] for value in (loss, asked)))
    assert figures["agreement"].item() == pytest.approx((both[:, 1].argmax(1) == TOLD.argmax(1)).float().mean().item())
    assert figures["accuracy"].item() == pytest.approx((both[:, 0].argmax(1) == LABELS).float().mean().item())


def test_soft_distillation_is_a_divergence_of_tempered_probabilities() -> None:
    """Equation 2, written out."""
    logits = drawn(6, 4)
    loss, _ = objective(form="soft", share=0.1, temperature=3.0).loss(
        lambda _: logits, Examples(images=IMAGES, labels=LABELS)
    )
    asked, own = (TOLD / 3).softmax(1), (logits / 3).softmax(1)
    divergence = (asked * (asked / own).log()).sum(1).mean()
    torch.testing.assert_close(loss, 0.9 * F.cross_entropy(logits, LABELS) + 0.1 * 9 * divergence)


def test_a_student_that_tells_what_its_teacher_tells_has_nothing_to_learn() -> None:
    logits = TOLD.clone().requires_grad_()
    loss, figures = objective(form="soft", share=1.0).loss(lambda _: logits, Examples(images=IMAGES, labels=LABELS))
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert logits.grad.abs().max() < 1e-6
    assert figures["agreement"].item() == 1


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_unreadable_images_count_for_nothing(form: str) -> None:
    both, labels, kept = drawn(6, 2, 4), LABELS.clone(), [0, 2, 3, 5]
    labels[[1, 4]] = UNREADABLE
    loss, figures = objective(form=form).loss(lambda _: both, Examples(images=IMAGES, labels=labels))
    fewer = Distillation(DistillationConfig(form=form), lambda _: TOLD[kept])
    alone, same = fewer.loss(lambda _: both[kept], Examples(images=IMAGES[kept], labels=LABELS[kept]))
    torch.testing.assert_close(loss, alone)
    assert figures["agreement"].item() == pytest.approx(same["agreement"].item())
    loss.backward()
    assert not both.grad[[1, 4]].any()


def test_labels_are_learned_as_classification_would() -> None:
    """Mixed images and smoothing included."""
    both, labels = drawn(6, 2, 4), ClassificationConfig(label_smoothing=0.1)
    mixed = Examples(images=IMAGES, labels=LABELS, partners=LABELS.flip(0), shares=torch.linspace(0.3, 1, 6))
    distilled = objective(labels=labels, share=1e-9)
    plain = objective_of(labels, Preprocessing(image_size=(2, 2), channels=1), read_teacher=pytest.fail)
    torch.testing.assert_close(distilled.loss(lambda _: both, mixed)[0], plain.loss(lambda _: both[:, 0], mixed)[0])


def test_a_head_of_two_tells_both_in_training_and_their_mean_after() -> None:
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


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.5}, {"temperature": 0.0}])
def test_wrong_values_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"^--objective\.{next(iter(wrong))} must be above 0"):
        DistillationConfig(**wrong)


def saved(folder: Path, classes: tuple[str, ...] = NAMES, **changes: object) -> ViT:
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


def heard(folder: Path, images: Tensor, **changes: object) -> Tensor:
    settings = dict(preprocessing=STUDENT, classes=NAMES, device=torch.device("cpu"), compiled=False)
    return read_teacher(folder, **{**settings, **changes})(images)


STUDENT = Preprocessing(image_size=(8, 8), channels=1, mean=(0.5,), std=(0.25,))
PIXELS = torch.randint(0, 256, (3, 8, 8, 1), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_teacher_sees_what_its_own_preprocessing_makes(tmp_path: Path) -> None:
    teacher = saved(tmp_path)
    asked = teacher(teacher.card.preprocessing.normalise(PIXELS))
    torch.testing.assert_close(heard(tmp_path, STUDENT.normalise(PIXELS)), asked, rtol=1e-4, atol=1e-5)


def test_a_larger_teacher_of_colours_hears_small_grey_images(tmp_path: Path) -> None:
    teacher = saved(tmp_path, image_size=16, channels=3)
    large = F.interpolate(PIXELS.permute(0, 3, 1, 2).float() / 255, (16, 16), mode="bilinear", antialias=True)
    asked = teacher(teacher.card.preprocessing.scaled(large.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(heard(tmp_path, STUDENT.normalise(PIXELS)), asked, rtol=1e-4, atol=1e-5)


def test_classes_in_another_order_are_put_in_the_students(tmp_path: Path) -> None:
    saved(tmp_path, NAMES[::-1])
    images = STUDENT.normalise(PIXELS)
    told = heard(tmp_path, images)
    torch.testing.assert_close(told.flip(1), heard(tmp_path, images, classes=NAMES[::-1]))


def test_teachers_that_cannot_teach_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    colours = replace(STUDENT, channels=3)
    for words, changes in {
        "tells 10 classes, not the images' 2": {"classes": ("cat", "dog")},
        "sees grey images, and the student colours": {"preprocessing": colours},
    }.items():
        with pytest.raises(ValueError, match=words):
            heard(tmp_path, IMAGES, **changes)
    with pytest.raises(ValueError, match=r"name one with --objective\.teacher"):
        heard(None, IMAGES)


def test_a_run_learns_from_its_teacher_and_keeps_a_plain_model(tmp_path: Path) -> None:
    """With no label's help the student comes to tell what the teacher tells, and nothing of the teacher is saved."""
    teacher = saved(tmp_path / "teacher", dropout=0.0)
    config = tiny_run(tmp_path / "run", steps=40, ema=None)
    config = replace(
        config,
        model=replace(config.model, architecture=replace(ARCHITECTURE, distillation=True, dropout=0.0)),
        objective=DistillationConfig(teacher=tmp_path / "teacher", share=1.0),
    )
    with closing(Run.create(config)) as run:
        fit(run, config)
    agreement = [
        row["train/agreement"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/agreement" in row
    ]
    assert agreement[-1] > agreement[0] + 0.2
    student = load_model(tmp_path / "run")
    assert student.state_dict().keys() == ViT(config.model.architecture).state_dict().keys()
    assert tensors(newest(tmp_path / "run"), "model").keys() == student.state_dict().keys()
    assert torch.equal(load_model(tmp_path / "teacher").head.weight, teacher.head.weight)
