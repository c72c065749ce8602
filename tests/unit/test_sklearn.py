"""The scikit-learn estimators behave as scikit-learn expects, and train as the command line does."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from models import small_model
from vitral.sklearn import ViTClassifier, ViTFeatures
from vitral.weights.folder import save_model

DIGITS = load_digits()
IMAGES, CLASSES = DIGITS.images[:200], DIGITS.target[:200]
TINY = dict(
    model_width=16,
    model_depth=1,
    model_num_heads=2,
    model_mlp_dim=32,
    model_image_size=16,
    model_dropout=0.0,
    augment_rotate=0.0,
    augment_scale=0.0,
    augment_shift=0,
    train_batch_size=16,
    optim_lr=1e-2,
    preprocessing_resize="squash",
)
LEFT_OUT = {"check_array_api_input": "images are decoded on the host, so arrays of other libraries gain nothing"}


def tiny(**changes: object) -> ViTClassifier:
    return ViTClassifier(**{"settings": TINY, "epochs": 1, "random_state": 0, "device": "cpu", **changes})


@pytest.fixture(scope="module")
def fitted() -> ViTClassifier:
    return tiny(epochs=12, settings={**TINY, "train_batch_size": 50}).fit(IMAGES, CLASSES)


def test_it_learns_and_gives_probabilities(fitted: ViTClassifier) -> None:
    assert fitted.score(IMAGES, CLASSES) > 0.3
    probabilities = fitted.predict_proba(IMAGES[:9])
    assert probabilities.shape == (9, 10)
    assert probabilities.sum(1) == pytest.approx(np.ones(9))
    assert (fitted.classes_[probabilities.argmax(1)] == fitted.predict(IMAGES[:9])).all()


def test_pickled_it_predicts_the_same(fitted: ViTClassifier) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(IMAGES[:9]) == fitted.predict_proba(IMAGES[:9])).all()


def test_the_random_state_determines_the_model() -> None:
    first, second, other = (
        tiny(random_state=seed).fit(IMAGES[:60], CLASSES[:60]).predict_proba(IMAGES[:5]) for seed in (1, 1, 2)
    )
    assert (first == second).all()
    assert (first != other).any()


def test_a_clone_has_the_parameters_and_no_model(fitted: ViTClassifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "model_")
    assert copy.set_params(epochs=3).epochs == 3


def test_a_pipeline_in_cross_validation_and_grid_search() -> None:
    pipeline = make_pipeline(StandardScaler(), tiny(image_shape=(8, 8)))
    table, classes = DIGITS.data[:60], DIGITS.target[:60]
    assert cross_val_score(pipeline, table, classes, cv=2).shape == (2,)
    search = GridSearchCV(pipeline, {"vitclassifier__epochs": [1, 2]}, cv=2).fit(table, classes)
    assert search.best_params_["vitclassifier__epochs"] in (1, 2)
    assert search.predict(table[:3]).shape == (3,)


def test_files_images_and_arrays_are_the_same(tmp_path: Path, fitted: ViTClassifier) -> None:
    pixels = np.round(IMAGES[:20] * 255 / 16).astype(np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(len(pixels))]
    pictures = [Image.fromarray(each) for each in pixels]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    names = np.array(list("ab" * 10))
    results = [
        tiny().fit(items, names).predict_proba(items)
        for items in (pixels, list(pixels), pictures, paths, np.array([str(path) for path in paths]))
    ]
    assert all((result == results[0]).all() for result in results)
    colour = np.repeat(pixels[..., None], 3, axis=3)
    assert tiny().fit(colour, names).predict(colour[:2]).dtype == names.dtype


def test_values_beyond_those_of_training_are_black_or_white(fitted: ViTClassifier) -> None:
    beyond = np.where(IMAGES[:5] > 8, 1e6, -1e6)
    clipped = np.where(IMAGES[:5] > 8, IMAGES.max(), IMAGES.min())
    assert (fitted.predict_proba(beyond) == fitted.predict_proba(clipped)).all()


def test_minutes_set_the_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitral.sklearn.measure_budget", lambda *_, **__: type("Budget", (), {"steps": lambda *_: 2}))
    assert tiny(epochs=None, minutes=1.0).fit(IMAGES[:40], CLASSES[:40]).predict(IMAGES[:2]).shape == (2,)


@pytest.mark.parametrize(
    ("images", "classes", "sentence"),
    [
        (IMAGES[:4], [1, 1, 1, 1], "only one class"),
        (IMAGES[:4], [0, 1], "inconsistent numbers of samples"),
        (DIGITS.data[:4], [0, 1, 0, 1], "image_shape"),
        (np.zeros((4, 8, 8, 5)), [0, 1, 0, 1], "1 or 3 channels last"),
        (np.full((4, 8, 8), np.nan), [0, 1, 0, 1], "NaN"),
        ([], [], "0 sample"),
        (["nowhere.png"] * 4, [0, 1, 0, 1], "nowhere.png"),
    ],
)
def test_wrong_images_are_value_errors(images: object, classes: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny().fit(images, classes)


@pytest.mark.parametrize("settings", [{"train_batchsize": 3}, {"optim_lr": "fast"}])
def test_wrong_settings_name_the_key(settings: dict[str, object]) -> None:
    key = next(iter(settings)).replace("_", ".")
    with pytest.raises(ValueError, match=f"--{key}"):
        tiny(settings=settings).fit(IMAGES[:4], [0, 1, 0, 1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = small_model()
    save_model(tmp_path / "model", model, model.card)
    return tmp_path / "model"


def test_features_feed_another_classifier(folder: Path) -> None:
    pipeline = make_pipeline(ViTFeatures(folder, device="cpu"), LogisticRegression())
    pipeline.fit(IMAGES[:60], CLASSES[:60])
    assert pipeline.score(IMAGES[:60], CLASSES[:60]) > 0.2
    features = pipeline[0].transform(IMAGES[:3])
    assert features.shape == (3, len(pipeline[0].get_feature_names_out()))
    again = pickle.loads(pickle.dumps(pipeline))
    assert (again.predict(IMAGES[:9]) == pipeline.predict(IMAGES[:9])).all()


@pytest.mark.slow
def test_scikit_learns_own_checks_of_the_classifier() -> None:
    """Rows of a table are images one pixel high."""
    check(tiny(image_shape=(1, -1)))


@pytest.mark.slow
def test_scikit_learns_own_checks_of_the_features(folder: Path) -> None:
    check(ViTFeatures(folder, image_shape=(1, -1), device="cpu"))


def check(estimator: object) -> None:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] != "passed"}
    assert failed.keys() <= LEFT_OUT.keys(), failed
    assert len(results) > 40
