"""transformers' masked image modelling with random weights gives SimMIM's loss and gradients."""

from typing import Any

import torch
import transformers
from torch import Tensor

from parity.peers import rename_tensors
from parity.test_transformers import ACTIVATIONS, MODULES, SINGLE, TINY
from tiny import all_readable, keys
from vitral.data.images.preprocess import Preprocessing
from vitral.objectives.masked_patch import MaskedPatchConfig, MaskedPatchLearner, corrupted
from vitral.recipes.masked_patch import SIMMIM
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

GRID = (4, 4)


def learner_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The peer's tensors under the learner's names; its prediction is a convolution of one pixel."""
    tensors = dict(tensors)
    parts = {
        "mask_token": tensors.pop("vit.embeddings.mask_token").flatten(),
        "predict.weight": tensors.pop("decoder.0.weight").flatten(1),
        "predict.bias": tensors.pop("decoder.0.bias"),
    }
    modules = {name: peers for name, peers in MODULES.items() if name != "head"}
    encoder = rename_tensors(tensors, modules=modules, single=SINGLE)
    return parts | {f"encoder.{name}": tensor for name, tensor in encoder.items()}


def test_the_loss_and_its_gradients_are_equal() -> None:
    torch.manual_seed(0)
    config = ViTConfig(**TINY, gelu="erf")
    settings: dict[str, Any] = dict(
        image_size=16, patch_size=4, encoder_stride=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    )
    peer = transformers.ViTForMaskedImageModeling(
        transformers.ViTConfig(**settings, intermediate_size=64, hidden_act=ACTIVATIONS["erf"], layer_norm_eps=1e-6)
    ).double()
    for weight in peer.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    preprocessing = Preprocessing(image_size=(16, 16), channels=3)
    model = MaskedPatchLearner(ViT(config), MaskedPatchConfig(**SIMMIM, mask_unit=2), preprocessing).double()
    unused = model.load_state_dict(learner_names(peer.state_dict()), strict=False)
    assert not unused.unexpected_keys
    assert {name.split(".")[1] for name in unused.missing_keys} == {"head"}

    images = torch.rand(3, 3, 16, 16, dtype=torch.float64) * 2 - 1
    mask = torch.zeros(3, 16, dtype=torch.bool).scatter(1, corrupted(model.config, keys(3), grid=GRID), True)
    expected = peer(images, bool_masked_pos=mask).loss
    actual = model(images, keys(3), all_readable(images))["loss"].mean()
    expected.backward()
    actual.backward()
    # the learner predicts in float32, and the peer adds 1e-5 to the number of masked pixels
    torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=0)
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    theirs = {name: weight.grad for name, weight in peer.named_parameters() if weight.grad is not None}
    for name, gradient in learner_names(theirs).items():
        torch.testing.assert_close(gradients.pop(name), gradient, rtol=1e-4, atol=1e-7)
    assert not gradients
