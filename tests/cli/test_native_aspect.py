"""Runs on images that keep their aspect ratio resume exactly, and their models are evaluated, used and served alike."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from PIL import Image

from cli.screen import Screen
from serve.client import client_of
from tiny import tiny_run
from vitral.cli import main
from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.objectives.mae import MAEConfig
from vitral.recipes.own_images import Survey, chosen_for
from vitral.resnet import ResNetConfig
from vitral.runs.run import Run
from vitral.serve.predictor import Predictor
from vitral.train.config import ModelSetup, RunConfig
from vitral.train.fit import fit
from vitral.train.interrupts import Interrupted
from vitral.train.memory import images_worth
from vitral.train.resolution import ResolutionConfig
from vitral.train.session import Session
from vitral.weights.folder import load_model

NATIVE = Preprocessing(image_size=(8, 8), channels=1, resize="native_aspect", max_patches=6)
CROPS = AugmentConfig(crop="inception", flip=True, flip_vertical=True, sequence_lengths=(3, 6))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide and tall pictures of two classes, bright and dark."""
    root, prng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(40):
        height, width = prng.integers(6, 60, 2)
        pixels = prng.integers(0, 100, (height, width), np.uint8) + 120 * (number % 2)
        (root / "dark", root / "light")[number % 2].mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / ("dark", "light")[number % 2] / f"{number:02}.png")
    return root


def run_of(photos: Path, out: Path, **changes: object) -> RunConfig:
    run = tiny_run(out, batch_size=8)
    data = DataConfig(source="folder", root=photos)
    return replace(run, **{"data": data, "preprocessing": NATIVE, "augment": CROPS, **changes})


def train(config: RunConfig, *, resume: bool = False) -> dict[str, float]:
    assert config.out is not None
    run = Run.open(config.out) if resume else Run.create(config.out, recipe=config.recipe)
    try:
        return fit(run, config)
    finally:
        run.close()


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "native"
    train(run_of(photos, folder))
    return folder


def test_a_run_that_was_interrupted_has_the_same_weights(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, step = run_of(photos, tmp_path / "parts"), Session.train_step

    def interrupted(self: Session, *args: object, **options: object) -> object:
        if self.step == 6:
            raise Interrupted(2)
        return step(self, *args, **options)

    monkeypatch.setattr(Session, "train_step", interrupted)
    with pytest.raises(Interrupted):
        train(config)
    monkeypatch.setattr(Session, "train_step", step)
    train(replace(config, data=replace(config.data, workers=1)), resume=True)
    one, other = ((folder / "model.safetensors").read_bytes() for folder in (trained, tmp_path / "parts"))
    assert one == other


def test_the_card_says_how_images_are_resized(trained: Path, tmp_path: Path) -> None:
    card = load_model(trained).card
    assert card is not None
    assert card.preprocessing == replace(NATIVE, patch_size=(4, 4))
    main(["push", str(trained), "me/native", "--dry-run", str(tmp_path / "files")])
    readme = (tmp_path / "files" / "README.md").read_text()
    assert "keeping its aspect ratio, to the largest size with at most 6 patches of 4x4 pixels" in readme


def test_eval_and_predict_agree_with_single_whole_images(trained: Path, photos: Path, screen: Screen) -> None:
    model = load_model(trained)
    card = model.card
    assert card is not None
    assert screen.json("eval", trained)["loss"] == pytest.approx(card.metrics["test/loss"], abs=1e-5)
    rows = screen.json("predict", trained, photos, "--top", "2")["predictions"]
    predictor = Predictor(model, device="cpu")
    for row in rows[:6]:
        with Image.open(row["file"]) as image:
            resized = card.preprocessing.crop_hw((0.0, 0.0, 1.0, 1.0), image.size)
            fixed = replace(card.preprocessing, resize="squash", image_size=resized)
            pixels = torch.from_numpy(fixed.pixels(image))[None]
            prediction = predictor(image)
        expected = model(fixed.normalise(pixels)).softmax(dim=1)[0].max().item()
        assert row["probability"] == pytest.approx(expected, abs=1e-5)
        assert prediction.probabilities[0] == pytest.approx(expected, abs=1e-5)
    flipped = Predictor(model, device="cpu", tta="flip")
    assert flipped.logits(torch.zeros(2, *card.preprocessing.shape, dtype=torch.uint8)).shape == (2, 2)


def test_the_service_answers(trained: Path, photos: Path) -> None:
    file = next(photos.rglob("*.png"))
    with client_of({"native": load_model(trained)}) as client:
        answer = client.post("/v1/predict", content=file.read_bytes(), headers={"content-type": "image/png"})
        (image,) = answer.json()["images"]
        (facts,) = client.get("/v1/models").json()["models"]
    assert not facts["attention"]
    expected = Predictor(load_model(trained), device="cpu")(file)
    assert image["classes"][0]["probability"] == pytest.approx(expected.probabilities[0], abs=1e-5)


@pytest.mark.parametrize("patch_size", [None, [8, 4]])
def test_a_card_with_other_patches_than_the_models_raises(trained: Path, tmp_path: Path, patch_size: object) -> None:
    copytree(trained, tmp_path / "run")
    config = json.loads((trained / "config.json").read_text())
    config["card"]["preprocessing"]["patch_size"] = patch_size
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"cuts images into patches of .*, but the model expects \(4, 4\)"):
        load_model(tmp_path / "run")


