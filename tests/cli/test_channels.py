"""Images of 13 channels through every command that takes them."""

import tarfile
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from cli.screen import Screen
from vitral.cli import main
from vitral.serve.predictor import Predictor
from vitral.weights.folder import load_model, read_config

CHANNELS, SIZE, INFORMATIVE = 13, 16, 10
"""Channels and side of an image, and the only channel (from 0) that differs between the classes."""

SMALL = (
    *("--model.image-size", "16", "--model.patch-size", "8", "--model.width", "32", "--model.depth", "1"),
    *("--model.num-heads", "2", "--model.mlp-dim", "64", "--model.dropout", "0"),
    *("--train.batch-size", "16", "--train.track", "none", "--data.workers", "0", "--train.device", "cpu"),
)
TRAIN = ("train", "folder", *SMALL, "--data.channels", str(CHANNELS))


def field(rng: np.random.Generator, label: int) -> np.ndarray:
    """An image with noise in every channel, of a mean of its own; channel 11 is brighter in one of the classes."""
    means, deviations = np.linspace(500, 4000, CHANNELS), np.linspace(50, 400, CHANNELS)
    values = rng.normal(means, deviations, (SIZE, SIZE, CHANNELS))
    values[:, :, INFORMATIVE] += 400 * label
    return values.clip(0, 65535).astype(np.uint16)


def write_field(folder: Path, number: int, values: np.ndarray) -> Path:
    """Of four images two are TIFFs, plain and compressed, and two arrays, with channels last and first."""
    path = folder / f"{number:03}{'.npy' if number % 2 else '.tif'}"
    if number % 2:
        np.save(path, values if number % 4 == 1 else values.transpose(2, 0, 1))
    else:
        compression = "zlib" if number % 4 else None
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", compression=compression)
    return path


@pytest.fixture(scope="session")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data") / "fields", np.random.default_rng(0)
    for label, name in enumerate(("bare", "crop")):
        (root / name).mkdir(parents=True)
        for number in range(40):
            write_field(root / name, number, field(rng, label))
    return root


