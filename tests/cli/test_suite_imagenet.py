"""`vitral eval --suite imagenet` on small test sets laid out as their authors', with a classifier of known answers."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from cli.screen import Screen
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.serve.predictor import Predictor
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
def told_by_shade(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of shade s is taken for class s, then s + 1, s + 2 and so on."""

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
    """Classes 10, 20, 30, 40; told right, right in the second place, wrong, right."""
    for number, (label, shade) in enumerate([(10, 10), (20, 19), (30, 90), (40, 40)], 1):
        write_image(root / "val" / IDS[label] / f"ILSVRC2012_val_{number:08d}.JPEG", shade)


def by_test(screen: Screen, model: Path, root: Path) -> dict[str, tuple[float, float, int]]:
    told = screen.json("eval", model, "--suite", "imagenet", "--data.root", root, "--device", "cpu")
    return {row["test"]: (row["top1"], row["top5"], row["num_images"]) for row in told["tests"]}


def test_original_and_reassessed_labels(screen: Screen, model: Path, tmp_path: Path) -> None:
    """Images without a reassessed label do not count, and those with several may be either."""
    write_val(tmp_path)
    (tmp_path / "real.json").write_text(json.dumps([[10, 11], [5, 19], [], [44]]))
    found = by_test(screen, model, tmp_path)
    assert found == {"ImageNet": (0.5, 0.75, 4), "ReaL": (2 / 3, 1.0, 3)}
    assert "ReaL has 3 images that count here, and 46,837 when complete" in screen.errors
    assert "left out: Sketch needs sketch in" in screen.errors


def test_flat_validation_images_are_told_by_the_development_kit(screen: Screen, model: Path, tmp_path: Path) -> None:
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
    told = screen.refusal_after_notes("eval", model, "--suite", "imagenet", "--data.root", tmp_path)
    assert told.startswith(f"{folder} has folders that are not called 0 to 999")


def test_a_and_r_are_chosen_among_their_own_classes(screen: Screen, model: Path, tmp_path: Path) -> None:
    """Class 13 is none of those of A, so an image taken for it is taken for the next that is one."""
    for label, shade in ((10, 10), (15, 13), (20, 19), (60, 58), (70, 71), (80, 81)):
        write_image(tmp_path / "imagenet-a" / IDS[label] / "a.jpg", shade)
        write_image(tmp_path / "sketch" / IDS[label] / "a.JPEG", shade)
    found = by_test(screen, model, tmp_path)
    assert found["A"] == (pytest.approx(4 / 6), pytest.approx(4 / 6), 6)
    assert found["Sketch"] == (pytest.approx(1 / 6), pytest.approx(4 / 6), 6)


def write_objectnet(root: Path) -> Path:
    """Two shared classes, one of them two of ImageNet's, and one class that ImageNet has not."""
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
    told = screen.refusal_after_notes("eval", model, "--suite", "imagenet", "--data.root", tmp_path)
    assert told == f"{folder}/mappings/objectnet_to_imagenet_1k.json cannot be read: No such file or directory"


def test_table_and_files(screen: Screen, model: Path, tmp_path: Path) -> None:
    write_val(tmp_path)
    shown = screen.run("eval", model, "--suite", "imagenet", "--data.root", tmp_path, "--out", tmp_path / "table.md")
    for text in (shown, (tmp_path / "table.md").read_text()):
        assert "50.00%" in text
        assert "75.00%" in text


def test_wrong_use(screen: Screen, model: Path, trained: Path, tmp_path: Path) -> None:
    words = ("eval", model, "--suite", "imagenet")
    assert screen.refusal(*words) == "no folder is named: give that of ImageNet's test sets as --data.root"
    assert screen.refusal(*words, "--data.root", "nowhere").startswith("nowhere is no folder: give that")
    assert screen.refusal(*words, "--data.root", tmp_path).startswith(
        f"{tmp_path} has none of val, real.json, imagenetv2"
    )
    told = screen.refusal("eval", trained, "--suite", "imagenet", "--data.root", tmp_path)
    assert "is for models of ImageNet's 1,000 classes" in told
    assert "tells 10 classes" in told
    (tmp_path / "real.json").write_text("[]")
    told = screen.refusal_after_notes(*words, "--data.root", tmp_path)
    assert told == f"{tmp_path} has no val folder: put the validation images there"
    write_val(tmp_path)
    (tmp_path / "real.json").unlink()
    broken = tmp_path / "val" / IDS[10] / "ILSVRC2012_val_00000001.JPEG"
    broken.write_bytes(broken.read_bytes()[:30])
    assert str(broken) in screen.refusal_after_notes(*words, "--data.root", tmp_path)
    assert "left out: " + str(broken) in skipped(screen, *words, "--data.root", tmp_path)


def test_a_test_that_cannot_be_read_does_not_cost_the_others(screen: Screen, model: Path, tmp_path: Path) -> None:
    write_val(tmp_path)
    (tmp_path / "real.json").write_text("[]")
    write_image(tmp_path / "sketch" / IDS[10] / "a.JPEG", 10)
    (tmp_path / "sketch" / IDS[10] / "a.JPEG").write_bytes(b"no image")
    words = ("eval", model, "--suite", "imagenet", "--data.root", tmp_path)
    told = screen.json(*words, "--out", tmp_path / "table.csv", code=1)
    assert [row["test"] for row in told["tests"]] == ["ImageNet"]
    assert told["left_out"].keys() == {"ReaL", "Sketch"}
    assert f"left out: ReaL, as {tmp_path}/real.json does not fit the files in val" in screen.errors
    assert "left out: Sketch, as " in screen.errors
    assert (tmp_path / "table.csv").read_text().startswith("test,top-1,top-5,images,seconds\nImageNet,50.00%,75.00%,4,")
    told = screen.refusal(*words, "--data.limit", "3")
    assert (
        told == "--suite imagenet heeds --data.root, --data.on-error and --data.workers alone: leave out --data.limit"
    )


def skipped(screen: Screen, *words: str | Path) -> str:
    screen.run(*words, "--data.on-error", "skip")
    return screen.errors
