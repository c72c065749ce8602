"""`--token-merging` of `vitral predict`, `eval`, `export` and `bench`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vitral
from cli.screen import Screen
from models import small_model
from vitral.data.images.decode import read_image
from vitral.export.exported import load_exported
from vitral.token_merging import merge_tokens
from vitral.weights.folder import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, photographs: Path) -> Path:
    """The folder of a small model of the photographs' classes."""
    folder = tmp_path_factory.mktemp("models") / "small"
    classes = tuple(sorted(path.name for path in photographs.iterdir()))
    small = small_model(image_size=32, depth=3, pool="gap", num_classes=len(classes))
    save_model(folder, small, replace(small.card, classes=classes))
    return folder


def probability(model: Path, image: Path, pairs: int | None) -> float:
    """The highest probability of a class, computed without a command."""
    loaded = vitral.load(model).eval()
    if pairs is not None:
        merge_tokens(loaded, pairs)
    preprocessing = loaded.card.preprocessing
    pixels = preprocessing.pixels(read_image(image, channels=preprocessing.channels))
    with torch.no_grad():
        return loaded(preprocessing.normalise(torch.from_numpy(pixels)[None])).softmax(-1).max().item()


def test_predict(model: Path, photographs: Path, screen: Screen) -> None:
    image = photographs / "cat" / "001-plain.webp"
    for pairs, option in ((None, ()), (2, ("--token-merging", "2"))):
        (found,) = screen.json("predict", model, image, *option)["predictions"]
        assert found["probability"] == pytest.approx(probability(model, image, pairs), abs=1e-6)
    assert probability(model, image, 2) != pytest.approx(probability(model, image, None), abs=1e-5)


def test_eval(model: Path, photographs: Path, screen: Screen, tmp_path: Path) -> None:
    words = ("eval", model, "--data.root", photographs, "--out", tmp_path / "confusion.png")
    plain, merged = screen.json(*words), screen.json(*words, "--token-merging", "2")
    assert merged["num_images"] == plain["num_images"]
    assert merged["loss"] != plain["loss"]


@pytest.mark.parametrize("ending", [".onnx", ".pt2"])
def test_an_exported_file_merges(ending: str, model: Path, screen: Screen, tmp_path: Path) -> None:
    """For any batch, as the report of its parity says."""
    file = tmp_path / f"merged{ending}"
    report = screen.json("export", model, file, "--token-merging", "2")
    assert (report["token_merging"], report["passed"], report["agreement"]) == (2, True, 1)
    loaded = vitral.load(model).eval()
    merge_tokens(loaded, 2)
    images = torch.randn(3, *load_exported(file).card.preprocessing.image_size, 3).permute(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(load_exported(file)(images), loaded(images), rtol=1e-4, atol=1e-5)


def test_bench_measures_both(model: Path, screen: Screen) -> None:
    words = ("--token-merging", "2", "--seconds", "0.1", "--batch-size", "1", "--no-compile", "--device", "cpu")
    results = screen.json("bench", model, *words)["results"]
    assert [result["contender"] for result in results] == ["Vitral", "Vitral, 2 merged"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["predict", "MODEL", "PHOTOS", "--token-merging", "few"], "must be a number of pairs"),
        (["predict", "MODEL", "PHOTOS", "--token-merging", "0"], "must be a number of pairs"),
        (["eval", "MODEL", "--suite", "knn", "--token-merging", "2"], "--suite knn"),
        (["bench", "MODEL", "--train", "--token-merging", "2"], "leave out --train"),
        (["bench", "BiT-R50x1", "--token-merging", "2"], "Vision Transformers"),
        (["export", "MODEL", "a.onnx", "--image-size", "dynamic", "--token-merging", "2"], "--image-size dynamic"),
        (["export", "MODEL", "a.html", "--token-merging", "2"], "every patch"),
    ],
)
def test_wrong_use_is_one_sentence(
    words: list[str], sentence: str, model: Path, photographs: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    paths = {"MODEL": str(model), "PHOTOS": str(photographs)}
    assert sentence in screen.refusal(*(paths.get(word, word) for word in words))
    assert not list(model.parent.glob("a.*"))


def test_an_exported_file_cannot_be_changed(model: Path, photographs: Path, screen: Screen, tmp_path: Path) -> None:
    screen.run("export", model, tmp_path / "plain.pt2")
    error = screen.refusal("predict", tmp_path / "plain.pt2", photographs, "--token-merging", "2")
    assert "export the model it was made from with --token-merging" in error
