"""`vitral push` on the command line, to a local Hub, and other libraries that load the result."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, close_session, constants

import vitral
from cli.screen import Screen
from hub import Hub, serving
from models import SMALL, small_card, small_model
from vitral.vit import ViT
from vitral.weights.folder import ModelConfig, load_model, save_model
from vitral.weights.readme import render_readme
from vitral.weights.upstream_config import CONFIG_FILES


@pytest.fixture(autouse=True)
def fresh_session() -> Iterator[None]:
    """The client keeps its connection, and whether it is offline, from call to call."""
    close_session()
    yield
    close_session()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "cache", monkeypatch) as hub:
        yield hub


def header(page: str) -> dict[str, object]:
    return yaml.safe_load(page.split("---")[1])


def test_a_run_is_uploaded_and_downloaded(
    screen: Screen, trained: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = screen.run("push", trained, "me/digits", "--licence", "apache-2.0", "--message", "the first")
    assert output == f"{hub.address}/me/digits\nload it anywhere with vitral.load('hf-hub:me/digits')\n"
    assert sorted(hub.repos["me/digits"]["main"]) == ["README.md", "config.json", "model.safetensors"]
    assert hub.messages == ["the first"]
    assert "private" not in hub.created[0]
    own, theirs = load_model(trained), vitral.load("hf-hub:me/digits")
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(theirs(images), own(images))
    assert theirs.card == own.card
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)  # now from the cache alone
        close_session()
        assert torch.equal(vitral.load("hf-hub:me/digits")(images), own(images))
        assert torch.equal(vitral.load("hf-hub:me/digits@main")(images), own(images))
        with pytest.raises(ValueError, match="hf-hub:me/digits@other is not in the cache"):
            vitral.load("hf-hub:me/digits@other")


def test_a_branch_of_a_private_repository(screen: Screen, trained: Path, hub: Hub) -> None:
    result = screen.json("push", trained, "me/digits", "--private", "--revision", "try")
    assert result["address"] == f"{hub.address}/me/digits"
    assert set(result["files"]) == {"README.md", "config.json", "model.safetensors"}
    assert (hub.repos["me/digits"]["main"], hub.messages) == ({}, [f"{trained.name}, pushed by vitral"])
    assert "private" in str(hub.created[0])
    assert vitral.load("hf-hub:me/digits@try").config == load_model(trained).config
    with pytest.raises(ValueError, match="me/digits has no revision none"):
        vitral.load("hf-hub:me/digits@none")
    with pytest.raises(ValueError, match="hf-hub:me/none does not exist or is private"):
        vitral.load("hf-hub:me/none")


@pytest.mark.parametrize("form", ["timm", "transformers"])
def test_a_model_in_another_format_is_loaded_again(screen: Screen, tmp_path: Path, hub: Hub, form: str) -> None:
    small = small_model(image_size=16)
    save_model(tmp_path / "model", small, small.card)
    screen.run("push", tmp_path / "model", "me/small", "--as", form)
    again = vitral.load("hf-hub:me/small")
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(again(images), small(images))
    page = hub.repos["me/small"]["main"]["README.md"].decode()
    assert header(page)["library_name"] == form
    assert '("hf-hub:me/small", pretrained=True)' in page if form == "timm" else '.from_pretrained("me/small")' in page


def test_a_model_pushes_itself_and_is_loaded_by_name(hub: Hub) -> None:
    model, images = small_model(), torch.rand(2, 3, 16, 24)
    url = model.push_to_hub("me/small", revision="try", commit_message="mine", licence="mit", private=True)
    assert (url, hub.messages) == (f"{hub.address}/me/small", ["mine"])
    assert "private" in str(hub.created[0])
    assert sorted(hub.repos["me/small"]["try"]) == ["README.md", "config.json", "model.safetensors"]
    assert header(hub.repos["me/small"]["try"]["README.md"].decode())["license"] == "mit"
    assert torch.equal(ViT.from_pretrained("me/small", revision="try")(images), model(images))
    assert ViT.from_pretrained("hf-hub:me/small@try", num_classes=2).config.num_classes == 2


OWNERS = {
    "timm": """
import timm
model = timm.create_model("hf-hub:me/small", pretrained=True)
""",
    "transformers": """
from transformers import AutoImageProcessor, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained("me/small")
processed = AutoImageProcessor.from_pretrained("me/small")(torch.zeros(3, 20, 20, dtype=torch.uint8))
assert processed["pixel_values"][0].shape == (3, 16, 16), processed
assert model.config.id2label[2] == "class 2"
""",
}
"""What a user of each library types."""
REST = """
with torch.inference_mode():
    output = model.eval()(torch.load("images.pt"))
