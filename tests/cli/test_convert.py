"""`vitral convert` on the command line, and training from its result."""

import errno
import os
import shutil
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vitral
from cli.screen import Screen
from models import small_model
from photographs import CLASSES
from vitral.errors import UserError
from vitral.weights.folder import load_model, save_model
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.write import upstream_state_dict

GOOGLES = ("google", "google-linen", "big_vision")
OWNERS = {
    "timm": "VisionTransformer",
    "torchvision": "VisionTransformer",
    "transformers": "ViTForImageClassification",
}
HEADS = ("--num-heads", "3")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A random square model, as formats of square images want it."""
    small = small_model(image_size=16)
    save_model(tmp_path / "model", small, small.card)
    return tmp_path / "model"


@pytest.mark.parametrize("form", ["google", "google-linen", "big_vision", "timm", "torchvision", "transformers"])
def test_weights_go_to_another_format_and_come_back(screen: Screen, model: Path, tmp_path: Path, form: str) -> None:
    there, back = tmp_path / "there.npz", tmp_path / "back"
    facts = screen.json("convert", model, there, "--to", form)
    assert (facts["format"], facts["lineage"]) == (form, "vitral")
    if form in GOOGLES:
        assert facts["notes"] == []
        assert (facts["verified_by"], facts["compared"]) == ("Vitral", "logits")
        assert facts["largest_difference"] < 1e-5
    else:  # their GELU is the exact one
        assert f"{form} uses gelu erf, this model uses gelu tanh" in facts["notes"]
        assert facts["verified_by"] == f"{form} {version(form)}'s {OWNERS[form]}"
        assert 0 < facts["largest_difference"] < 0.1
    facts = screen.json("convert", there, back, "--to", "vitral", *HEADS)
    assert (facts["lineage"], facts["missing"], facts["unexpected"]) == (form, [], [])
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    tolerance = 1e-5 if form in GOOGLES else 0.1
    torch.testing.assert_close(vitral.load(back)(images), vitral.load(model)(images), rtol=0, atol=tolerance)
    assert vitral.load(there, num_heads=3).config == vitral.load(back).config


@pytest.mark.parametrize("form", ["timm", "transformers"])
def test_a_folder_is_complete_and_its_owner_computes_the_same(
    screen: Screen, model: Path, tmp_path: Path, form: str
) -> None:
    facts = screen.json("convert", model, tmp_path / "deep" / "there", "--to", form)
    assert facts["verified_by"] == f"{form} {version(form)}'s {OWNERS[form]}"
    own_way, figure = facts["notes"]
    assert f"than 16x16 outputs differ, because {form} interpolates positions in its own way" in own_way
    assert "24x32 pixels, the logits of" in figure
    assert facts["compared"] == "logits"
    assert facts["largest_difference"] < 1e-5
    back = screen.json("convert", tmp_path / "deep" / "there", tmp_path / "back", "--to", "vitral")
    assert (back["lineage"], back["missing"], back["unexpected"]) == (form, [], [])
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert load_model(tmp_path / "back").card.classes == load_model(model).card.classes


def test_an_encoder_is_compared_by_features(screen: Screen, tmp_path: Path) -> None:
    small = small_model(image_size=16, layer_scale=0.5, gelu="erf")
    save_model(tmp_path / "model", small, small.card)
    output = screen.run("convert", tmp_path / "model", tmp_path / "there", "--to", "dinov2")
    assert "'s Dinov2Model: its features of random images differ from the source's by at most" in output


def test_a_missing_owner_is_reported(
    screen: Screen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    output = screen.run("convert", model, tmp_path / "there", "--to", "timm")
    assert "timm is not installed" in screen.errors
    assert "checked with Vitral: its logits" in output


OTHER_SIZE = {
    "timm": dict(position_resample="timm", pool="gap"),
    "transformers": dict(position_resample="huggingface", norm_eps=1e-12),
    "dinov2": dict(position_resample="huggingface", layer_scale=0.5),
    "siglip": dict(position_resample="huggingface", pool="map"),
}


@pytest.mark.parametrize("form", OTHER_SIZE)
def test_features_and_images_of_another_size_are_compared(screen: Screen, tmp_path: Path, form: str) -> None:
    small = small_model(image_size=16, gelu="erf", **OTHER_SIZE[form])
    save_model(tmp_path / "model", small, small.card)
    facts = screen.json("convert", tmp_path / "model", tmp_path / "there", "--to", form)
    names = ["logits", "features"] if form in ("timm", "transformers") else ["features"]
    assert list(facts["differences"]) == [*names, *(f"{name} at 24x32 pixels" for name in names)]
    assert max(facts["differences"].values()) < 1e-5
    assert (facts["compared"], facts["largest_difference"]) == (names[0], facts["differences"][names[0]])
    output = screen.run("convert", tmp_path / "model", tmp_path / "again", "--to", form)
    assert ", its features at 24x32 pixels by at most" in output


@pytest.mark.parametrize("form", ["timm", "transformers", "torchvision"])
def test_a_zero_head_does_not_hide_the_encoder(screen: Screen, tmp_path: Path, form: str) -> None:
    small = small_model(image_size=16, gelu="tanh")
    small.head.weight.data.zero_()
    save_model(tmp_path / "model", small, small.card)
    facts = screen.json("convert", tmp_path / "model", tmp_path / "there.safetensors", "--to", form)
    assert facts["compared"] == "features"
    assert facts["largest_difference"] > 1e-5  # their GELU is the exact one


def test_another_interpolation_is_a_note(screen: Screen, tmp_path: Path) -> None:
    small = small_model(image_size=16, gelu="erf")
    save_model(tmp_path / "model", small, small.card)
    facts = screen.json("convert", tmp_path / "model", tmp_path / "there", "--to", "timm")
    assert list(facts["differences"]) == ["logits", "features"]
    own_way, figure = facts["notes"]
    assert "in its own way (timm, this model: google)" in own_way
    assert figure.startswith("at 24x32 pixels, the logits of timm")
    assert figure.endswith("as it interpolates positions as timm does")


def test_another_image_size(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    """Files of big_vision with computed positions do not store their size; others interpolate their positions once."""
    small = small_model(image_size=32, position="sincos_2d")
    save_model(tmp_path / "model", small, small.card)
    screen.run("convert", tmp_path / "model", tmp_path / "there.npz", "--to", "big_vision")
    assert "so is not the image size: 32x32 pixels" in screen.errors
    size = ("--image-size", "32")
    screen.run("convert", tmp_path / "there.npz", tmp_path / "back", "--to", "vitral", *size)
    assert "so is not the image size: 224x224 pixels, unless --image-size" in screen.errors
    assert load_model(tmp_path / "back").config == small.config
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(vitral.load(tmp_path / "back")(images), small(images))
    own = screen.json("predict", tmp_path / "back", photographs / "cat")
    assert screen.json("predict", tmp_path / "there.npz", photographs / "cat", *size) == own
    learned = small_model(image_size=16, num_classes=6)
    save_model(tmp_path / "learned", learned, replace(learned.card, classes=CLASSES))
    screen.run("convert", tmp_path / "learned", tmp_path / "larger", "--to", "vitral", *size)
    assert "positions interpolated from 2x2 to 4x4 patches" in screen.errors
    data = ("--data.root", photographs, "--out", tmp_path / "a.png")
    found = screen.json("eval", tmp_path / "learned", *size, *data)
    assert found["loss"] == pytest.approx(screen.json("eval", tmp_path / "larger", *data)["loss"], abs=1e-6)
    error = screen.refusal("predict", tmp_path / "learned", photographs / "cat", "--image-size", "large")
    assert "--image-size must be a number of pixels such as 224, not 'large'" in error


def test_card_and_metrics_of_a_run_come_along(screen: Screen, trained: Path, tmp_path: Path) -> None:
    facts = screen.json("convert", trained, tmp_path / "plain", "--to", "vitral")
    assert facts["largest_difference"] == 0
    assert (tmp_path / "plain" / "config.json").read_text() == (trained / "config.json").read_text()
    assert load_model(tmp_path / "plain").card.metrics["test/top1"] > 0


def test_a_full_disk_leaves_nothing_behind(
    screen: Screen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for form in ("vitral", "timm", "google"):
        assert screen.refusal("convert", model, tmp_path / "there", "--to", form).endswith("No space left on device")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_recognised_format_is_reported(screen: Screen, model: Path, tmp_path: Path) -> None:
    output = screen.run("convert", model, tmp_path / "there.npz", "--to", "google")
    assert "32 tensors as google" in output
    assert "checked with Vitral: its logits of random images differ from the source's by at most" in output
    screen.run("convert", tmp_path / "there.npz", tmp_path / "back", "--to", "vitral")
    assert "recognised as google: 32 tensors read" in screen.errors


def test_missing_arrays_are_named_and_may_be_allowed(screen: Screen, model: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.npz"
    screen.run("convert", model, there, "--to", "google")
    with np.load(there) as archive:
        arrays = dict(archive)
    del arrays["cls"]
    arrays["novel"] = np.zeros(3, np.float32)
    arrays["cls"] = np.zeros((1, 1, 12), np.float32)
    del arrays["Transformer/encoder_norm/scale"]
    np.savez(there, **arrays)
    error = screen.refusal("convert", there, tmp_path / "back", "--to", "vitral")
    for text in ("Transformer/encoder_norm/scale", "novel", "--allow-missing"):
        assert text in error
    facts = screen.json("convert", there, tmp_path / "back", "--to", "vitral", "--allow-missing")
    assert (facts["missing"], facts["unexpected"]) == (["Transformer/encoder_norm/scale"], ["novel"])


def test_fine_tuning_starts_from_another_projects_file(screen: Screen, trained: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.npz"
    screen.run("convert", trained, there, "--to", "big_vision")
    data = ["--data.source", "digits", "--data.root", "None", "--data.workers", "0", "--augment.crop", "none"]
    screen.run("train", "finetune", "--model.weights", there, *data, "--train.steps", "1", "--out", tmp_path / "run")
    assert "weights recognised as big_vision" in screen.errors
    assert screen.json("eval", tmp_path / "run")["num_images"] == 359


def test_another_projects_file_classifies_images(
    screen: Screen, model: Path, photographs: Path, tmp_path: Path
) -> None:
    screen.run("convert", model, tmp_path / "there.npz", "--to", "google")
    own, theirs = (screen.json("predict", where, photographs / "cat") for where in (model, tmp_path / "there.npz"))
    assert [one["class"] for one in theirs["predictions"]] == [one["class"] for one in own["predictions"]]


def test_another_librarys_file_can_be_evaluated_and_inspected(
    screen: Screen, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = small_model(image_size=16, num_classes=6)
    save_model(tmp_path / "model", small, small.card)
    screen.run("convert", tmp_path / "model", "there.npz", "--to", "google")
    error = screen.refusal_after_notes("eval", "there.npz", "--data.root", photographs)
    assert "6 classes" in error
    assert "'astronaut'" in error
    assert "has no run.json" in screen.refusal_after_notes("eval", "there.npz")
    save_model(tmp_path / "model", small, replace(small.card, classes=CLASSES))
    screen.run("convert", tmp_path / "model", "there", "--to", "transformers")
    own, theirs = (screen.json("eval", where, "--data.root", photographs) for where in ("model", "there"))
    assert (theirs["num_images"], theirs["split"], theirs["picture"]) == (72, "all", "there/confusion.png")
    assert theirs["confusion"] == own["confusion"]
    assert theirs["loss"] == pytest.approx(own["loss"], abs=1e-5)
    assert screen.run("inspect", "there.npz", photographs / "cat") == "attention.png\n"


def test_folders_called_as_imagenets_are_matched_and_few_classes_listed(
    screen: Screen, photographs: Path, tmp_path: Path
) -> None:
    small = small_model(image_size=16, num_classes=1000)
    save_model(tmp_path / "model", small, replace(small.card, classes=tuple(map(str, range(1000)))))
    screen.run("convert", tmp_path / "model", tmp_path / "there.npz", "--to", "google")
    shutil.copytree(photographs / "cat", tmp_path / "photos" / "n02124075")
    shutil.copytree(photographs / "coffee", tmp_path / "photos" / "espresso")
    out = ("--out", tmp_path / "confusion.png")
    figures = screen.json("eval", tmp_path / "there.npz", "--data.root", tmp_path / "photos", *out)
    counts = {row["name"]: row["num_images"] for row in figures["classes"]}
    assert (counts["Egyptian cat"], counts["espresso"], sum(counts.values())) == (12, 12, 24)
    assert 2 <= len(counts) <= 26
    assert np.array(figures["confusion"]).shape == (len(counts), len(counts))


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        (
            "pickle",
            "unknown format 'pickle': choose one of vitral, google, google-linen, big_vision, facebook-dinov2, ",
        ),
    ],
)
def test_unknown_formats_are_refused(screen: Screen, model: Path, tmp_path: Path, form: str, sentence: str) -> None:
    assert screen.refusal("convert", model, tmp_path / "there", "--to", form).startswith(sentence)


def test_an_existing_file_is_not_overwritten(screen: Screen, model: Path, tmp_path: Path) -> None:
    (tmp_path / "there.npz").write_text("mine")
    assert "there.npz exists" in screen.refusal("convert", model, tmp_path / "there.npz", "--to", "google")
    assert (tmp_path / "there.npz").read_text() == "mine"


@pytest.mark.parametrize(
    ("form", "changes", "reason"),
    [
        ("google", dict(num_registers=1, layer_scale=0.1), "it has no place for registers"),
        ("big_vision", dict(mlp="swiglu"), "which has gated MLPs (SwiGLU)"),
        ("torchvision", dict(qk_norm=True, num_registers=2), "it has no place for QK-norm and registers"),
        ("torchvision", dict(pool="gap"), "it has only a class token, and this model pools the mean of its patches"),
        ("transformers", dict(pool="map"), "which pools by attention; these can: vitral, google"),
        ("transformers", dict(mlp="swiglu"), "which has gated MLPs (SwiGLU); these can: vitral and timm"),
        ("clip", dict(num_registers=1), "which has a register; these can: vitral, timm"),
    ],
)
def test_what_a_format_cannot_hold_is_said(
    screen: Screen, tmp_path: Path, form: str, changes: dict[str, Any], reason: str
) -> None:
    small = small_model(image_size=16, **changes)
    save_model(tmp_path / "model", small, small.card)
    error = screen.refusal("convert", tmp_path / "model", tmp_path / "there.npz", "--to", form)
    assert error.startswith(f"the format {form} cannot store this model")
    assert reason in error
    assert not (tmp_path / "there.npz").exists()


@pytest.mark.parametrize("form", ["google", "big_vision", "torchvision", "transformers"])
def test_layer_scale_is_folded_where_a_format_has_none(screen: Screen, tmp_path: Path, form: str) -> None:
    small = small_model(image_size=16, layer_scale=0.1, gelu="tanh" if form in GOOGLES else "erf", norm_eps=1e-6)
    save_model(tmp_path / "model", small, small.card)
    there = tmp_path / ("there.npz" if form in GOOGLES else "there.safetensors")
    facts = screen.json("convert", tmp_path / "model", there, "--to", form)
    note = f"LayerScale is folded into attn.proj and mlp.fc2, as {form} has none: the outputs stay the same"
    assert note in facts["notes"]
    # a file of transformers does not store its epsilon
    assert facts["largest_difference"] < (1e-3 if form == "transformers" else 1e-5)
    folded, images = vitral.load(there, num_heads=3), torch.rand(2, 3, 16, 16)
    assert folded.config.layer_scale is None
    tolerance = 1e-3 if form == "transformers" else 1e-5
    torch.testing.assert_close(folded(images), small(images), rtol=0, atol=tolerance)
    if form == "transformers":
        screen.run("convert", tmp_path / "model", tmp_path / "folder", "--to", form)
        assert "ViTForImageClassification" in (tmp_path / "folder" / "config.json").read_text()
        torch.testing.assert_close(vitral.load(tmp_path / "folder")(images), small(images), rtol=0, atol=1e-5)


def test_files_of_an_unknown_format_are_refused(screen: Screen, tmp_path: Path) -> None:
    save_file({"a.b": torch.zeros(2)}, tmp_path / "x.safetensors")
    error = screen.refusal("convert", tmp_path / "x.safetensors", tmp_path / "y", "--to", "vitral")
    assert "x.safetensors has an unknown format" in error
    assert "1 tensors such as a.b" in error
    assert "does not exist" in screen.refusal("convert", tmp_path / "nothing", tmp_path / "y", "--to", "vitral")
    (tmp_path / "text").write_text("no weights")
    assert "is not a checkpoint" in screen.refusal("convert", tmp_path / "text", tmp_path / "y", "--to", "vitral")


def test_the_hub_is_out_of_reach(screen: Screen, tmp_path: Path) -> None:
    error = screen.refusal("convert", "hf-hub:nobody/nothing", tmp_path / "y", "--to", "vitral")
    assert error.startswith("hf-hub:nobody/nothing is not in the cache and the Hub cannot be reached")
    assert "hf download nobody/nothing" in error
    assert "cannot be downloaded" in screen.refusal("convert", "hf-hub:a/b/c", tmp_path / "y", "--to", "vitral")


def test_a_state_dict_and_a_prefix_are_chosen(screen: Screen, model: Path, tmp_path: Path) -> None:
    screen.run("convert", model, tmp_path / "there.safetensors", "--to", "timm")
    state = load_file(tmp_path / "there.safetensors")
    named = {f"eye.{name}": tensor for name, tensor in state.items()} | {"text.weight": torch.zeros(2)}
    torch.save({"teacher": named, "student": {name: 0 * tensor for name, tensor in named.items()}}, tmp_path / "x.pth")
    words = ("convert", tmp_path / "x.pth", tmp_path / "back", "--to", "vitral", *HEADS)
    assert "--prefix eye." in screen.refusal(*words)
    facts = screen.json(*words, "--prefix", "eye.", "--checkpoint-key", "teacher")
    assert (facts["lineage"], facts["unexpected"]) == ("timm", [])
    assert any("text (1 tensor)" in note for note in facts["notes"])
    back, first = load_model(tmp_path / "back").state_dict(), load_model(model).state_dict()
    assert all(torch.equal(back[name], first[name]) for name in first)


def test_a_model_on_the_hub_is_named_with_its_prefix(screen: Screen, tmp_path: Path) -> None:
    for words in (["predict", "google/vit", tmp_path], ["inspect", "google/vit", tmp_path], ["eval", "google/vit"]):
        assert "name it hf-hub:google/vit" in screen.refusal(*words)
    error = screen.refusal("train", "finetune", "--model.weights", "google/vit", "--out", tmp_path / "run")
    assert "name it hf-hub:google/vit" in error


def test_options_of_other_libraries_files_are_those_of_every_command(
    screen: Screen, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = small_model(image_size=16, num_classes=6, gelu="erf")
    tensors = upstream_state_dict(LINEAGES["timm"], small)[0]
    torch.save({"teacher": tensors, "student": {f"eye.{name}": tensor for name, tensor in tensors.items()}}, "x.pth")
    options = ("--checkpoint-key", "student", "--prefix", "eye", "--num-heads", "3")
    for words in (["predict", "x.pth", photographs / "cat"], ["inspect", "x.pth", photographs / "cat"]):
        screen.run(*words, *options)
        assert "recognised as timm" in screen.errors
        assert "choose one of teacher, student" in screen.refusal(*words, "--checkpoint-key", "ema")
        assert "no tensor's name starts with x." in screen.refusal(*words, "--prefix", "x.")
        assert "--num-heads must be a number" in screen.refusal(*words, "--num-heads", "three")
    error = screen.refusal_after_notes("eval", "x.pth", "--data.root", photographs, *options)
    assert "6 classes" in error
    screen.run("push", "x.pth", "me/model", "--dry-run", "out", *options)
    assert load_model("out").config.num_heads == 3


def test_a_failed_check_leaves_nothing_behind(
    screen: Screen, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Any, destination: Path, form: str) -> None:
        raise UserError(f"{destination} cannot be read")

    monkeypatch.setattr("vitral.commands.convert.verify", fail)
    for form, name in (("vitral", "there"), ("timm", "there"), ("google", "there.npz"), ("timm", "there.safetensors")):
        error = screen.refusal("convert", model, tmp_path / "deep" / name, "--to", form)
        assert error == f"{tmp_path / 'deep' / name} cannot be read"
    assert [file.name for file in (tmp_path / "deep").iterdir()] == []


def test_empty_names_options_and_images_get_advice(screen: Screen, model: Path, photographs: Path) -> None:
    image = next(file for file in sorted((photographs / "cat").iterdir()) if file.suffix in (".jpg", ".png"))
    for words in (["predict", "", image], ["inspect", "", image], ["push", "", "me/x"], ["eval", ""]):
        assert "name" in screen.refusal(*words)
        assert "is empty" in screen.refusal(*words)
    assert screen.refusal("inspect").startswith("the following arguments are required: RUN;")
    assert "did you mean --prefix?" in screen.refusal("predict", model, image, "--prefx", "x")
    assert "image, not the weights: name the model first" in screen.refusal("predict", image, model)
    assert f"{model} is a trained model" in screen.refusal("models", model)
    assert "--classes must be at least 1, not 0" in screen.refusal("models", "--classes", "0")
    assert "did you mean transformers?" in screen.refusal("convert", model, "x", "--to", "hf")


def test_a_second_size_is_compared_after_image_size(screen: Screen, tmp_path: Path) -> None:
    """The written model does not know that its positions were interpolated before."""
    small = small_model(image_size=16, gelu="erf", position_resample="timm")
    save_model(tmp_path / "model", small, small.card)
    facts = screen.json("convert", tmp_path / "model", tmp_path / "there", "--to", "timm", "--image-size", "32")
    assert set(facts["differences"]) == {"logits", "features", "logits at 40x48 pixels", "features at 40x48 pixels"}
    assert max(facts["differences"].values()) < 1e-5
    assert not any("computes no images" in note for note in facts["notes"])


@pytest.mark.parametrize(
    ("changes", "name"), [({}, "ViTModel"), ({"pool": "gap"}, "IJepaModel"), ({"distillation": True}, "DeiTModel")]
)
def test_a_model_without_a_trained_head_becomes_an_encoder(
    screen: Screen, tmp_path: Path, changes: dict[str, Any], name: str
) -> None:
    small = small_model(image_size=16, gelu="erf", position_resample="huggingface", **changes)
    for parameter in small.head.parameters():
        parameter.data.zero_()
    card = replace(small.card, classes=())
    save_model(tmp_path / "model", small, card)
    facts = screen.json("convert", tmp_path / "model", tmp_path / "there", "--to", "transformers")
    assert "the head is zero, so it was never trained: the encoder was written, without it" in facts["notes"]
    assert facts["verified_by"].endswith(name)
    assert max(facts["differences"].values()) < 1e-5
    assert "features at 24x32 pixels" in facts["differences"]
    config = (tmp_path / "there" / "config.json").read_text()
    assert name in config
    assert "LABEL_0" not in config
    assert not any("classifier" in key for key in load_file(tmp_path / "there" / "model.safetensors"))
    screen.run("convert", tmp_path / "there", tmp_path / "back", "--to", "vitral")
    assert "has no head" in screen.errors
    images = torch.rand(2, 3, 16, 16)
    expected = small.features(images).pooled
    torch.testing.assert_close(load_model(tmp_path / "back").features(images).pooled, expected, rtol=0, atol=1e-5)
    assert "the head is zero" in screen_errors(screen, tmp_path / "model", tmp_path / "timm")


def screen_errors(screen: Screen, model: Path, destination: Path) -> str:
    """What converting to a single file of timm prints on standard error."""
    screen.run("convert", model, destination.with_suffix(".safetensors"), "--to", "timm")
    return screen.errors


def test_the_form_of_gelu_is_an_option_of_every_command(
    screen: Screen, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = small_model(image_size=16, num_classes=6, gelu="quick")
    tensors = upstream_state_dict(LINEAGES["timm"], small)[0]
    save_file(tensors, "x.safetensors")
    words = ("convert", "x.safetensors", "there", "--to", "vitral", *HEADS, "--gelu", "quick")
    screen.run(*words)
    assert load_model(Path("there")).config.gelu == "quick"
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(load_model(Path("there"))(images), small(images))
    assert "does not store its GELU" not in screen.errors
    assert "one of tanh, erf, quick" in screen.refusal("predict", "x.safetensors", photographs / "cat", "--gelu", "x")


def test_training_reads_a_part_of_a_file(screen: Screen, photographs: Path, tmp_path: Path) -> None:
    small = small_model(image_size=16, num_classes=6, gelu="quick")
    tensors = upstream_state_dict(LINEAGES["timm"], small)[0]
    eye = {f"eye.{name}": tensor for name, tensor in tensors.items()} | {"text.weight": torch.zeros(2)}
    torch.save({"teacher": {}, "student": eye, "other": eye}, tmp_path / "x.pth")
    words = ["train", "finetune", "--data.root", photographs, "--data.workers", "0", "--train.steps", "1"]
    words += ["--out", tmp_path / "run", "--model.weights", tmp_path / "x.pth"]
    words += ["--model.num-heads", "3", "--model.checkpoint-key", "student"]
    assert "read it alone with --model.prefix eye." in screen.refusal(*words)
    screen.run(*words, "--model.prefix", "eye.", "--model.gelu", "quick", "--optim.lr", "1e-12")
    assert "weights recognised as timm" in screen.errors
    trained = load_model(tmp_path / "run")
    assert (trained.config.num_heads, trained.config.gelu) == (3, "quick")
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(trained.features(images).pooled, small.features(images).pooled)
    error = screen.refusal("train", "folder", "--data.root", photographs, "--model.prefix", "x")
    assert "set --model.weights" in error


def test_every_command_that_names_a_model_reads_a_part_of_a_file(
    screen: Screen, photographs: Path, tmp_path: Path
) -> None:
    small = small_model(image_size=16, num_classes=6, pool="gap", gelu="erf")
    tensors = upstream_state_dict(LINEAGES["timm"], small)[0]
    eye = {f"eye.{name}": tensor for name, tensor in tensors.items()} | {"text.weight": torch.zeros(2)}
    torch.save({"teacher": {}, "student": eye, "other": eye}, tmp_path / "x.pth")
    near = ["data", "near", photographs, "--out", tmp_path / "near.png", "--model", tmp_path / "x.pth"]
    bench = ["bench", tmp_path / "x.pth", "--seconds", "0.01", "--batch-size", "1", "--no-compile"]
    words = ["--checkpoint-key", "student", *HEADS, "--gelu", "erf"]
    for command in (near, bench):
        assert "read it alone with --prefix eye." in screen.refusal(*command, *words)
        screen.run(*command, *words, "--prefix", "eye.")
    assert "--prefix helps to read a model's file" in screen.refusal("data", "near", photographs, "--prefix", "eye.")
    assert "is the name of a model" in screen.refusal("bench", "ViT-mu/16", "--prefix", "eye.")


def test_a_single_file_says_what_it_leaves_open(screen: Screen, tmp_path: Path) -> None:
    small = small_model(image_size=16, gelu="quick", pre_norm=True, patch_bias=False)
    save_model(tmp_path / "model", small, small.card)
    facts = screen.json("convert", tmp_path / "model", tmp_path / "x.safetensors", "--to", "timm")
    assert "the file does not store its gelu: it is quick" in facts["notes"]
    assert facts["largest_difference"] < 1e-5
    assert "does not store its GELU" in screen.refusal(
        "convert", tmp_path / "x.safetensors", tmp_path / "back", "--to", "vitral", *HEADS
    )
