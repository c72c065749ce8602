"""A new task begins with the trained body, and a head of its own."""

from dataclasses import replace

import pytest
import torch

from models import SMALL, small_model
from vitral.vit import ViT
from vitral.weights.positions import resample_positions
from vitral.weights.transfer import transfer


def body(model: ViT) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(("head.", "pre_"))}


def test_other_classes_get_a_zero_head_on_the_same_body() -> None:
    source, target = small_model(), ViT(replace(SMALL, num_classes=2))
    assert transfer(source, target, classes=("a", "b")) == ["new zero head for 2 classes"]
    assert all(torch.equal(tensor, body(source)[name]) for name, tensor in body(target).items())
    assert target(torch.rand(1, 3, 16, 24)).tolist() == [[0, 0]]


def test_the_same_classes_keep_the_head() -> None:
    source, target = small_model(), ViT(SMALL)
    assert transfer(source, target, classes=source.card.classes) == []
    images = torch.rand(2, 3, 16, 24)
    assert torch.equal(target.eval()(images), source(images))


def test_as_many_other_classes_lose_the_head() -> None:
    target = ViT(SMALL)
    transfer(small_model(), target, classes=("a", "b", "c"))
    assert not target.head.weight.any()


def test_the_representation_layer_goes_with_the_head() -> None:
    source, target = small_model(representation_size=5), ViT(SMALL)
    assert transfer(source, target, classes=source.card.classes) == ["new zero head for 3 classes"]
    assert not target.head.weight.any()


def test_another_resolution_interpolates_positions() -> None:
    source, target = small_model(), ViT(replace(SMALL, image_size=(32, 32)))
    assert transfer(source, target, classes=source.card.classes) == ["positions interpolated from 2x3 to 4x4 patches"]
    expected = resample_positions(source.pos_embed, source=(2, 3), target=(4, 4))
    assert torch.equal(target.pos_embed, expected)


@pytest.mark.parametrize(("part", "value"), [("num_heads", 4), ("gelu", "erf"), ("depth", 3), ("patch_size", 4)])
def test_another_architecture_is_refused_by_name(part: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"another architecture: its {part} is .*, not {value}"):
        transfer(small_model(), ViT(replace(SMALL, **{part: value})), classes=("a", "b", "c"))
