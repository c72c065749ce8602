"""Patch tokens as pictures: their principal components as colours, and their norms."""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import PCA
from torch import Tensor

__all__ = ["token_colours", "token_norms"]


def token_colours(patches: Float[Tensor, "b n d"]) -> Float[np.ndarray, "b n 3"]:
    """The first three principal components of patch tokens as red, green and blue in 0..1.

    The components are those of all images together, so that equal colours mean similar tokens. Each is stretched
    between its 1st and 99th percentile. Where tokens differ in fewer than three directions, the other colours are 0.5.
    """
    flat = patches.flatten(0, 1).cpu().double().numpy()
    colours = np.full((len(flat), 3), 0.5)
    if not np.ptp(flat, axis=0).any():  # scikit-learn would divide by the variance
        return colours.reshape(*patches.shape[:2], 3)
    count = min(3, *flat.shape)
    scores = PCA(n_components=count, svd_solver="full").fit_transform(flat)
    low, high = np.percentile(scores, [1, 99], axis=0)
    spread = high - low
    is_flat = spread <= 1e-9 * float(np.abs(flat).max())
    unit = np.where(is_flat, 0.5, (scores - low) / np.where(is_flat, 1, spread)).clip(0, 1)
    colours[:, :count] = unit
    return colours.reshape(*patches.shape[:2], 3)


def token_norms(tokens: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
    """The Euclidean norm of each token.

    Large models give a few patches of plain background norms far above the rest, which registers prevent
    (arXiv 2309.16588). Measure it before the final norm, which would hide it.
    """
    return torch.linalg.vector_norm(tokens.float(), dim=-1)
