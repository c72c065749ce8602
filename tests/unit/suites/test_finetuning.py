"""Fine-tuning on few images: the rate is chosen on val alone, all are trained on, the test images only counted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitral.card import ModelCard
from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import ArraySource, Joined, Source, Subset
from vitral.datasets.digits import digits
from vitral.models import create
from vitral.suites import finetuning
from vitral.suites.finetuning import (
    PROTOCOLS,
    Protocol,
    configured,
    finetuned,
    finetuning_images,
    finetuning_score,
    own_protocol,
)
from vitral.train.config import RunConfig
from vitral.train.reporter import Diverged
from vitral.train.session import Session
from vitral.weights.folder import load_model, save_model

QUICK = Protocol(rates=(1e-6, 0.2), steps=60, batch_size=32, image_size=None, varied=False)
DATA = DataConfig(source="digits")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that tells three things apart, of random weights."""
    torch.manual_seed(0)
    model = create("ViT-Ti/16", image_size=8, patch_size=4, channels=1, width=48, depth=1, num_classes=3)
    folder = tmp_path_factory.mktemp("model")
    preprocessing = Preprocessing(image_size=(8, 8), channels=1)
    save_model(folder, model, ModelCard(preprocessing=preprocessing, classes=("a", "b", "c")))
    return folder


@pytest.fixture(scope="module")
def splits() -> dict[str, Source]:
    images, labels = digits()
    whole = ArraySource(title="digits", images=images, labels=labels, classes=tuple("0123456789"))
    starts = {"train": (0, 300), "val": (300, 360), "test": (400, 511)}
    return {name: Subset(source=whole, indices=np.arange(*ends)) for name, ends in starts.items()}


ORDINARY, LARGE = (0.001, 0.003, 0.01, 0.03), (0.003, 0.01, 0.03, 0.06)


@pytest.mark.parametrize(
    ("source", "num_images", "rates", "steps", "warmup", "held_out"),
    [
        ("imagenet1k", 1_281_167, LARGE, 20_000, "500steps", 0.01),
        ("cifar10", 50_000, ORDINARY, 10_000, "500steps", 0.02),
        ("cifar100", 50_000, ORDINARY, 10_000, "500steps", 0.02),
        ("cifar100", 1_000, ORDINARY, 10_000, "500steps", 0.02),
        ("pets", 3_680, ORDINARY, 500, "100steps", 0.1),
        ("flowers", 1_020, ORDINARY, 500, "100steps", 0.1),
        ("folder", 19_999, ORDINARY, 500, "100steps", 0.1),
        ("folder", 20_000, ORDINARY, 10_000, "500steps", 0.02),
        ("fashion-mnist", 60_000, ORDINARY, 10_000, "500steps", 0.02),
        ("hub", 499_999, ORDINARY, 10_000, "500steps", 0.02),
        ("hub", 500_000, LARGE, 20_000, "500steps", 0.01),
    ],
)
def test_table_4_by_data_set_and_for_others_by_size(
    source: str, num_images: int, rates: tuple[float, ...], steps: int, warmup: str, held_out: float
) -> None:
    found = own_protocol("paper", source, num_images=num_images)
    assert (found.rates, found.steps, found.warmup, found.held_out) == (rates, steps, warmup, held_out)
    assert (found.batch_size, found.image_size, found.varied) == (512, 384, True)
    assert own_protocol("light", source, num_images=num_images) == PROTOCOLS["light"]


def test_the_protocol_of_the_paper_on_vtab() -> None:
    assert PROTOCOLS["paper"] == Protocol(rates=(0.01,), steps=2500, batch_size=512, image_size=384, varied=True)


def test_patches_fill_the_image(weights: Path) -> None:
    """As the paper's H/14 takes 378 pixels of 384."""
    config = configured(weights, replace(QUICK, image_size=18), fresh=False, data=DATA, device="cpu")
    assert config.model.architecture.image_hw == (16, 16)


def test_settings_of_a_run(weights: Path) -> None:
    config = configured(weights, replace(QUICK, image_size=16), fresh=False, data=DATA, device="cpu")
    assert (config.optim.name, config.optim.momentum, config.optim.weight_decay) == ("sgd", 0.9, 0.0)
    assert (config.optim.clip, config.schedule.decay) == (1.0, "cosine")
    assert (config.train.steps, config.train.batch_size, config.schedule.warmup) == (60, 32, "5percent")
    own = configured(weights, replace(QUICK, warmup="7steps"), fresh=False, data=DATA, device="cpu")
    assert own.schedule.warmup == "7steps"
    session = finetuned(replace(config, train=replace(config.train, steps=1)), Tiny)
    assert session.preprocessing.image_size == (16, 16)


def test_a_model_that_cuts_its_images_is_tuned_and_tested_on_whole_ones(tmp_path: Path, weights: Path) -> None:
    model = load_model(weights)
    assert model.card is not None
    cutting = replace(model.card, preprocessing=replace(model.card.preprocessing, resize="crop"))
    save_model(tmp_path / "cutting", model, cutting)
    config = configured(tmp_path / "cutting", QUICK, fresh=False, data=DATA, device="cpu")
    assert config.preprocessing.resize == "squash"


