"""What `import vitral` offers, and what it costs."""

import os
import sys
from pathlib import Path
from subprocess import run

import pytest
import torch

import vitral
from models import small_model
from vitral.weights.folder import save_model


def test_importing_alone_is_quick() -> None:
    code = "import sys, vitral; print(vitral.__version__, sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    result = run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == f"{vitral.__version__} []\n"


def test_every_public_name_is_there_and_listed() -> None:
    assert set(vitral.__all__) <= set(dir(vitral))
    for name in vitral.__all__:
        assert getattr(vitral, name).__module__.startswith("vitral.")
    assert vitral.load.__module__ == "vitral.weights.load"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'vitral' has no attribute 'lod'"):
        vitral.lod  # noqa: B018 - the access is what fails


def test_create_load_and_predict(tmp_path: Path, photographs: Path) -> None:
    model = vitral.create("ViT-mu/16", num_classes=2, image_size=32)
    assert model(torch.zeros(1, 3, 32, 32)).tolist() == [[0, 0]]
    trained = small_model()
    save_model(tmp_path / "model", trained, trained.card)
    assert vitral.load(tmp_path / "model").card == trained.card
    image = next((photographs / "cat").iterdir())
    assert vitral.Predictor(tmp_path / "model")(image).classes[0] in trained.card.classes
