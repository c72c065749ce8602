"""`vitral eval --suite imagenet` and `imagenet-c` on small sets in their authors' layout, with fixed predictions."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from cli.screen import Screen
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.datasets.originals.imagenet_c import CORRUPTIONS
from vitral.models import create
from vitral.serve.predictor import Predictor
from vitral.suites.imagenet_c import CorruptionResult
from vitral.weights.class_names.imagenet import imagenet_classes, imagenet_identifiers
from vitral.weights.folder import save_model

NAMES = imagenet_classes(1000)
assert NAMES is not None
IDS = imagenet_identifiers(NAMES)
assert IDS is not None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of ImageNet's classes."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny = create("ViT-Ti/16", depth=1, image_size=16, num_classes=1000)
    save_model(folder, tiny, ModelCard(preprocessing=Preprocessing(image_size=(16, 16), channels=3), classes=NAMES))
    return folder


@pytest.fixture(autouse=True)
def predict_shade(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of shade s is predicted as class s, then s + 1, s + 2 and so on."""

    def logits(self: Predictor, images: Tensor) -> Tensor:
        shade = images[:, 8, 8, 0].long()[:, None]
        return -((torch.arange(1000) - shade) % 1000).float()

    monkeypatch.setattr(Predictor, "logits", logits)


def write_image(file: Path, shade: int, *, frame: bool = False) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (20, 20), (255, 0, 0) if frame else (shade,) * 3)
    image.paste((shade,) * 3, (2, 2, 18, 18))
    image.save(file, "PNG")


def write_val(root: Path) -> None:
    """Classes 10, 20, 30, 40; predicted correctly, correctly in second place, wrongly, correctly."""
    for number, (label, shade) in enumerate([(10, 10), (20, 19), (30, 90), (40, 40)], 1):
        write_image(root / "val" / IDS[label] / f"ILSVRC2012_val_{number:08d}.JPEG", shade)


def by_test(screen: Screen, model: Path, root: Path) -> dict[str, tuple[float, float, int]]:
    result = screen.json("eval", model, "--suite", "imagenet", "--data.root", root, "--device", "cpu")
    return {row["test"]: (row["top1"], row["top5"], row["num_images"]) for row in result["tests"]}


def test_original_and_reassessed_labels(screen: Screen, model: Path, tmp_path: Path) -> None:
    """Images without a reassessed label do not count, and those with several may be either."""
    write_val(tmp_path)
    (tmp_path / "real.json").write_text(json.dumps([[10, 11], [5, 19], [], [44]]))
    result = by_test(screen, model, tmp_path)
    assert result == {"ImageNet": (0.5, 0.75, 4), "ReaL": (2 / 3, 1.0, 3)}
    assert "ReaL has 3 labelled images here, and 46,837 when complete" in screen.errors
    assert "skipped: Sketch needs sketch in" in screen.errors


