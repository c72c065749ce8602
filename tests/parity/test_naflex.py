"""timm's NaFlexViT, randomly initialised: the same weights give the same logits and gradients of padded sequences."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from torch import Tensor

from vitral.data.images.patch_rows import PLACE
from vitral.data.images.preprocess import Preprocessing
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

SIZES = [(40, 40), (90, 16), (12, 80), (33, 50), (200, 5)]
PREFIXES = {"embeds.": "patch_embed.", "attn_pool.": "pool.", "patch_embed.pos_embed": "pos_embed"}


def rows_of_images() -> Tensor:
    """Normalised rows of patches, with padding."""
    spec = Preprocessing(image_size=(20, 16), channels=3, resize="native_aspect", patch_size=(4, 4), max_patches=23)
    prng = np.random.default_rng(0)
    pictures = [Image.fromarray(prng.integers(0, 256, (height, width, 3), np.uint8)) for width, height in SIZES]
    return spec.normalise(torch.from_numpy(np.stack([spec.pixels(picture) for picture in pictures])))


def pair(pool: str, position: str) -> tuple[NaFlexVit, ViT]:
    """timm's model, and ours with its weights, for a grid of 5x4 patches."""
    torch.manual_seed(0)
    settings = NaFlexVitCfg(
        patch_size=4,
        embed_dim=24,
        depth=2,
        num_heads=3,
        mlp_ratio=2.0,
        pos_embed=position,
        pos_embed_grid_size=(5, 4),
        pos_embed_interp_mode="bilinear",
        pos_embed_antialias=False,
        pos_embed_align_corners=True,
        patchify_channels_last=False,
        global_pool=pool,
        fc_norm=False,
    )
    peer = NaFlexVit(settings, num_classes=5).eval()
    for parameter in peer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = ViT(
        ViTConfig(
            image_size=(20, 16),
            patch_size=4,
            width=24,
            depth=2,
            num_heads=3,
            mlp_dim=48,
            num_classes=5,
            gelu="erf",
            pool="gap" if pool == "avg" else pool,
            position={"none": "none", "learned": "learned_1d"}[position],
        )
    ).eval()
    ours.load_state_dict(converted(peer), strict=True)
    return peer, ours


def converted(peer: NaFlexVit) -> dict[str, Tensor]:
    state = {}
    for name, value in peer.state_dict().items():
        for before, after in PREFIXES.items():
            name = name.replace(before, after) if name.startswith(before) else name
        if name == "patch_embed.proj.weight":
            value = value.unflatten(1, (3, 4, 4))
        state[name] = value.flatten(1, 2) if name == "pos_embed" else value
    return state


@pytest.mark.parametrize("pool", ["avg", "map"])
@pytest.mark.parametrize("position", ["none", "learned"])
def test_padded_sequences_have_timms_logits_and_gradients(pool: str, position: str) -> None:
    peer, ours = pair(pool, position)
    rows = rows_of_images()
    exist = rows[:, :, 0] > 0
    places = (rows[:, :, :PLACE].long() - 1).clamp(min=0)
    expected = peer(rows[:, :, PLACE:], patch_coord=places, patch_valid=exist)
    torch.testing.assert_close(ours(rows), expected, rtol=1e-4, atol=1e-4)
    expected.square().sum().backward()
    ours(rows).square().sum().backward()
    wanted = peer.embeds.proj.weight.grad.unflatten(1, (3, 4, 4))
    torch.testing.assert_close(ours.patch_embed.proj.weight.grad, wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        ours.blocks[0].attn.qkv.weight.grad, peer.blocks[0].attn.qkv.weight.grad, rtol=1e-3, atol=1e-3
    )
