"""OpenAI's CLIP, with its names, and saved as it is released: traced, as TorchScript."""

import warnings
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["Clip", "traced"]


class QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 2 * width), "gelu": QuickGelu(), "c_proj": nn.Linear(2 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(Block(width, heads), Block(width, heads))

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 8, stride=8, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(64))
        self.positional_embedding = nn.Parameter(torch.randn(17, 64))
        self.ln_pre = nn.LayerNorm(64)
        self.transformer = Transformer(64, 1)
        self.ln_post = nn.LayerNorm(64)
        self.proj = nn.Parameter(torch.randn(64, 7))

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) + self.positional_embedding
        x = self.transformer(self.ln_pre(x).transpose(0, 1)).transpose(0, 1)
        return self.ln_post(x[:, 0]) @ self.proj


class Clip(nn.Module):
    """The image tower, and enough of the text tower to look like one."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = Tower()
        self.transformer = Transformer(64, 1)
        self.ln_final = nn.LayerNorm(64)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("input_resolution", torch.tensor(32))

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


def traced(model: nn.Module, folder: Path) -> Path:
    """`torch.jit.trace`, as OpenAI's files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 32, 32)), folder / "traced.pt")
    return folder / "traced.pt"