Tiny = ArraySource(
    title="two", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]), classes=("black", "dark")
)


def test_the_rate_is_chosen_on_val_and_all_images_are_trained_on(
    weights: Path, splits: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def watched(config: RunConfig, source: Source, **told: Any) -> Session:
        runs.append((config.optim.lr, config.seed, len(source)))
        return finetuned(config, source, **told)

    monkeypatch.setattr(finetuning, "finetuned", watched)
    config = configured(weights, QUICK, fresh=False, data=DATA, device="cpu")
    done = []
    found = finetuning_score(config, splits, rates=QUICK.rates, seeds=(3, 4), advance=done.append)
    assert sum(done) == finetuning_images(config, splits, rates=QUICK.rates, seeds=2) == 4 * 60 * 32 + 2 * 60 + 2 * 111
    assert runs == [(1e-6, 3, 300), (0.2, 3, 300), (0.2, 3, 360), (0.2, 4, 360)]
    assert found.num_images == 111
    assert min(found.values) > 0.3, "chance is 0.1"
    assert found.values == finetuning_score(config, splits, rates=(0.2,), seeds=(3, 4)).values


def test_a_rate_at_which_training_diverges_is_not_taken_and_told_where_there_is_no_other(
    weights: Path, splits: dict[str, Source]
) -> None:
    config = configured(weights, replace(QUICK, steps=10), fresh=False, data=DATA, device="cpu")
    assert finetuning_score(config, splits, rates=(1e38, 0.1), seeds=(0,)).mean > 0.1
    with pytest.raises(ValueError, match=r"fine-tuning at the rate 1e\+38 diverged: its loss is not finite"):
        finetuning_score(config, splits, rates=(1e38,), seeds=(0,))


def test_a_rate_at_which_training_diverges_is_given_up_early(weights: Path, splits: dict[str, Source]) -> None:
    config = configured(weights, replace(QUICK, steps=500), fresh=False, data=DATA, device="cpu")
    done: list[int] = []
    with pytest.raises(Diverged):
        finetuned(replace(config, optim=replace(config.optim, lr=1e38)), splits["train"], advance=done.append)
    assert len(done) == 50


def test_images_that_cannot_be_read_are_told(weights: Path, splits: dict[str, Source]) -> None:
    """In training, in choosing and in the test."""
    data = replace(DATA, on_error="skip")
    config = configured(weights, replace(QUICK, steps=30), fresh=False, data=data, device="cpu")
    told: set[str] = set()
    torn: dict[str, Source] = {name: Torn(source, name) for name, source in splits.items()}
    found = finetuning_score(config, torn, rates=(0.1, 0.2), seeds=(0,), tell=told.add)
    assert told == {f"the first image of {name} is torn" for name in splits}
    assert found.num_images == 110


def test_images_of_one_class_that_can_be_read_tell_nothing_apart(weights: Path, splits: dict[str, Source]) -> None:
    """Another class has a single image, which is torn."""
    data = replace(DATA, on_error="skip")
    config = configured(weights, replace(QUICK, steps=3), fresh=False, data=data, device="cpu")
    labels = splits["train"].labels
    indices = np.concatenate([np.flatnonzero(labels == 0)[:1], np.flatnonzero(labels == 1)])
    ones = Torn(Subset(source=splits["train"], indices=indices), "train")
    with pytest.raises(ValueError, match="the images that can be read are of one class"):
        finetuned(config, ones)


def test_too_little_memory_names_a_way_out(
    weights: Path, splits: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Session, "train_step", full)
    config = configured(weights, QUICK, fresh=False, data=DATA, device="cpu")
    with pytest.raises(ValueError, match=r"with batches of 32 images of 8x8 pixels: choose --finetune light, or a"):
        finetuned(config, splits["train"])


class Torn:
    """A source whose first image cannot be read."""

    def __init__(self, whole: Source, title: str) -> None:
        self.whole, self.title = whole, title
        self.labels, self.classes = whole.labels, whole.classes

    def __len__(self) -> int:
        return len(self.whole)

    def name(self, index: int) -> str:
        return self.whole.name(index)

    def stored(self, index: int) -> Any:
        if not index:
            raise UnreadableImage(f"the first image of {self.title} is torn")
        return self.whole.stored(index)


def test_fresh_weights_are_not_the_models(weights: Path) -> None:
    kept, fresh = (configured(weights, QUICK, fresh=fresh, data=DATA, device="cpu") for fresh in (False, True))
    assert kept.model.weights == weights
    assert fresh.model.weights is None
    assert fresh.model.architecture == kept.model.architecture


def test_joined_images_are_those_of_both(splits: dict[str, Source]) -> None:
    both = Joined(first=splits["train"], second=splits["val"])
    assert len(both) == 360
    assert both.labels.tolist() == [*splits["train"].labels, *splits["val"].labels]
    assert [both.name(number) for number in (299, 300, 359)] == ["digits[299]", "digits[300]", "digits[359]"]
    assert np.array_equal(np.asarray(both.stored(310)), np.asarray(splits["val"].stored(10)))
