"""Images of any size and aspect side by side in sequences of one length (NaViT, arXiv 2307.06304).

A sequence holds the patches of several images; each sees those of its own image only, and each image is pooled by
itself, so that the logits are those of the images run one by one. Shapes depend on the lengths chosen, not on the
images: a compiled model is compiled once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitral.config import check_divisible
from vitral.errors import UserError
from vitral.layers.places import Attend, Spots
from vitral.layers.pooling import AttentionPool
from vitral.vit import PatchEmbed, ViT

__all__ = ["Packed", "pack", "packed_logits"]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Images cut into patches and laid into sequences; what is empty belongs to image -1."""

    patches: Float[Tensor, "s t pixels"]
    """Pixels of each patch, channels first."""
    spots: Spots
    """Where each patch lies in its image."""
    image: Int[Tensor, "s t"]
    """Which of its sequence's images each patch belongs to."""
    where: Int[Tensor, "images 2"]
    """Sequence of each image, and its number there."""
    most: int
    """Images that a sequence holds at most."""

    @property
    def filled(self) -> float:
        """Share of the sequences that patches take."""
        return (self.image >= 0).double().mean().item()


def pack(
    images: Sequence[Float[Tensor, "c _ _"]], *, patch_hw: tuple[int, int], length: int, most: int, sequences: int
) -> Packed:
    """Lays images into sequences, the largest first, each into the first that has room.

    Args:
        images: float images in the model's range, of any size that patches divide.
        patch_hw: height and width of a patch.
        length: patches of a sequence.
        most: images of a sequence at most.
        sequences: how many there are.

    Raises:
        UserError: an image is not divisible, or the images do not fit.
    """
    p, q = patch_hw
    if len({image.shape[0] for image in images}) != 1:
        raise UserError("pack takes at least one image, and all of the same channels")
    for image in images:
        check_divisible((image.shape[1], image.shape[2]), patch_hw)
    cut = [rearrange(image, "c (gh p) (gw q) -> (gh gw) (c p q)", p=p, q=q) for image in images]
    patches = cut[0].new_zeros(sequences, length, cut[0].shape[1])
    whole = partial(torch.full, dtype=torch.long, device=patches.device)
    at, grids = whole((sequences, length, 2), 0), whole((sequences, length, 2), 1)
    owner, where = whole((sequences, length), -1), whole((len(images), 2), 0)
    used, held = [0] * sequences, [0] * sequences
    for index in sorted(range(len(images)), key=lambda index: -len(cut[index])):
        grid = (images[index].shape[1] // p, images[index].shape[2] // q)
        count = len(cut[index])
        free = (row for row in range(sequences) if used[row] + count <= length and held[row] < most)
        if (row := next(free, None)) is None:
            raise UserError(
                f"{len(images)} images do not fit into {sequences} sequences of {length} patches and {most} images: "
                f"one of {count} patches is left over"
            )
        span = slice(used[row], used[row] + count)
        patches[row, span] = cut[index]
        rows, columns = (torch.arange(axis, device=patches.device) for axis in grid)
        at[row, span] = torch.cartesian_prod(rows, columns)
        for axis in (0, 1):
            grids[row, span, axis] = grid[axis]
        owner[row, span] = held[row]
        where[index, 0], where[index, 1] = row, held[row]
        used[row], held[row] = used[row] + count, held[row] + 1
    return Packed(patches=patches, spots=Spots(at=at, grids=grids), image=owner, where=where, most=most)


def packed_logits(model: ViT, packed: Packed) -> Float[Tensor, "images classes"]:
    """Logits of each packed image, in the order they were given.

    Raises:
        UserError: the model has tokens that belong to no patch, or positions or patches that need a whole grid.
    """
    _check(model)
    assert isinstance(model.patch_embed, PatchEmbed)
    proj = model.patch_embed.proj
    if packed.patches.shape[2] != proj.weight[0].numel():
        raise UserError("the images were packed with another patch size, or other channels, than the model has")
    layout = model.positions.scattered(model.pos_embed, packed.spots)
    x = model.pos_drop(layout.stem(F.linear(packed.patches, proj.weight.flatten(1), proj.bias)))
    together = rearrange(packed.image, "s t -> s t 1") == rearrange(packed.image, "s t -> s 1 t")
    for block, place in zip(model.blocks, layout.places, strict=True):
        x = block(place.enter(x), replace(place, attend=_within(place.attend, together)))
    own = packed.image[:, None, :] == torch.arange(packed.most, device=x.device)[:, None]
    pooled = _pooled(model, model.norm(x), own)
    return model.classify(pooled[packed.where[:, 0], packed.where[:, 1]])


def _within(attend: Attend, together: Bool[Tensor, "s t t"]) -> Attend:
    """The same attention, among patches of one image."""

    def masked(q: Tensor, k: Tensor, read: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        q, k, bias = attend(q, k, read)
        assert bias is None, "a kind of positions that biases attention needs a whole grid"
        return q, k, together[:, None, read]

    return masked


def _pooled(model: ViT, x: Float[Tensor, "s t d"], own: Bool[Tensor, "s most t"]) -> Float[Tensor, "s most d"]:
    """The representation of each image; of one that is not there, anything."""
    if isinstance(model.pool, AttentionPool):
        return model.pool.gather(x, own | ~own.any(dim=-1, keepdim=True))
    return own.to(x) @ x / own.sum(dim=-1, keepdim=True).clamp(min=1)


def _check(model: ViT) -> None:
    config = model.config
    if config.pool not in ("gap", "map") or config.num_registers:
        raise UserError("packed images are pooled patch by patch: the model needs pool gap or map, and no registers")
    if model.training and (config.patch_dropout or config.drop_path):
        raise UserError("patch_dropout and drop_path pick whole images, which packed sequences do not hold")
    if config.attention != "global" or config.stem_stages is not None:
        raise UserError("axial attention and a hybrid's ResNet need whole images, which packing takes apart")
