"""torchvision's `VisionTransformer` with random weights gives Vitral's logits and gradients."""

from collections.abc import Callable
from functools import partial

import torchvision

from parity.peers import rename_tensors
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

BLOCK = "encoder.layers.encoder_layer_*"
MODULES = {
    "patch_embed.proj": ("conv_proj",),
    "blocks.*.norm1": (f"{BLOCK}.ln_1",),
    "blocks.*.attn.qkv": (f"{BLOCK}.self_attention.in_proj",),
    "blocks.*.attn.proj": (f"{BLOCK}.self_attention.out_proj",),
    "blocks.*.norm2": (f"{BLOCK}.ln_2",),
    "blocks.*.mlp.fc1": (f"{BLOCK}.mlp.0",),
    "blocks.*.mlp.fc2": (f"{BLOCK}.mlp.3",),
    "norm": ("encoder.ln",),
    "head": ("heads.head",),
}
SINGLE = {"cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}


def test_small_models_are_equal(assert_same: Callable[..., None]) -> None:
    sizes = dict(image_size=16, patch_size=4, num_heads=4, mlp_dim=64, num_classes=7)
    model = ViT(ViTConfig(**sizes, width=32, depth=2, gelu="erf"))
    peer = torchvision.models.VisionTransformer(**sizes, hidden_dim=32, num_layers=2)
    assert_same(model.double(), peer, partial(rename_tensors, modules=MODULES, single=SINGLE), std=0.2, tol=1e-9)
