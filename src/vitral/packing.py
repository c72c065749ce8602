"""Images of any size and aspect side by side in sequences of one length (NaViT, arXiv 2307.06304).

A sequence holds the patches of several images. Patches attend to those of the same image only, and each image is pooled
separately, so the logits equal those of the images run one by one. Shapes depend on the chosen lengths, not on the
images, so a compiled model is compiled once.
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
from vitral.layers.pooling import AttentionPool
from vitral.layers.positions import PatchCoordinates
from vitral.vit import PatchEmbed, ViT

__all__ = ["Packed", "pack", "packed_logits"]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Patches of images in sequences. Unused places belong to image -1."""

    patches: Float[Tensor, "s t pixels"]
    """Pixels of each patch, channels first."""
    coordinates: PatchCoordinates
    """Row and column of each patch in its image."""
    image: Int[Tensor, "s t"]
    """Image of each patch: its index within the sequence."""
    location: Int[Tensor, "images 2"]
    """Sequence of each image, and its index within the sequence."""
    max_images: int
    """Maximum number of images in a sequence."""

    @property
    def fill_fraction(self) -> float:
        """Fraction of the places that hold a patch."""
        return (self.image >= 0).double().mean().item()


def pack(
    images: Sequence[Float[Tensor, "c _ _"]],
    *,
    patch_hw: tuple[int, int],
    length: int,
    max_images: int,
    num_sequences: int,
) -> Packed:
    """Packs images into sequences, largest first, each into the first sequence with room.

    Args:
        images: normalised float images, of any size that is divisible by the patch size.
        patch_hw: height and width of a patch.
        length: number of patches in a sequence.
        max_images: maximum number of images in a sequence.
        num_sequences: number of sequences.

    Raises:
        UserError: an image is not divisible by the patch size, or the images do not fit.
    """
    p, q = patch_hw
    if len({image.shape[0] for image in images}) != 1:
        raise UserError("pack needs at least one image, and the same number of channels in all images")
    for image in images:
        check_divisible((image.shape[1], image.shape[2]), patch_hw)
    cut = [rearrange(image, "c (gh p) (gw q) -> (gh gw) (c p q)", p=p, q=q) for image in images]
    patches = cut[0].new_zeros(num_sequences, length, cut[0].shape[1])
    full = partial(torch.full, dtype=torch.long, device=patches.device)
    index, grids = full((num_sequences, length, 2), 0), full((num_sequences, length, 2), 1)
    owner, location = full((num_sequences, length), -1), full((len(images), 2), 0)
    num_patches, num_images = [0] * num_sequences, [0] * num_sequences
    for number in sorted(range(len(images)), key=lambda number: -len(cut[number])):
        grid = (images[number].shape[1] // p, images[number].shape[2] // q)
        count = len(cut[number])
        with_room = (
            row for row in range(num_sequences) if num_patches[row] + count <= length and num_images[row] < max_images
        )
        if (row := next(with_room, None)) is None:
            raise UserError(
                f"{len(images)} images do not fit into {num_sequences} sequences of {length} patches and {max_images} "
                f"images: one of {count} patches is left over"
            )
        span = slice(num_patches[row], num_patches[row] + count)
        patches[row, span] = cut[number]
        index[row, span] = torch.cartesian_prod(*(torch.arange(size, device=patches.device) for size in grid))
        for axis in (0, 1):
            grids[row, span, axis] = grid[axis]
        owner[row, span] = num_images[row]
        location[number, 0], location[number, 1] = row, num_images[row]
        num_patches[row], num_images[row] = num_patches[row] + count, num_images[row] + 1
    coordinates = PatchCoordinates(index=index, grids=grids)
    return Packed(patches=patches, coordinates=coordinates, image=owner, location=location, max_images=max_images)


def packed_logits(model: ViT, packed: Packed) -> Float[Tensor, "images classes"]:
    """Logits of each packed image, in the order given to `pack`.

    Raises:
        UserError: the model has prefix tokens, or its positions or patches need whole images, or other patches were
            packed than it takes.
    """
    _check(model)
    assert isinstance(model.patch_embed, PatchEmbed)
    proj = model.patch_embed.proj
    if packed.patches.shape[2] != proj.weight[0].numel():
        raise UserError("the images were packed with another patch size, or other channels, than the model has")
    stem, positions = model.positions.at_coordinates(model.pos_embed, packed.coordinates)
    patches = F.linear(packed.patches, proj.weight.flatten(1), proj.bias)
    x = model.norm_pre(model.pos_drop(stem.add(patches))).to(patches.dtype)
    same_image = rearrange(packed.image, "s t -> s 1 t 1") == rearrange(packed.image, "s t -> s 1 1 t")
    for block, pos in zip(model.blocks, positions, strict=True):
        x = block(x, replace(pos, mask=same_image))
    members = packed.image[:, None, :] == torch.arange(packed.max_images, device=x.device)[:, None]
    pooled = _pool(model, model.norm(x), members)
    return model.classify(model.fc_norm(pooled[packed.location[:, 0], packed.location[:, 1]]))


def _pool(model: ViT, x: Float[Tensor, "s t d"], members: Bool[Tensor, "s m t"]) -> Float[Tensor, "s m d"]:
    """The representation of each image of a sequence; arbitrary for an image that does not exist."""
    if isinstance(model.pool, AttentionPool):
        return model.pool.pool_sets(x, members | ~members.any(dim=-1, keepdim=True))
    return members.to(x) @ x / members.sum(dim=-1, keepdim=True).clamp(min=1)


def _check(model: ViT) -> None:
    config = model.config
    if config.pool not in ("gap", "map") or config.num_registers:
        raise UserError("packed images have no prefix tokens: the model needs pool gap or map, and no registers")
    if model.training and (config.patch_dropout or config.drop_path):
        raise UserError("patch_dropout and drop_path drop whole images, not sequences of several: set both to 0")
    config.check_separate_patches(training=False)
