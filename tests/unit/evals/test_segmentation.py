"""A linear head on patch tokens: its sums against a direct solve, its figures by hand, and on drawn images."""

import pytest
import torch
from einops import rearrange, repeat

from vitral.evals.segmentation import Segmentation, fit_segmentation, segmentation
from vitral.vit import ViT
from vitral.vit_config import ViTConfig


def test_intersection_over_union_by_hand() -> None:
    found = Segmentation(num_images=1, confusion=torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]]))
    assert found.iou[:2].tolist() == pytest.approx([6 / 9, 3 / 6], abs=1e-12)
    assert found.iou[2].isnan()
    assert found.mean_iou == pytest.approx((6 / 9 + 3 / 6) / 2, abs=1e-12)
    assert found.accuracy == pytest.approx(9 / 12)


def test_sums_give_the_direct_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(6, 2, 3, 5, generator=generator)
    masks = torch.randint(3, (6, 4, 6), generator=generator)
    head = fit_segmentation(zip(patches.split(2), masks.split(2), strict=True), num_classes=3, strength=0.1)
    tokens = rearrange(patches.double(), "b gh gw d -> (b gh gw) d")
    shares = torch.stack(
        [rearrange((masks == k).double(), "b (gh p) (gw q) -> (b gh gw) (p q)", p=2, q=2).mean(1) for k in range(3)], 1
    )
    # a ridge is least squares with rows of its own; columns centred, so that the bias stays free
    rows = (0.1 * tokens.square().sum(0).mean()).sqrt() * torch.eye(5, dtype=torch.float64)
    system = torch.cat([tokens - tokens.mean(0), rows])
    answer = torch.cat([shares - shares.mean(0), torch.zeros(5, 3, dtype=torch.float64)])
    direct = torch.linalg.lstsq(system, answer).solution
    torch.testing.assert_close(head.weight, direct, rtol=0, atol=1e-9)
    torch.testing.assert_close(head.bias, shares.mean(0) - tokens.mean(0) @ direct, rtol=0, atol=1e-9)


def test_pixels_without_a_class_count_nowhere() -> None:
    patches = torch.tensor([1.0, -1.0, 9.0]).reshape(1, 1, 3, 1)
    masks = repeat(torch.tensor([0, 1, 255]), "w -> 1 2 (w 2)")
    head = fit_segmentation([(patches, masks)], num_classes=2, strength=0.0)
    same = fit_segmentation([(patches[:, :, :2], masks[:, :, :4])], num_classes=2, strength=0.0)
    torch.testing.assert_close(head.weight, same.weight)
    found = segmentation(head, [(patches, masks)], num_classes=2)
    assert found.confusion.sum() == 8
    with pytest.raises(ValueError, match="no pixel of the masks has a class"):
        fit_segmentation([(patches, torch.full_like(masks, 255))], num_classes=2)
    with pytest.raises(ValueError, match="no pixel of the masks has a class"):
        segmentation(head, [], num_classes=2)


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
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
        images, masks = drawn(count, seed)
        with torch.no_grad():
            patches = model.features(images).patches
        return [(rearrange(patches, "b (gh gw) d -> b gh gw d", gh=8), masks)]

    head = fit_segmentation(batches(60, 0), num_classes=3)
    ((_, masks),) = batches(20, 1)
    found = segmentation(head, batches(20, 1), num_classes=3)
    constant = (masks == 0).double().mean().item() / 3
    assert found.num_images == 20
    assert found.mean_iou > 0.6 > 2 * constant
    assert found.accuracy > 0.8
