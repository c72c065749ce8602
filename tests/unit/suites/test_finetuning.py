"""Fine-tuning on few images: only val selects the learning rate; train and val are trained on, test is evaluated."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import small_model
from vitral.card import ModelCard
from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import ArraySource, ConcatSource, Source, Subset
from vitral.datasets.digits import digits
from vitral.models import create
from vitral.runs.reporter import Diverged
from vitral.suites import finetuning
from vitral.suites.finetuning import (
    PROTOCOLS,
    Protocol,
    evaluate_finetuning,
    finetune,
    finetune_config,
    num_finetuning_images,
    select_protocol,
)
from vitral.suites.runner import training_key
from vitral.train.config import RunConfig
from vitral.train.session import Session
from vitral.weights.folder import load_model, save_model
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.write import upstream_state_dict

QUICK = Protocol(rates=(1e-6, 0.2), steps=15, batch_size=32, image_size=None, augment=False)
DATA = DataConfig(source="digits")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of three classes with random weights."""
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


SMALL_RATES, LARGE_RATES = (0.001, 0.003, 0.01, 0.03), (0.003, 0.01, 0.03, 0.06)


@pytest.mark.parametrize(
    ("source", "num_images", "rates", "steps", "warmup", "val_fraction"),
    [
        ("imagenet1k", 1_281_167, LARGE_RATES, 20_000, "500steps", 0.01),
        ("cifar10", 50_000, SMALL_RATES, 10_000, "500steps", 0.02),
        ("cifar100", 50_000, SMALL_RATES, 10_000, "500steps", 0.02),
        ("cifar100", 1_000, SMALL_RATES, 10_000, "500steps", 0.02),
        ("pets", 3_680, SMALL_RATES, 500, "100steps", 0.1),
        ("flowers", 1_020, SMALL_RATES, 500, "100steps", 0.1),
        ("folder", 19_999, SMALL_RATES, 500, "100steps", 0.1),
        ("folder", 20_000, SMALL_RATES, 10_000, "500steps", 0.02),
        ("fashion-mnist", 60_000, SMALL_RATES, 10_000, "500steps", 0.02),
        ("hub", 499_999, SMALL_RATES, 10_000, "500steps", 0.02),
        ("hub", 500_000, LARGE_RATES, 20_000, "500steps", 0.01),
    ],
)
def test_the_row_of_table_4_is_by_data_set_or_else_by_size(
    source: str, num_images: int, rates: tuple[float, ...], steps: int, warmup: str, val_fraction: float
) -> None:
    protocol = select_protocol("paper", source, num_images=num_images)
    assert (protocol.rates, protocol.steps) == (rates, steps)
    assert (protocol.warmup, protocol.val_fraction) == (warmup, val_fraction)
    assert (protocol.batch_size, protocol.image_size, protocol.augment) == (512, 384, True)
    assert select_protocol("light", source, num_images=num_images) == PROTOCOLS["light"]


def test_the_protocol_of_the_paper_on_vtab() -> None:
    assert PROTOCOLS["paper"] == Protocol(rates=(0.01,), steps=2500, batch_size=512, image_size=384, augment=True)


def test_the_image_size_is_a_multiple_of_the_patch_size(weights: Path) -> None:
    """As 378 pixels for the paper's H/14."""
    config = finetune_config(weights, replace(QUICK, image_size=18), fresh=False, data=DATA, device="cpu")
    assert config.model.architecture.image_hw == (16, 16)


def test_configuration_of_a_training(weights: Path) -> None:
    config = finetune_config(weights, replace(QUICK, image_size=16), fresh=False, data=DATA, device="cpu")
    assert (config.optim.name, config.optim.momentum, config.optim.weight_decay) == ("sgd", 0.9, 0.0)
    assert (config.optim.clip, config.schedule.decay) == (1.0, "cosine")
    assert (config.train.steps, config.train.batch_size, config.schedule.warmup) == (15, 32, "5percent")
    other = finetune_config(weights, replace(QUICK, warmup="7steps"), fresh=False, data=DATA, device="cpu")
    assert other.schedule.warmup == "7steps"
    session = finetune(replace(config, train=replace(config.train, steps=1)), TWO_CLASSES)
    assert session.preprocessing.image_size == (16, 16)


def test_a_model_that_crops_images_is_fine_tuned_on_whole_images(tmp_path: Path, weights: Path) -> None:
    model = load_model(weights)
    assert model.card is not None
    cropping = replace(model.card, preprocessing=replace(model.card.preprocessing, resize="crop"))
    save_model(tmp_path / "cropping", model, cropping)
    config = finetune_config(tmp_path / "cropping", QUICK, fresh=False, data=DATA, device="cpu")
    assert config.preprocessing.resize == "squash"


TWO_CLASSES = ArraySource(
    title="two", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]), classes=("black", "dark")
)


