"""What a model learned before its first block: filters of the patch embedding, and similarity of positions."""

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from sklearn.decomposition import PCA
from torch import Tensor

from vitral.device import precise_dtype
from vitral.errors import UserError
from vitral.vit import PatchEmbed, ViT

__all__ = ["NUM_FILTERS", "filter_components", "position_similarity"]

NUM_FILTERS = 28
"""Components in the paper's Figure 7."""


def filter_components(model: ViT, *, count: int = NUM_FILTERS) -> Float[np.ndarray, "k p q c"]:
    """Principal components of the filters that embed patches, the first explaining most of their variance (Figure 7).

    There are fewer than `count` if filters have fewer values, or there are fewer filters.

    Raises:
        UserError: the model is a hybrid, whose patches are a ResNet's features instead of pixels.
    """
    if not isinstance(model.patch_embed, PatchEmbed):
        raise UserError("this model is a hybrid: it embeds a ResNet's features, so it has no filters of pixels to draw")
    weight = model.patch_embed.proj.weight.detach().cpu().double()
    filters = weight.flatten(1).numpy()
    pca = PCA(n_components=min(count, *filters.shape), svd_solver="full").fit(filters)
    _, c, p, q = weight.shape
    return rearrange(np.asarray(pca.components_), "k (c p q) -> k p q c", c=c, p=p, q=q)


@torch.no_grad()
def position_similarity(model: ViT) -> Float[Tensor, "n n"]:
    """Cosine similarity between the vectors that the first block's input gets at each patch's position (Figure 7).

    Patches are in raster order; the diagonal is 1.

    Raises:
        UserError: the model adds no vectors at positions.
    """
    config = model.config
    if config.position in ("none", "relative", "rope"):
        reason = "without positions" if config.position == "none" else f"{config.position} positions act in attention"
        raise UserError(f"this model adds no position embedding to its tokens ({reason}), so there is none to compare")
    grid = config.grid
    state, _ = model.positions.at_grid(model.pos_embed, grid)
    zeros = torch.zeros(1, config.num_prefix_tokens + grid[0] * grid[1], config.width, device=model.pos_embed.device)
    vectors = F.normalize(state.add(zeros)[0, config.num_prefix_tokens :].to(precise_dtype(zeros.device)), dim=1)
    return vectors @ vectors.T
