"""`vitral export --to html`, used wrongly; pages themselves are tested in a browser."""

from dataclasses import replace
from pathlib import Path

import pytest

from cli.screen import Screen
from models import small_model
from vitral.weights.folder import save_model

WRONG = {
    "a folder without the runtime": (("x.html", "--runtime", "."), "npm pack onnxruntime-web@"),
    "the runtime for another backend": (("x.onnx", "--runtime", "."), "--runtime is for --to html"),
    "another ending": (("x.htm", "--to", "html"), "x.html"),
    "every size": (("x.html", "--image-size", "dynamic"), "--image-size dynamic"),
    "preprocessing inside": (("x.html", "--with-preprocessing"), "--with-preprocessing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_sentence(
    name: str, screen: Screen, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, fact = WRONG[name]
    assert fact in screen.refusal("export", trained, *words)
    assert not list(tmp_path.iterdir())


def test_a_model_without_classes_is_refused(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    assert model.card is not None
    save_model(tmp_path / "model", model, replace(model.card, classes=()))
    assert "no trained head" in screen.refusal("export", tmp_path / "model", tmp_path / "x.html")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_foreign_and_damaged_pages_are_named(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "foreign.html").write_text("<html>nothing</html>")
    (tmp_path / "torn.html").write_text('<meta name="generator" content="Vitral 0.1.0"><script')
    assert "not written by vitral export" in screen.refusal("predict", tmp_path / "foreign.html", tmp_path)
    assert "its end is missing" in screen.refusal("predict", tmp_path / "torn.html", tmp_path)
