"""The parity report, on files that are made up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models import small_card, small_model
from vitral.data.sources.source import ArraySource
from vitral.errors import UserError
from vitral.export.exported import ExportedModel
from vitral.export.images import UNKNOWN, ReferenceImages, from_files, photographs
from vitral.export.metadata import ExportMetadata
from vitral.export.parity import compare
from vitral.vit import ViT

MODEL = small_model()


def exported(compute: Callable[[Tensor], Tensor], **changes: object) -> ExportedModel:
    metadata = ExportMetadata(
        vitral="1", architecture=MODEL.config, card=MODEL.card, output="logits", image_size="fixed", precision="float32"
    )
    return ExportedModel(Path("a.onnx"), compute, replace(metadata, **changes))


def labelled(model: ViT = MODEL, count: int = 40) -> ReferenceImages:
    """Noise, of which the model knows every second image's class."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 16, 24, 3), np.uint8)
    with torch.no_grad():
        best = model(model.card.preprocessing.normalise(torch.from_numpy(pixels))).argmax(1).numpy()
    labels = np.where(np.arange(count) % 2, best, (best + 1) % 3)
    source = ArraySource(title="noise", images=pixels, labels=labels, classes=model.card.classes)
    return ReferenceImages.of("noise", source, most=count)


def test_the_model_itself_is_identical() -> None:
    report = compare(MODEL, exported(MODEL), labelled())
    assert [(row.size, row.batch, row.num_images) for row in report.comparisons] == [
        ((16, 24), 16, 40),
        ((16, 24), 1, 40),
        ((16, 24), 3, 40),
    ]
    assert report.passed
    assert report.verdict.startswith("identical")
    assert report.labelled.accuracy == (0.5, 0.5)
    assert report.labelled.ece[0] == report.labelled.ece[1] > 0


def test_a_file_of_any_size_is_compared_at_three_sizes() -> None:
    report = compare(MODEL, exported(MODEL, image_size="dynamic"), labelled())
    assert len({row.size for row in report.comparisons}) == 3
    assert len(report.comparisons) == 9


def test_rounding_is_called_rounding() -> None:
    report = compare(MODEL, exported(lambda images: MODEL(images) + 1e-5), labelled())
    assert report.verdict.startswith("equal to rounding")
    assert report.comparisons[0].largest == pytest.approx(1e-5, rel=0.1)
    assert report.comparisons[0].mean == pytest.approx(1e-5, rel=0.1)


def wrong_for_some(images: Tensor) -> Tensor:
    """Another class for the images whose first value is high: some of 40."""
    logits = MODEL(images)
    wrong = images[:, 0, 0, 0] > 0.6
    return torch.where(wrong[:, None], logits.roll(1, 1), logits)


def test_a_file_that_disagrees_fails_with_figures() -> None:
    report = compare(MODEL, exported(wrong_for_some), labelled())
    first = report.comparisons[0]
    assert 0 < 40 - first.equal < 20
    assert not report.passed
    for fact in (f"{first.equal} of 40 images", "accuracy 50.00 ->", "99.0%"):
        assert fact in report.verdict
    assert compare(MODEL, exported(wrong_for_some), labelled(), tolerance=0.4).passed


def test_int8_may_differ_more() -> None:
    assert compare(MODEL, exported(MODEL, precision="int8"), labelled()).tolerance == 0.97


def test_outputs_that_are_not_finite_are_not_equal() -> None:
    report = compare(MODEL, exported(lambda images: MODEL(images) * float("nan")), labelled())
    assert report.agreement == 0
    assert not report.passed


def test_features_are_compared_by_direction() -> None:
    def features(images: Tensor) -> Tensor:
        return MODEL.features(images).pooled

    report = compare(MODEL, exported(features, output="features"), labelled())
    assert report.passed
    assert not compare(MODEL, exported(lambda x: features(x).flip(1), output="features"), labelled()).passed


def test_whole_images_reach_a_file_that_resizes_them() -> None:
    sizes = set()

    def compute(pixels: Tensor) -> Tensor:
        assert pixels.dtype == torch.uint8
        sizes.add(tuple(pixels.shape[1:]))
        resized = [MODEL.card.preprocessing.pixels(Image.fromarray(image.numpy())) for image in pixels]
        return MODEL(MODEL.card.preprocessing.normalise(torch.from_numpy(np.stack(resized))))

    images = photographs()
    report = compare(MODEL, exported(compute, with_preprocessing=True), images)
    assert report.comparisons[0].largest < 1e-5
    assert sizes == {(192, 192, 3)}
    assert report.labelled is None
    with pytest.raises(UserError, match="twice"):
        exported(compute, with_preprocessing=True)(torch.zeros(1, 3, 16, 24))


def test_labels_of_files_are_the_names_of_their_folders(tmp_path: Path) -> None:
    for folder, name in (("class 1", "a.png"), ("class 1", "b.png"), ("other", "c.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (30, 20)).save(tmp_path / folder / name)
    (tmp_path / "other" / "d.png").write_bytes(b"no image")
    files = sorted(map(str, tmp_path.rglob("*.png")))
    images = from_files(files, title="mine", classes=small_card().classes, most=100)
    assert images.source.labels.tolist() == [1, 1, UNKNOWN, UNKNOWN]
    report = compare(MODEL, exported(MODEL), images)
    assert report.comparisons[0].num_images == 3
    assert report.labelled.num_images == 2
    assert list(images.unreadable) == [str(tmp_path / "other" / "d.png")]


def test_without_a_readable_image_there_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "d.png").write_bytes(b"no image")
    images = from_files([str(tmp_path / "d.png")], title="mine", classes=(), most=1)
    with pytest.raises(UserError, match=r"d\.png"):
        compare(MODEL, exported(MODEL), images)


def test_precision_is_the_files_own() -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(UserError, match="leave out --precision"):
        exported(MODEL)(torch.zeros(1, 3, 16, 24))


def test_a_model_whose_outputs_are_not_finite_is_not_exported() -> None:
    model = small_model()
    model.head.bias.data[1] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        compare(model, exported(model), labelled(model))
