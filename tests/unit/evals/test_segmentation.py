"""The linear segmentation head: its solution against a direct solve, its metrics by hand, its memory, real features."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch.utils._python_dispatch import TorchDispatchMode

from vitral.data.images.masks import UNLABELLED
from vitral.evals.segmentation import Segmentation, fit_segmentation, patch_class_fractions, segmentation
from vitral.vit import ViT
from vitral.vit_config import ViTConfig


def test_intersection_over_union_by_hand() -> None:
    result = Segmentation(num_images=1, confusion=torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert result.iou[:2].tolist() == pytest.approx([6 / 9, 3 / 6], abs=1e-12)
    assert result.iou[2].isnan()
    assert result.mean_iou == pytest.approx((6 / 9 + 3 / 6) / 2, abs=1e-12)
    assert result.accuracy == pytest.approx(9 / 12)


def test_streamed_sums_give_the_direct_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(6, 2, 3, 5, generator=generator)
    masks = torch.randint(3, (6, 4, 6), generator=generator)
    head = fit_segmentation(zip(patches.split(2), masks.split(2), strict=True), num_classes=3, strength=0.1)
    tokens = rearrange(patches.double(), "b gh gw d -> (b gh gw) d")
    fractions = torch.stack(
        [rearrange((masks == k).double(), "b (gh p) (gw q) -> (b gh gw) (p q)", p=2, q=2).mean(1) for k in range(3)], 1
    )
    # ridge regression is least squares with extra rows; columns are centred, so that the bias is not regularised
    rows = (0.1 * tokens.square().sum(0).mean()).sqrt() * torch.eye(5, dtype=torch.float64)
    system = torch.cat([tokens - tokens.mean(0), rows])
    targets = torch.cat([fractions - fractions.mean(0), torch.zeros(5, 3, dtype=torch.float64)])
    direct = torch.linalg.lstsq(system, targets).solution
    torch.testing.assert_close(head.weight, direct, rtol=0, atol=1e-9)
    torch.testing.assert_close(head.bias, fractions.mean(0) - tokens.mean(0) @ direct, rtol=0, atol=1e-9)


def test_unlabelled_pixels_are_left_out() -> None:
    patches = torch.tensor([1.0, -1.0, 9.0]).reshape(1, 1, 3, 1)
    masks = repeat(torch.tensor([0, 1, 255]), "w -> 1 2 (w 2)")
    head = fit_segmentation([(patches, masks)], num_classes=2, strength=0.0)
    same = fit_segmentation([(patches[:, :, :2], masks[:, :, :4])], num_classes=2, strength=0.0)
    torch.testing.assert_close(head.weight, same.weight)
    result = segmentation(head, [(patches, masks)], num_classes=2)
    assert result.confusion.sum() == 8
    with pytest.raises(ValueError, match="no pixel of the masks has a class"):
        fit_segmentation([(patches, torch.full_like(masks, 255))], num_classes=2)
    with pytest.raises(ValueError, match="no pixel of the masks has a class"):
        segmentation(head, [], num_classes=2)


@pytest.mark.parametrize("num_classes", [2, 17, 150])
def test_fractions_equal_the_mean_of_one_hot_masks(num_classes: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    masks = torch.randint(num_classes, (3, 24, 36), generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < 0.2] = UNLABELLED
    one_hot = F.one_hot(masks.where(masks != UNLABELLED, num_classes), num_classes + 1)[..., :num_classes].double()
    pixels = rearrange(one_hot, "b (gh ph) (gw pw) classes -> (b gh gw) (ph pw) classes", gh=4, gw=3)
    assert torch.equal(patch_class_fractions(masks, (4, 3), num_classes=num_classes), pixels.mean(1))


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.nbytes = max(self.nbytes, tensor.nbytes)
        return result


def test_memory_does_not_grow_with_classes_times_pixels() -> None:
    """One-hot masks of 8 images with 150 classes would take 480 MB, and the scores of all their pixels as much."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(150, (8, 224, 224), generator=generator)
    patches = torch.randn(8, 14, 14, 4, generator=generator)
    with LargestTensor() as fitting:
        head = fit_segmentation([(patches, masks)], num_classes=150)
    assert fitting.nbytes < 5e6
    with LargestTensor() as evaluating:
        result = segmentation(head, [(patches, masks)], num_classes=150)
    assert evaluating.nbytes <= 150 * 224 * 224 * 8
    assert result.confusion.sum() == masks.numel()


def draw_squares(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy grey images of 32x32 pixels with a bright square and a dark one, and their exact masks."""
    generator = torch.Generator().manual_seed(seed)
    images, masks = torch.randn(count, 1, 32, 32, generator=generator) * 0.1, torch.zeros(count, 32, 32).long()
    for index in range(count):
        for label, shade in ((1, 0.9), (2, -0.9)):
            top, left = torch.randint(20, (2,), generator=generator).tolist()
            masks[index, top : top + 12, left : left + 12] = label
            images[index, 0, top : top + 12, left : left + 12] += shade
            images[index, 0, top : top + 12, left : left + 12].clamp_(-1.2, 1.2)
    return images, masks


def test_features_of_random_weights_beat_the_most_frequent_class() -> None:
    torch.manual_seed(0)
    model = ViT(ViTConfig(image_size=32, patch_size=4, channels=1, width=48, depth=2, num_heads=4, mlp_dim=96)).eval()

    def batches(count: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        images, masks = draw_squares(count, seed)
        with torch.no_grad():
            patches = model.features(images).patches
        return [(rearrange(patches, "b (gh gw) d -> b gh gw d", gh=8), masks)]

    head = fit_segmentation(batches(60, 0), num_classes=3)
    ((_, masks),) = batches(20, 1)
    result = segmentation(head, batches(20, 1), num_classes=3)
    constant = (masks == 0).double().mean().item() / 3
    assert result.num_images == 20
    assert result.mean_iou > 0.6 > 2 * constant
    assert result.accuracy > 0.8