def test_flat_validation_images_get_labels_of_the_development_kit(screen: Screen, model: Path, tmp_path: Path) -> None:
    for number, shade in ((1, 10), (2, 21)):
        write_image(tmp_path / "val" / f"ILSVRC2012_val_{number:08d}.JPEG", shade)
    rows = [
        {"ImageId": f"ILSVRC2012_val_{n:08d}", "PredictionString": f"{IDS[c]} 1 2 3 4"} for n, c in ((1, 10), (2, 20))
    ]
    with (tmp_path / "LOC_val_solution.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["ImageId", "PredictionString"])
        writer.writeheader()
        writer.writerows(rows)
    assert by_test(screen, model, tmp_path) == {"ImageNet": (0.5, 0.5, 2)}


def test_v2_is_numbered(screen: Screen, model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "imagenetv2-matched-frequency-format-val"
    for label, shade in ((9, 9), (100, 100), (11, 8), (12, 5)):
        write_image(folder / str(label) / "a.jpeg", shade)
    assert by_test(screen, model, tmp_path) == {"V2": (0.5, 0.75, 4)}
    write_image(folder / "1000" / "a.jpeg", 1)
    error = screen.refusal_after_notes("eval", model, "--suite", "imagenet", "--data.root", tmp_path)
    assert f"{folder} has folders that are not named 0 to 999" in error


def test_a_and_r_are_restricted_to_their_own_classes(screen: Screen, model: Path, tmp_path: Path) -> None:
    """Class 13 is not in A, so an image predicted as 13 counts as the next class that is in A."""
    for label, shade in ((10, 10), (15, 13), (20, 19), (60, 58), (70, 71), (80, 81)):
        write_image(tmp_path / "imagenet-a" / IDS[label] / "a.jpg", shade)
        write_image(tmp_path / "sketch" / IDS[label] / "a.JPEG", shade)
    result = by_test(screen, model, tmp_path)
    assert result["A"] == (pytest.approx(4 / 6), pytest.approx(4 / 6), 6)
    assert result["Sketch"] == (pytest.approx(1 / 6), pytest.approx(4 / 6), 6)


def write_objectnet(root: Path) -> Path:
    """Two common classes, one of them two of ImageNet's, and one class that ImageNet lacks."""
    folder = root / "objectnet-1.0"
    for name, shade in (("air_freshener", 5), ("chair", 41), ("chair", 50), ("alarm_clock", 7)):
        write_image(folder / "images" / name / f"{shade}.png", shade, frame=True)
    mappings = {
        "folder_to_objectnet_label.json": {"air_freshener": "Air freshener", "chair": "Chair", "alarm_clock": "Clock"},
        "objectnet_to_imagenet_1k.json": {"Chair": "barber chair; rocking chair, rocker", "Clock": "analog clock"},
        "pytorch_to_imagenet_2012_id.json": {"40": 0, "41": 2, "7": 1},
    }
    (folder / "mappings").mkdir()
    for name, content in mappings.items():
        (folder / "mappings" / name).write_text(json.dumps(content))
    (folder / "mappings" / "imagenet_to_label_2012_v2").write_text(
        "barber chair\nanalog clock\nrocking chair, rocker\n"
    )
    return folder


def test_objectnet_by_its_mapping_and_without_its_frame(screen: Screen, model: Path, tmp_path: Path) -> None:
    folder = write_objectnet(tmp_path)
    assert by_test(screen, model, tmp_path) == {"ObjectNet": (pytest.approx(2 / 3), pytest.approx(2 / 3), 3)}
    (folder / "mappings" / "objectnet_to_imagenet_1k.json").unlink()
    error = screen.refusal_after_notes("eval", model, "--suite", "imagenet", "--data.root", tmp_path)
    assert f"{folder}/mappings/objectnet_to_imagenet_1k.json" in error
    assert "No such file" in error


def test_table_and_files(screen: Screen, model: Path, tmp_path: Path) -> None:
    write_val(tmp_path)
    shown = screen.run("eval", model, "--suite", "imagenet", "--data.root", tmp_path, "--out", tmp_path / "table.md")
    for text in (shown, (tmp_path / "table.md").read_text()):
        assert "50.00%" in text
        assert "75.00%" in text


def test_wrong_use(screen: Screen, model: Path, trained: Path, tmp_path: Path) -> None:
    words = ("eval", model, "--suite", "imagenet")
    assert screen.refusal(*words).startswith("no folder is given: ")
    assert screen.refusal(*words, "--data.root", "nowhere").startswith("nowhere is not a folder: ")
    assert screen.refusal(*words, "--data.root", tmp_path).startswith(
        f"{tmp_path} has none of val, real.json, imagenetv2"
    )
    error = screen.refusal("eval", trained, "--suite", "imagenet", "--data.root", tmp_path)
    assert "is for models of ImageNet's 1,000 classes" in error
    assert "has 10 classes" in error
    (tmp_path / "real.json").write_text("[]")
    error = screen.refusal_after_notes(*words, "--data.root", tmp_path)
    assert f"{tmp_path} has no val folder" in error
    write_val(tmp_path)
    (tmp_path / "real.json").unlink()
    unreadable = tmp_path / "val" / IDS[10] / "ILSVRC2012_val_00000001.JPEG"
    unreadable.write_bytes(unreadable.read_bytes()[:30])
    assert str(unreadable) in screen.refusal_after_notes(*words, "--data.root", tmp_path)
    assert "skipped: " + str(unreadable) in skipped(screen, *words, "--data.root", tmp_path)


def test_a_test_that_cannot_be_read_does_not_cost_the_others(screen: Screen, model: Path, tmp_path: Path) -> None:
    write_val(tmp_path)
    (tmp_path / "real.json").write_text("[]")
    write_image(tmp_path / "sketch" / IDS[10] / "a.JPEG", 10)
    (tmp_path / "sketch" / IDS[10] / "a.JPEG").write_bytes(b"no image")
    words = ("eval", model, "--suite", "imagenet", "--data.root", tmp_path)
    result = screen.json(*words, "--out", tmp_path / "table.csv", code=1)
    assert [row["test"] for row in result["tests"]] == ["ImageNet"]
    assert result["failures"].keys() == {"ReaL", "Sketch"}
    assert f"skipped: ReaL: {tmp_path}/real.json" in screen.errors
    assert "skipped: Sketch: " in screen.errors
    assert (tmp_path / "table.csv").read_text().startswith("test,top-1,top-5,images,seconds\nImageNet,50.00%,75.00%,4,")
    error = screen.refusal(*words, "--data.limit", "3")
    assert error == "--suite imagenet uses only --data.root, --data.on-error and --data.workers: leave out --data.limit"


def skipped(screen: Screen, *words: str | Path) -> str:
    screen.run(*words, "--data.on-error", "skip")
    return screen.errors


def write_corruption(folder: Path, wrong: dict[int, int] | None = None) -> None:
    """Four images of each severity, of which as many as `wrong` says are predicted wrongly."""
    for severity in range(1, 6):
        for label in range(4):
            shade = 90 if label < (wrong or {}).get(severity, 0) else label + 10
            write_image(folder / str(severity) / IDS[label + 10] / "a.JPEG", shade)


def test_corruption_errors_are_relative_to_alexnet(screen: Screen, model: Path, tmp_path: Path) -> None:
    """In either layout, of folders alone or in those of the archives."""
    write_corruption(tmp_path / "fog", {1: 0, 2: 1, 3: 2, 4: 3, 5: 4})
    write_corruption(tmp_path / "noise" / "shot_noise", dict.fromkeys(range(1, 6), 2))
    words = ("eval", model, "--suite", "imagenet-c", "--data.root", tmp_path, "--device", "cpu")
    result = screen.json(*words, "--out", tmp_path / "table.csv")
    shot_noise, fog = result["corruptions"]
    assert (fog["corruption"], fog["group"], fog["errors"]) == ("fog", "weather", [0.0, 0.25, 0.5, 0.75, 1.0])
    assert (fog["error"], fog["num_images"]) == (0.5, 20)
    assert fog["ce"] == pytest.approx(0.5 / 0.819324)
    assert shot_noise["ce"] == pytest.approx(0.5 / 0.894468)
    assert (result["mean_error"], result["mce"]) == (0.5, None)
    assert "has no gaussian_noise, impulse_noise" in screen.errors
    assert "fog has 20 images here, and 250,000 when complete" in screen.errors
    assert "fog: error 50.00%, CE 61.03%" in screen.errors
    rows = list(csv.reader((tmp_path / "table.csv").read_text().splitlines()))
    assert rows[2][:9] == ["fog", "0.00%", "25.00%", "50.00%", "75.00%", "100.00%", "50.00%", "61.03%", "20"]
    assert rows[3][:8] == ["mean", "25.00%", "37.50%", "50.00%", "62.50%", "75.00%", "50.00%", "-"]


def test_the_mean_corruption_error_of_all_corruptions(screen: Screen, model: Path, tmp_path: Path) -> None:
    for number, corruption in enumerate(CORRUPTIONS):
        write_corruption(tmp_path / corruption.group / corruption.name, {3: number % 5})
    words = ("eval", model, "--suite", "imagenet-c", "--data.root", tmp_path)
    result = screen.json(*words)
    expected = [number % 5 / 20 / corruption.alexnet for number, corruption in enumerate(CORRUPTIONS)]
    assert [row["ce"] for row in result["corruptions"]] == pytest.approx(expected)
    assert result["mce"] == pytest.approx(sum(expected) / 15)
    assert f"{result['mce']:.2%} (mCE)" in screen.run(*words)


@pytest.mark.parametrize(
    ("name", "accuracy", "ce"),
    [
        ("brightness", 68.02, 56.64),
        ("contrast", 39.06, 71.43),
        ("defocus_blur", 38.75, 74.71),
        ("elastic_transform", 45.25, 84.75),
        ("fog", 45.83, 66.11),
        ("frost", 38.14, 74.84),
        ("gaussian_noise", 29.29, 79.77),
        ("glass_blur", 26.79, 88.61),
        ("impulse_noise", 23.81, 82.58),
    ],
)
def test_corruption_errors_of_a_published_resnet(name: str, accuracy: float, ce: float) -> None:
    """A ResNet-50 of 76.13 %: both numbers are published, and rounded to a hundredth."""
    (corruption,) = (each for each in CORRUPTIONS if each.name == name)
    error = 1 - accuracy / 100
    result = CorruptionResult(corruption=corruption, errors=(error,) * 5, num_images=250_000, seconds=1.0)
    assert 100 * result.ce == pytest.approx(ce, abs=0.015)


def test_corrupted_images_are_not_cropped(
    screen: Screen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published ones are crops; a frame that the model's own crop would cut off stays."""
    seen: list[Tensor] = []

    def logits(self: Predictor, images: Tensor) -> Tensor:
        seen.append(images)
        return torch.zeros(len(images), 1000)

    monkeypatch.setattr(Predictor, "logits", logits)
    cropping = tmp_path / "cropping"
    tiny = create("ViT-Ti/16", depth=1, image_size=16, num_classes=1000)
    preprocessing = Preprocessing(image_size=(16, 16), channels=3, resize="crop", crop_ratio=0.5)
    save_model(cropping, tiny, ModelCard(preprocessing=preprocessing, classes=NAMES))
    for severity in range(1, 6):
        write_image(tmp_path / "snow" / str(severity) / IDS[10] / "a.JPEG", 0, frame=True)
    screen.json("eval", cropping, "--suite", "imagenet-c", "--data.root", tmp_path)
    assert all(images[0, 0, 0, 0] > 150 for images in seen), "the red of the frame"


def test_wrong_use_of_corruptions(screen: Screen, model: Path, trained: Path, tmp_path: Path) -> None:
    words = ("eval", model, "--suite", "imagenet-c")
    assert screen.refusal(*words) == "no folder is given: give the folder of ImageNet-C as --data.root"
    assert f"{tmp_path} has no corruption of ImageNet-C" in screen.refusal(*words, "--data.root", tmp_path)
    write_corruption(tmp_path / "fog")
    error = screen.refusal("eval", trained, "--suite", "imagenet-c", "--data.root", tmp_path)
    assert "--suite imagenet-c is for models of ImageNet's 1,000 classes" in error
    write_corruption(tmp_path / "snow")
    shutil.rmtree(tmp_path / "snow" / "2")
    result = screen.json(*words, "--data.root", tmp_path, code=1)
    assert [row["corruption"] for row in result["corruptions"]] == ["fog"]
    assert result["mce"] is None
    assert f"{tmp_path / 'snow'} has no folder 2" in result["failures"]["snow"]
    shutil.rmtree(tmp_path / "snow")
    write_image(tmp_path / "fog" / "2" / "n99999999" / "a.JPEG", 3)
    error = screen.refusal_after_notes(*words, "--data.root", tmp_path)
    assert "has the class n99999999, which is not one of ImageNet's" in error
