"""Relevance of each patch for one class: the attention of all blocks, weighted by its gradient."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.inspection.attention import attention_over_image, block_with_weights, check_global
from vitral.vit import ViT

__all__ = ["class_relevance"]


def class_relevance(
    model: ViT, image: Float[Tensor, "1 c h w"], outputs: Sequence[int]
) -> Float[Tensor, "k {model.config.grid[0]} {model.config.grid[1]}"]:
    """What each patch contributes to single outputs of the head (Chefer et al., arXiv 2103.15679).

    In each block the weights are multiplied by the gradient of the output with respect to them, negative products
    become 0, heads are averaged, and the result is added to the identity. Then the matrices of all blocks are
    multiplied. Attention rollout is the same for every class; this is not.

    Args:
        model: the model, in evaluation mode.
        image: normalised, as for its `forward`.
        outputs: indices of the outputs.

    Raises:
        UserError: attention is axial, not among all tokens.
    """
    check_global(model)
    weights = []
    with torch.enable_grad():
        x, positions = model.embed(image)
        for block, pos in zip(model.blocks, positions, strict=True):
            x, attention = block_with_weights(block, x, pos, track=True)
            weights.append(attention)
        logits = model.classify(model.fc_norm(model.pool(model.norm(x[:, model.pool_tokens]))))[0]
        gradients = [torch.autograd.grad(logits[index], weights, retain_graph=True) for index in outputs]
    identity = torch.eye(x.shape[1], device=x.device)
    maps = []
    for layers in gradients:
        relevance = identity
        for attention, gradient in zip(weights, layers, strict=True):
            relevance = relevance + (attention * gradient)[0].detach().clamp(min=0).mean(dim=0) @ relevance
        # without the identity, which would count every pooled patch once
        maps.append(
            attention_over_image((relevance - identity)[None], grid=model.config.grid, queries=model.pool_tokens)
        )
    return torch.cat(maps)