@pytest.fixture(scope="session")
def run(fields: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "fields"
    main([*TRAIN, "--data.root", str(fields), "--train.epochs", "10", "--out", str(folder)])
    return folder


def test_a_satellite_image_is_learned_from_its_one_channel(run: Path, fields: Path) -> None:
    card = load_model(run).card
    assert card is not None
    assert card.metrics["test/top1"] > 0.9
    preprocessing = card.preprocessing
    assert (preprocessing.bands, preprocessing.channels) == (True, CHANNELS)
    assert preprocessing.mean == pytest.approx(
        [*np.linspace(500, 4000, CHANNELS)[:INFORMATIVE], 3617, *np.linspace(500, 4000, CHANNELS)[11:]], rel=0.02
    )
    assert len(preprocessing.std) == CHANNELS


def test_eval_and_predict_agree_with_training(screen: Screen, run: Path, fields: Path) -> None:
    card = load_model(run).card
    figures = screen.json("eval", run)
    assert figures["loss"] == pytest.approx(card.metrics["test/loss"], abs=1e-6)
    whole = screen.json("eval", run, "--data.root", fields, "--split", "train")
    assert (whole["num_images"], whole["top1"] > 0.9) == (64, True)
    predictions = screen.json("predict", run, fields)["predictions"]
    assert len(predictions) == 80
    right = [Path(row["file"]).parent.name == row["class"] for row in predictions]
    assert np.mean(right) > 0.9
    assert "100.0%" in screen.run("eval", run, "--suite", "knn")


def test_the_form_of_a_file_changes_nothing(run: Path, tmp_path: Path) -> None:
    values, predictor = field(np.random.default_rng(5), 1), Predictor(run, device="cpu")
    files = [write_field(tmp_path, number, values) for number in range(4)]
    results = list(predictor.predict([*files, values, values.transpose(2, 0, 1), values.astype(np.float32)]))
    assert {result.probabilities for result in results} == {results[0].probabilities}


def test_inspect_says_what_it_shows(screen: Screen, run: Path, fields: Path, tmp_path: Path) -> None:
    screen.run("inspect", run, fields / "crop" / "000.tif", "--out", tmp_path / "one.png")
    assert "mean of 13 normalised channels" in screen.errors
    screen.run("inspect", run, "--out", tmp_path / "held-out.png")
    for name in ("one.png", "held-out.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
    assert (run / "report.html").read_text().count("data:image/") > 5


def test_resumed_training_is_the_same(screen: Screen, fields: Path, tmp_path: Path) -> None:
    augment = ("--augment.flip", "--augment.rotate", "20", "--augment.erase", "0.5", "--augment.mixup", "0.2")
    words = (*TRAIN, "--data.root", fields, *augment, "--schedule.warmup", "1steps", "--schedule.decay", "constant")
    screen.run(*words, "--train.steps", "6", "--out", tmp_path / "whole")
    assert "mean ± standard deviation of each channel, over 64 training images" in screen.errors
    screen.run(*words, "--train.steps", "3", "--out", tmp_path / "parts")
    screen.run("train", "--resume", tmp_path / "parts", "--train.steps", "6", "--data.workers", "2")
    assert "mean ± standard deviation" not in screen.errors
    whole, parts = (load_model(tmp_path / name) for name in ("whole", "parts"))
    assert whole.card.preprocessing == parts.card.preprocessing
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_a_csv_of_paths(screen: Screen, run: Path, fields: Path, tmp_path: Path) -> None:
    rows = [f"{path.relative_to(fields)},{path.parent.name}" for path in sorted(fields.rglob("*.*"))]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    words = ("--data.source", "csv", "--data.root", tmp_path / "labels.csv", "--data.images", fields)
    assert screen.json("eval", run, *words, "--split", "train")["num_images"] == 64


def test_tar_shards(screen: Screen, run: Path, fields: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for number, path in enumerate(sorted(fields.rglob("*.*"))):
            tar.add(path, f"{number:04}{path.suffix}")
            label = tarfile.TarInfo(f"{number:04}.cls")
            label.size = len(path.parent.name)
            tar.addfile(label, BytesIO(path.parent.name.encode()))
    words = ("--data.source", "tars", "--data.root", tmp_path / "train.tar")
    assert screen.json("eval", run, *words, "--split", "train")["num_images"] == 64


def test_fine_tuning_from_three_channels(screen: Screen, fields: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for name in ("a", "b"):
        (pictures / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (16, 16), (60 * number, 9, 9)).save(pictures / name / f"{number}.png")
    screen.run("train", "folder", *SMALL, "--data.root", pictures, "--train.steps", "1", "--out", tmp_path / "rgb")
    tune = ("train", "finetune", "--data.workers", "0", "--train.steps", "2", "--train.track", "none")
    words = (*tune, "--data.root", fields, "--data.channels", "13")
    screen.run(*words, "--model.weights", tmp_path / "rgb", "--out", tmp_path / "bands")
    assert "input channels adapted from 3 to 13" in screen.errors
    config = read_config(tmp_path / "bands")
    assert (config.architecture.channels, config.card.preprocessing.channels) == (13, 13)
    # weights of 13 channels know their channels, mean and deviation
    screen.run(*tune, "--data.root", fields, "--model.weights", tmp_path / "bands", "--out", tmp_path / "again")
    assert "mean ± standard deviation" not in screen.errors
    assert read_config(tmp_path / "again").card.preprocessing.mean == config.card.preprocessing.mean


def test_learning_without_labels(screen: Screen, fields: Path, tmp_path: Path) -> None:
    decoder = ("--objective.width", "16", "--objective.depth", "1", "--objective.num-heads", "2")
    words = ("--data.source", "images", "--data.root", fields, "--data.channels", "13", "--train.steps", "2")
    screen.run("train", "mae", *SMALL, *words, *decoder, "--out", tmp_path / "mae")
    assert (tmp_path / "mae" / "panels.png").is_file()


@pytest.mark.parametrize("suite", ["accuracy", "knn"])
def test_eval_with_another_number_of_channels(screen: Screen, run: Path, suite: str) -> None:
    assert "takes 13 channels" in screen.refusal("eval", run, "--suite", suite, "--data.channels", "12")


def test_a_table_of_tiffs(screen: Screen, run: Path, tmp_path: Path) -> None:
    rng, cells = np.random.default_rng(1), []
    for number in range(20):
        stream = BytesIO()
        tifffile.imwrite(stream, field(rng, number % 2), photometric="minisblack", planarconfig="contig")
        cells.append({"bytes": stream.getvalue(), "path": None})
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["bare", "crop"]))
    table = datasets.Dataset.from_dict({"image": cells, "label": [0, 1] * 10}, features=features)
    table.to_parquet(str(tmp_path / "fields.parquet"))
    words = ("--data.source", "hub", "--data.root", tmp_path / "fields.parquet", "--split", "train")
    figures = screen.json("eval", run, *words)
    assert (figures["num_images"], figures["top1"]) == (16, 1)


def test_data_check(screen: Screen, fields: Path) -> None:
    found = screen.json("data", "check", fields, "--data.channels", "13", "--smallest", "8")
    assert (found["num_images"], found["findings"]) == ({"train": 80}, [])
    found = screen.json("data", "check", fields, "--data.channels", "12", "--smallest", "8")
    assert {finding["kind"] for finding in found["findings"]} == {"unreadable"}


def test_given_mean_and_deviation(screen: Screen, fields: Path, tmp_path: Path) -> None:
    words = (*TRAIN, "--data.root", fields, "--train.steps", "1", "--out", tmp_path / "run")
    screen.run(*words, "--preprocessing.mean", "5000", "--preprocessing.std", "5000")
    assert "standard deviation of each channel" not in screen.errors
    preprocessing = read_config(tmp_path / "run").card.preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((5000.0,), (5000.0,))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--data.channels", "17"), ("--data.channels", "17")),
        (("--data.channels", "12"), ("13 channels, not 12", ".tif", "--data.channels")),
        (("--data.channels", "13", "--augment.colour-jitter", "0.4"), ("--augment.colour-jitter 0",)),
        (("--data.channels", "13", "--augment.randaugment", "big_vision"), ("--augment.randaugment none",)),
        (("--data.channels", "13", "--augment.three-augment"), ("--augment.no-three-augment",)),
        (("--data.channels", "13", "--preprocessing.mean", "1"), ("--preprocessing.std",)),
        (("--data.channels", "13", "--preprocessing.mean", "1", "2", "--preprocessing.std", "1"), ("13 channels",)),
        (("--data.channels", "13", "--data.source", "cifar10"), ("cifar10", "--data.channels")),
    ],
)
def test_wrong_use(
    screen: Screen, fields: Path, tmp_path: Path, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    sentence = screen.refusal("train", "folder", *SMALL, "--data.root", fields, "--out", tmp_path / "run", *flags)
    for word in words:
        assert word in sentence
    assert not (tmp_path / "run").exists()


def test_files_of_the_other_kind_are_named(screen: Screen, fields: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "cat" / "1.png")
    words = ("train", "folder", "--out", tmp_path / "run", "--data.root")
    assert "1 .png" in screen.refusal(*words, tmp_path / "photos", "--data.channels", "3")
    (tmp_path / "arrays" / "cat").mkdir(parents=True)
    np.save(tmp_path / "arrays" / "cat" / "1.npy", np.zeros((8, 8, 3)))
    assert "--data.channels reads .npy" in screen.refusal(*words, tmp_path / "arrays")


def test_what_is_for_pictures_only(screen: Screen, run: Path, fields: Path, tmp_path: Path) -> None:
    data = ("--data.root", fields, "--data.channels", "13", "--out", tmp_path / "run")
    assert "dino" in screen.refusal("train", "dino", "--data.source", "images", *data)
    assert "--objective.target pixels" in screen.refusal("train", "masked-patch", "--data.source", "images", *data)
    for action in ("pack", "near"):
        places = (fields, tmp_path / "copy")[: 2 if action == "pack" else 1]
        assert "--data.channels" in screen.refusal("data", action, *places, "--data.channels", "13")
    assert "13 channels" in screen.refusal("convert", run, tmp_path / "timm", "--to", "timm")
    picture = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(picture)
    assert "photo.jpg" in screen.refusal("predict", run, picture)
