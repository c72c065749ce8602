"""The grid of linear probes: validation images select features and learning rate, test images nothing."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.evals.features import FeatureSet
from vitral.evals.linear_grid import linear_grid
from vitral.models import create
from vitral.serve.predictor import Predictor
from vitral.suites.extractors import grid_variants
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

TINY = ViTConfig(image_size=8, patch_size=4, width=6, depth=5, num_heads=2, mlp_dim=12, num_classes=3)


def features(count: int, seed: int) -> FeatureSet:
    """Four columns of noise, then three that say the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    informative = 3 * F.one_hot(labels, 3) + torch.randn(count, 3, generator=generator)
    columns = torch.cat([torch.randn(count, 4, generator=generator), informative], 1)
    return FeatureSet(features=columns, labels=labels, readable=torch.ones(count, dtype=torch.bool))


VARIANTS = {"noise": (slice(0, 4),), "class": (slice(4, 7),)}


def test_the_best_features_on_validation_images_classify_the_test_images() -> None:
    train, val, test = features(90, 0), features(60, 1), features(120, 2)
    result = linear_grid(train, val, test, variants=VARIANTS, num_classes=3)
    assert list(result.accuracies) == ["noise", "class"]
    assert max(result.accuracies["noise"].values()) < 0.6 < 0.9 < max(result.accuracies["class"].values())
    assert (result.predictions == test.labels).double().mean() > 0.9

    misleading = replace(val, features=val.features.roll(1, dims=0))
    other = linear_grid(train, misleading, test, variants=VARIANTS, num_classes=3)
    assert max(other.accuracies["class"].values()) < 0.2, "the classes of the neighbours"
    assert (other.predictions == test.labels).double().mean() < 0.6, "the noise was selected"


def test_test_labels_select_nothing() -> None:
    train, val, test = features(90, 0), features(60, 1), features(60, 2)
    relabelled = replace(test, labels=test.labels.roll(1))
    first, second = (linear_grid(train, val, images, variants=VARIANTS, num_classes=3) for images in (test, relabelled))
    assert first.accuracies == second.accuracies
    assert torch.equal(first.predictions, second.predictions)


@pytest.mark.parametrize("config", [TINY, replace(TINY, pool="gap"), replace(TINY, pool="gap", pooled_norm=True)])
def test_features_are_those_of_the_last_blocks(config: ViTConfig) -> None:
    torch.manual_seed(0)
    model = ViT(config)
    preprocessing = Preprocessing(image_size=(8, 8), channels=3)
    model.card = ModelCard(classes=tuple("abc"), preprocessing=preprocessing)
    images = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    wide = Predictor(model, device=torch.device("cpu")).extract_blocks(images, count=4)

    def pooled(block: int, tokens: slice) -> torch.Tensor:
        return model.fc_norm(model.norm(landmarks[f"blocks.{block}"])[:, tokens].mean(1))

    with torch.no_grad():
        landmarks = model.features(preprocessing.normalise(images)).landmarks
        prefix = config.num_prefix_tokens
        tokens = {"class token": [pooled(block, slice(1)) for block in (1, 2, 3, 4)]} if prefix else {}
        tokens["mean patch"] = [pooled(block, slice(prefix, None)) for block in (1, 2, 3, 4)]
    expected = {f"{part}, last block": each[-1:] for part, each in tokens.items()}
    expected |= {f"{part}, last 4 blocks": each for part, each in tokens.items()}
    if prefix:
        for where, count in (("last block", 1), ("last 4 blocks", 4)):
            expected[f"both, {where}"] = [*tokens["class token"][-count:], tokens["mean patch"][-1]]
    variants = grid_variants(model)
    assert variants.keys() == expected.keys()
    for name, columns in variants.items():
        actual = torch.cat([wide[:, column] for column in columns], 1)
        torch.testing.assert_close(actual, torch.cat(expected[name], 1), msg=name)


def test_a_shallow_model_has_fewer_blocks_and_a_resnet_none() -> None:
    assert list(grid_variants(ViT(replace(TINY, depth=1, pool="gap")))) == ["mean patch, last block"]
    assert "mean patch, last 2 blocks" in grid_variants(ViT(replace(TINY, depth=2)))
    with pytest.raises(UserError, match="this is a ResNet"):
        grid_variants(create("BiT-R50x1", image_size=32, stages=(1,), root_width=32))
