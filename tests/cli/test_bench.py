"""`vitral bench`: speed and memory as a table, as files, and every wrong use."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from cli.screen import Screen
from forks import start
from models import small_model
from vitral.weights.folder import save_model

QUICK = ("--seconds", "0.1", "--device", "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model."""
    folder = tmp_path_factory.mktemp("models") / "small"
    small = small_model()
    save_model(folder, small, small.card)
    return folder


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that timm, transformers and torchvision have too."""
    folder = tmp_path_factory.mktemp("models") / "square"
    small = small_model(image_size=16)
    save_model(folder, small, small.card)
    return folder


def test_one_object_with_all_facts(model: Path, screen: Screen) -> None:
    facts = screen.json("bench", model, *QUICK, "--batch-size", "4", "1", "4")
    assert facts["mode"] == "inference"
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert [result["batch_size"] for result in facts["results"]] == [1, 4]
    for result in facts["results"]:
        assert (result["model"], result["contender"], result["precision"]) == (str(model), "Vitral", "float32")
        latency = result["latency_seconds"]
        assert 0 < latency["p25"] <= latency["p50"] <= latency["p75"] <= latency["p95"] <= latency["p99"]
        assert result["images_per_second"] == pytest.approx(result["batch_size"] / latency["p50"])
        assert latency["calls"] >= 5
        assert result["relative_speed"]["median"] == 1
    assert sum(result["fastest"] for result in facts["results"]) == 1
    assert 0 <= facts["disturbances"]["other_processes"] <= 1


def test_batches_grow_until_none_is_faster(screen: Screen) -> None:
    results = screen.json("bench", "ViT-mu/16", "--image-size", "32", *QUICK)["results"]
    sizes = [result["batch_size"] for result in results]
    assert sizes == [2**number for number in range(len(sizes))]
    assert {result["model"] for result in results} == {"ViT-mu/16"}


def test_other_libraries_compute_the_same_beside_it(square: Path, screen: Screen) -> None:
    facts = screen.json("bench", square, "--peers", *QUICK, "--batch-size", "2")
    found = [result["contender"].split()[0] for result in facts["results"]]
    assert found == ["Vitral", "timm", "transformers", "torchvision"]
    assert not any("logits differ" in sentence for sentence in facts["notes"])


def test_training_steps(square: Path, screen: Screen) -> None:
    facts = screen.json("bench", square, "--train", "--peers", *QUICK, "--batch-size", "2")
    assert facts["mode"] == "train"
    assert {result["contender"].split()[0] for result in facts["results"]} > {"Vitral", "timm"}
    assert all(result["memory_bytes"] > 0 for result in facts["results"])


def test_a_library_without_the_model_is_left_out(model: Path, screen: Screen) -> None:
    facts = screen.json("bench", "BiT-R50x1", "--image-size", "32", "--peers", *QUICK, "--batch-size", "1")
    assert len(facts["results"]) == 1
    assert "ResNet" in facts["notes"][0]


@pytest.mark.slow
def test_exported_files_stand_beside_their_model(trained: Path, screen: Screen, tmp_path: Path) -> None:
    files = {"a.pt2": [], "pixels.onnx": ["--with-preprocessing"], "small.onnx": ["--precision", "int8"]}
    for name, words in files.items():
        process = start("export", trained, name, "--max-images", "32", "--tolerance", "0", *words, cwd=tmp_path)
        errors = process.ended()  # a process of its own: the shape checks take no symbolic lengths
        assert process.returncode == 0, errors
    output = screen.run("bench", trained, *(tmp_path / name for name in files), *QUICK, "--batch-size", "1", "3")
    for label in ("a.pt2, float32", "pixels.onnx, float32", "small.onnx, int8"):
        assert label in output
    assert output.count("8x8 pixels") == 1  # one table, as all are of one architecture
    assert re.search(r"small.onnx, int8: [\d,.]+ images/s at batch [13]", output)


def test_models_of_two_architectures_have_two_tables(model: Path, square: Path, screen: Screen) -> None:
    output = screen.run("bench", model, square, *QUICK, "--batch-size", "1")
    assert "16x24 pixels" in output
    assert "16x16 pixels" in output


def test_two_models_of_one_architecture_keep_their_names(model: Path, screen: Screen, tmp_path: Path) -> None:
    other = small_model(seed=1)
    save_model(tmp_path / "other", other, other.card)
    output = screen.run("bench", model, tmp_path / "other", *QUICK, "--batch-size", "1")
    assert f"{tmp_path / 'other'}: Vitral" in output


def test_results_are_written_as_table_numbers_and_picture(model: Path, screen: Screen, tmp_path: Path) -> None:
    files = [tmp_path / f"speed{ending}" for ending in (".md", ".csv", ".json", ".png")]
    flags = [word for file in files for word in ("--out", file)]
    output = screen.run("bench", model, *QUICK, "--batch-size", "1", "2", *flags)
    markdown, table, facts, picture = files
    assert str(picture) in output
    assert "| 2 | Vitral |" in markdown.read_text()
    rows = list(csv.DictReader(table.read_text().splitlines()))
    results = json.loads(facts.read_text())["results"]
    assert [float(row["p50_s"]) for row in rows] == [result["latency_seconds"]["p50"] for result in results]
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["nothing"], "nothing is neither"),
        (["ViT-S/61"], "did you mean ViT-S/16?"),
        (["runs/nothing"], "runs/nothing"),
        (["ViT-S/16@augreg-in22k"], "did you mean ViT-S/16@augreg-in21k?"),
        (["missing.onnx"], "missing.onnx is not a file"),
        ([""], "empty"),
        (["ViT-S/16", "--batch", "0"], "--batch-size must be at least 1, not 0"),
        (["ViT-S/16", "--batch-size", "4", "-1"], "not -1"),
        (["ViT-S/16", "--seconds", "0"], "--seconds must be above 0"),
        (["ViT-S/16", "--seconds", "nan"], "--seconds must be above 0"),
        (["ViT-S/16", "--threads", "0"], "--threads"),
        (["ViT-S/16", "--image-size", "220"], "220x220"),
        (["ViT-S/16", "--out", "speed.txt"], ".png"),
        (["ViT-S/16", "--out", "missing/speed.md"], "missing does not exist"),
        (["ViT-S/16", "--device", "gpu"], "device 'gpu' is not available"),
        (["missing.onnx", "--train"], "cannot be trained"),
    ],
)
def test_wrong_use_is_one_sentence(words: list[str], fact: str, screen: Screen, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fact in screen.refusal("bench", *words)
    assert not list(tmp_path.iterdir())


def test_training_needs_one_row_of_logits_an_image(screen: Screen, tmp_path: Path) -> None:
    patches = small_model(pool="none")
    save_model(tmp_path / "patches", patches, patches.card)
    assert "--train measures" in screen.refusal("bench", tmp_path / "patches", "--train", *QUICK, "--batch-size", "2")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(model: Path, screen: Screen) -> None:
    assert "'cuda' is not available" in screen.refusal("bench", model, "--device", "cuda")


@pytest.mark.gpu
def test_on_a_gpu(model: Path, screen: Screen) -> None:
    facts = screen.json("bench", model, "--seconds", "0.5", "--batch-size", "1", "4", "16")
    contenders = {result["contender"] for result in facts["results"]}
    assert contenders == {"Vitral", "Vitral, compiled", "Vitral, CUDA graphs"}
    assert all(result["precision"] == "bfloat16" for result in facts["results"])
    assert all(result["memory_bytes"] > 0 for result in facts["results"])
    assert (facts["disturbances"]["gpu_clock"] or 1) > 0