torch.save(getattr(output, "logits", output), "logits.pt")
"""


@pytest.mark.parametrize("form", OWNERS)
def test_other_libraries_load_what_was_pushed(screen: Screen, tmp_path: Path, hub: Hub, form: str) -> None:
    """They run as their users run them, in a process of their own."""
    small, images = small_model(image_size=16, gelu="erf"), torch.rand(2, 3, 16, 16)
    save_model(tmp_path / "model", small, small.card)
    torch.save(images, tmp_path / "images.pt")
    screen.run("push", tmp_path / "model", "me/small", "--as", form)
    settings = dict(HF_ENDPOINT=hub.address, HF_HUB_CACHE=str(tmp_path / "theirs"), HF_HUB_OFFLINE="0")
    settings |= dict(NO_PROXY="127.0.0.1", HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
    code = f"import torch\n{OWNERS[form]}\n{REST}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), small(images), rtol=0, atol=1e-5)


def test_the_model_card_describes_the_model(screen: Screen, trained: Path, tmp_path: Path) -> None:
    output = screen.run("push", trained, "me/digits", "--dry-run", tmp_path / "dry", "--licence", "mit")
    assert output == f"{tmp_path / 'dry'}: README.md, config.json, model.safetensors; nothing was uploaded\n"
    page, top1 = (tmp_path / "dry" / "README.md").read_text(), load_model(trained).card.metrics["test/top1"]
    metadata = ModelCard(page).data
    assert (metadata.license, metadata.library_name, metadata.pipeline_tag) == ("mit", "vitral", "image-classification")
    assert metadata.eval_results is not None
    assert (metadata.eval_results[0].metric_value, metadata.eval_results[0].dataset_split) == (top1, "test")
    for line in (
        "# digits",
        "| parameters | 52,106 |",
        f"| test/top1 | {top1:.2%} |",
        "| patches | 4 x 4 of 2x2 pixels |",
        "| recipe | digits |",
        "| optimiser | muon |",
        "$ vitral train digits",
        'predictor = vitral.Predictor("hf-hub:me/digits")',
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9.",
        "`vitral convert hf-hub:me/digits timm-model --to timm`",
        "`vitral convert hf-hub:me/digits transformers-model --to transformers`",
    ):
        assert line in page.splitlines() or line in page
    assert torch.equal(load_model(tmp_path / "dry").head.weight, load_model(trained).head.weight)


@pytest.mark.parametrize("form", [form for form in CONFIG_FILES if form not in ("timm", "transformers")])
def test_the_model_card_of_an_encoder_has_its_loading_code(form: str) -> None:
    config = ModelConfig(architecture=SMALL, card=small_card())
    page = render_readme(config, name="me/small", macs=1, run={}, licence=None, format=form, other_formats=["timm"])
    assert 'model = transformers.AutoModel.from_pretrained("me/small")' in page
    assert 'model = timm.create_model("local-dir:timm-model", pretrained=True)' in page
    assert header(page)["library_name"] == "transformers"


def test_the_page_of_a_foreign_file_names_no_place_on_a_disk(screen: Screen, tmp_path: Path) -> None:
    small = small_model(image_size=16)
    save_model(tmp_path / "model", small, small.card)
    screen.run("convert", tmp_path / "model", tmp_path / "there.npz", "--to", "google")
    screen.run("push", tmp_path / "there.npz", "me/small", "--dry-run", tmp_path / "dry", "--as", "transformers")
    page = (tmp_path / "dry" / "README.md").read_text()
    assert "| weights | there.npz |" in page
    assert str(tmp_path) not in page
    assert "license" not in header(page)
    assert "model-index" not in header(page)


def test_tokens_without_rights_are_refused(
    screen: Screen, trained: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    error = screen.refusal("push", trained, "me/digits")
    assert "me/digits" in error
    assert "no write permission" in error
    assert "hf auth login" in error
    assert hub.repos == {}


def test_a_failed_upload_is_one_sentence(
    screen: Screen, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert screen.refusal("push", trained, "digits").endswith("give OWNER/NAME")
    assert screen.refusal("push", trained, "a/b", "--as", "onnx").startswith(
        "unknown format 'onnx': choose one of vitral, "
    )
    assert "does not exist" in screen.refusal("push", tmp_path / "nothing", "a/b")
    assert f"{tmp_path} exists" in screen.refusal("push", trained, "a/b", "--dry-run", tmp_path)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - hidden files too
    attentive = small_model(image_size=16, pool="map")
    save_model(tmp_path / "model", attentive, attentive.card)
    page = ("push", tmp_path / "model", "a/b", "--dry-run", tmp_path / "dry")
    error = screen.refusal(*page, "--as", "transformers")
    assert "transformers" in error
    assert "pools by attention; these can: vitral and timm" in error
    screen.run(*page)
    assert "--to transformers" not in (tmp_path / "dry" / "README.md").read_text()
    monkeypatch.setenv("HF_TOKEN", "x")
    assert screen.refusal("push", trained, "a/b") == "HF_HUB_OFFLINE is set: unset it to reach the Hub"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert screen.refusal("push", trained, "a/b").startswith("the Hub at http://127.0.0.1:9 cannot be reached: ")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    assert "not logged in to the Hub: run hf auth login, or set HF_TOKEN" in screen.refusal("push", trained, "a/b")