def test_val_selects_the_learning_rate_and_is_then_trained_on(
    weights: Path, splits: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def recorded(config: RunConfig, source: Source, **arguments: Any) -> Session:
        runs.append((config.optim.lr, config.seed, len(source)))
        return finetune(config, source, **arguments)

    monkeypatch.setattr(finetuning, "finetune", recorded)
    config = finetune_config(weights, QUICK, fresh=False, data=DATA, device="cpu")
    done = []
    score = evaluate_finetuning(config, splits, rates=QUICK.rates, seeds=(3, 4), advance=done.append)
    num_images = num_finetuning_images(config, splits, rates=QUICK.rates, num_seeds=2)
    assert sum(done) == num_images == 4 * 15 * 32 + 2 * 60 + 2 * 111
    assert runs == [(1e-6, 3, 300), (0.2, 3, 300), (0.2, 3, 360), (0.2, 4, 360)]
    assert score.num_images == 111
    assert min(score.values) > 0.3, "far above one class in ten"
    assert score.values == evaluate_finetuning(config, splits, rates=(0.2,), seeds=(3, 4)).values


def test_a_learning_rate_that_diverges_is_not_selected_and_an_error_if_it_is_the_only_one(
    weights: Path, splits: dict[str, Source]
) -> None:
    config = finetune_config(weights, replace(QUICK, steps=10), fresh=False, data=DATA, device="cpu")
    assert evaluate_finetuning(config, splits, rates=(1e38, 0.1), seeds=(0,)).mean > 0.1
    with pytest.raises(ValueError, match=r"1e\+38 diverged"):
        evaluate_finetuning(config, splits, rates=(1e38,), seeds=(0,))


def test_training_that_diverges_is_stopped_early(weights: Path, splits: dict[str, Source]) -> None:
    config = finetune_config(weights, replace(QUICK, steps=500), fresh=False, data=DATA, device="cpu")
    done: list[int] = []
    with pytest.raises(Diverged):
        finetune(replace(config, optim=replace(config.optim, lr=1e38)), splits["train"], advance=done.append)
    assert len(done) == 50


def test_unreadable_images_are_logged(weights: Path, splits: dict[str, Source]) -> None:
    """In train, val and test."""
    data = replace(DATA, on_error="skip")
    config = finetune_config(weights, replace(QUICK, steps=10), fresh=False, data=data, device="cpu")
    messages: set[str] = set()
    unreadable: dict[str, Source] = {name: UnreadableSource(source, name) for name, source in splits.items()}
    score = evaluate_finetuning(config, unreadable, rates=(0.1, 0.2), seeds=(0,), log=messages.add)
    assert messages == {f"the first image of {name} is unreadable" for name in splits}
    assert score.num_images == 110


def test_images_of_one_class_are_an_error(weights: Path, splits: dict[str, Source]) -> None:
    """The other class has a single image, which is unreadable."""
    data = replace(DATA, on_error="skip")
    config = finetune_config(weights, replace(QUICK, steps=3), fresh=False, data=data, device="cpu")
    labels = splits["train"].labels
    indices = np.concatenate([np.flatnonzero(labels == 0)[:1], np.flatnonzero(labels == 1)])
    ones = UnreadableSource(Subset(source=splits["train"], indices=indices), "train")
    with pytest.raises(ValueError, match="of one class"):
        finetune(config, ones)


def test_an_out_of_memory_error_says_what_to_change(
    weights: Path, splits: dict[str, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out_of_memory(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(Session, "train_step", run_out_of_memory)
    config = finetune_config(weights, QUICK, fresh=False, data=DATA, device="cpu")
    with pytest.raises(ValueError, match=r"32 images of 8x8 pixels.*--finetune light"):
        finetune(config, splits["train"])


class UnreadableSource:
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
            raise UnreadableImage(f"the first image of {self.title} is unreadable")
        return self.whole.stored(index)


def test_fresh_weights_have_the_same_architecture(weights: Path) -> None:
    pretrained, fresh = (
        finetune_config(weights, QUICK, fresh=fresh, data=DATA, device="cpu") for fresh in (False, True)
    )
    assert pretrained.model.weights == weights
    assert fresh.model.weights is None
    assert fresh.model.architecture == pretrained.model.architecture


def test_a_joined_source_has_the_images_of_both(splits: dict[str, Source]) -> None:
    both = ConcatSource(first=splits["train"], second=splits["val"])
    assert len(both) == 360
    assert both.labels.tolist() == [*splits["train"].labels, *splits["val"].labels]
    assert [both.name(number) for number in (299, 300, 359)] == ["digits[299]", "digits[300]", "digits[359]"]
    assert np.array_equal(np.asarray(both.stored(310)), np.asarray(splits["val"].stored(10)))


def test_a_part_of_a_file_is_fine_tuned(tmp_path: Path) -> None:
    tensors = upstream_state_dict(LINEAGES["timm"], small_model(image_size=16, gelu="quick"))[0]
    eye = {f"eye.{name}": tensor for name, tensor in tensors.items()} | {"text.weight": torch.zeros(2)}
    torch.save({"student": eye, "other": eye}, tmp_path / "x.pth")
    reading = dict(checkpoint_key="student", prefix="eye.", num_heads=3, gelu="quick")
    settings = dict(data=DATA, device="cpu", **reading)
    config = finetune_config(tmp_path / "x.pth", QUICK, fresh=False, **settings)
    assert config.model.reading == reading
    assert finetune_config(tmp_path / "x.pth", QUICK, fresh=True, **settings).model.reading == {}
    assert "x.pth" not in training_key(config)
