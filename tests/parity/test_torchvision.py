"""A random `VisionTransformer` of torchvision and ours give the same logits and gradients."""

from collections.abc import Callable
from functools import partial

import torchvision

from parity.naming import renamed
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


def test_small_models_agree(assert_same: Callable[..., None]) -> None:
    sizes = dict(image_size=16, patch_size=4, num_heads=4, mlp_dim=64, num_classes=7)
    ours = ViT(ViTConfig(**sizes, width=32, depth=2, gelu="erf"))
    peer = torchvision.models.VisionTransformer(**sizes, hidden_dim=32, num_layers=2)
    assert_same(ours.double(), peer, partial(renamed, modules=MODULES, single=SINGLE), std=0.2, tol=1e-9)
