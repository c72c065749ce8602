"""The network of a page: logits, and the attention rollout up to each layer."""

from typing import TypeGuard

import torch
from torch import Tensor, nn

from vitral.inspection.attention import attention_weights
from vitral.models import Model
from vitral.vit import ViT

__all__ = ["WithRollout", "draws_attention"]


class WithRollout(nn.Module):
    """A Vision Transformer with its attention rollout as a second output.

    The forward pass and `attention_weights` share their operations in the exported graph, where equal nodes are merged.
    """

    def __init__(self, model: ViT) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (b classes), and the fraction of the rollout that each patch receives (b layers gh gw).

        Layer l of the second output is the rollout through blocks 0 to l, so the last one is that of the whole model.
        """
        mixed = [_mixed(weights) for weights in attention_weights(self.model, images)]
        tokens, queries = mixed[0].shape[-1], self.model.pool_tokens
        rows = torch.eye(tokens)[queries].mean(dim=0).expand(images.shape[0], 1, tokens)
        # from the last block down: a row vector through all matrices costs less than the product of the matrices
        result = rows @ mixed[-1]
        for matrix in reversed(mixed[:-1]):
            result = torch.cat([rows, result], dim=1) @ matrix
        grid = self.model.config.grid
        return self.model(images), result[:, :, tokens - grid[0] * grid[1] :].unflatten(2, grid)


def draws_attention(model: Model) -> TypeGuard[ViT]:
    """Whether a model has attention between all patches."""
    return isinstance(model, ViT) and model.config.attention == "global"


def _mixed(weights: Tensor) -> Tensor:
    """A block's matrix of the rollout: the mean of the heads, and the identity for the residual connection."""
    mixed = weights.mean(dim=1) + torch.eye(weights.shape[-1])
    return mixed / mixed.sum(dim=-1, keepdim=True)