@pytest.mark.parametrize(
    "command",
    [
        ("export", "RUN", "OUT.onnx"),
        ("inspect", "RUN", "--out", "OUT.png"),
        ("predict", "RUN", "PHOTO", "--tta", "five-crop"),
        ("convert", "RUN", "OUT", "--to", "timm"),
    ],
)
def test_what_needs_images_of_one_size_says_so(
    command: tuple[str, ...], trained: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"RUN": str(trained), "PHOTO": str(next(photos.rglob("*.png")))}
    arguments = [names.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in command]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "images of one size" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(objective=MAEConfig(width=16, depth=1, num_heads=2)), "mae needs images of one size"),
        (dict(augment=AugmentConfig(mixup=0.2, shift=1)), "give --augment.shift 0 --augment.mixup 0"),
        (dict(augment=AugmentConfig(crop="simple", colour_jitter=0.1)), "--augment.crop inception --augment.colour-ji"),
        (dict(resolution=ResolutionConfig(sizes=(4,), until=("50percent",))), "--resolution.sizes needs images of one"),
        (dict(model=ModelSetup(architecture=ResNetConfig(stages=(1,)))), "a ResNet needs images of one size"),
        (dict(preprocessing=replace(NATIVE, resize="squash")), "--preprocessing.max-patches goes with"),
        (
            dict(preprocessing=replace(NATIVE, resize="squash", max_patches=None)),
            "--augment.sequence-lengths goes with",
        ),
    ],
)
def test_settings_that_need_images_of_one_size_raise(
    changes: dict[str, object], sentence: str, photos: Path, tmp_path: Path
) -> None:
    config = run_of(photos, tmp_path / "run", **{"augment": CROPS, **changes})
    with pytest.raises(UserError, match=sentence):
        config.resolved(num_classes=2)


def test_the_recipe_for_folders_chooses_plain_patches(photos: Path, tmp_path: Path) -> None:
    recipe = replace(run_of(photos, tmp_path), recipe="folder")
    hybrid = replace(recipe.model.architecture, stem_stages=(1, 1), image_size=96, patch_size=16)
    chosen = chosen_for(
        replace(recipe, model=ModelSetup(architecture=hybrid)), Survey(num_train=40, num_classes=2, short_side=30)
    )
    assert (chosen.model.architecture.stem_stages, chosen.model.architecture.patch_hw) == (None, (8, 8))
    assert chosen.augment == replace(CROPS, flip=True)


def test_a_longer_sequence_takes_more_memory(photos: Path, tmp_path: Path) -> None:
    config = run_of(photos, tmp_path)
    assert images_worth(config) == pytest.approx(6 / 4)
    assert images_worth(replace(config, augment=AugmentConfig(), preprocessing=replace(NATIVE, max_patches=None))) == 1
