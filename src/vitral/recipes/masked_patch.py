"""Masked patch prediction: the paper's self-supervised pre-training, a version that takes minutes, and SimMIM."""

from dataclasses import replace
from typing import Any

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.models import architecture
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.recipes.images import IMAGENET, WORKERS, augment, centre_crop
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig

__all__ = ["SIMMIM", "fashion_mnist_masked_patch", "masked_patch", "simmim"]

SIMMIM: dict[str, Any] = dict(target="pixels_l1", corrupted_fraction=0.6, masked=1.0, replaced=0.0)
"""SimMIM's corruption and loss, apart from the size of what is masked together."""

MASK_PIXELS = 32
"""Height and width of what SimMIM masks together."""


def masked_patch(model: str = "ViT-B/16") -> RunConfig:
    """The paper's self-supervised pre-training on images without labels (section 4.6 and appendix B.1.2).

    Half of the patches are corrupted, and the model predicts their mean colours. Adam, batch 4096, a million steps;
    the learning rate reaches 2e-4 after 10,000 steps of warm-up and decays to 0 along a cosine; crops and flips. The
    paper does not state the weight decay; 0.1 is that of its supervised pre-training. `--objective.target` selects one
    of the paper's two other targets.

    With fewer than 20,000 images in `--data.root`, and without `--model.name`, the settings are for one machine
    instead: a ViT of 2 million parameters at 128 pixels, batches of 64, and as many steps as fit into `--minutes`.

    Command: vitral train masked-patch --data.root photos
    Expect: on JFT, then fine-tuned, B/16 79.9 % on ImageNet (one run), 2 points above from scratch; not run here
    Time: 12.6 days of an H100, estimated by `vitral plan ViT-B/16 --data 4096000000 --epochs 1`; a tenth of the
        steps gains nearly as much
    Source: arXiv 2010.11929, section 4.6 and appendix B.1.2

    Args:
        model: such as ViT-S/16.
    """
    return RunConfig(
        recipe="masked-patch",
        model=ModelSetup(architecture=architecture(model)),
        data=DataConfig(source="images", workers=WORKERS),
        preprocessing=centre_crop(),
        augment=augment(),
        objective=MaskedPatchConfig(),
        optim=OptimConfig(name="adamw", lr=2e-4, weight_decay=0.1, betas=(0.9, 0.999), clip=None),
        schedule=ScheduleConfig(decay="cosine", warmup="10000steps"),
        train=TrainConfig(batch_size=4096, steps=1_000_000, evaluate="1percent", log="50steps"),
    )


def simmim(model: str = "ViT-B/16") -> RunConfig:
    """SimMIM's pre-training on images without labels (arXiv 2111.09886), as its authors configure ViT-B.

    Six tenths of the image are masked in squares of 32 pixels, and a linear layer predicts their pixels, with the mean
    absolute error as loss. AdamW with a learning rate of 1e-4 for each 512 images, batch 2048, 10 epochs of warm-up, a
    tenth of the rate after 700 epochs; only crops and flips. The authors' ViT has a relative position bias that all
    layers share; this one has learned positions. Fine-tune with `finetune`.

    With fewer than 20,000 images in `--data.root`, and without `--model.name`, the settings are for one machine
    instead: a ViT of 2 million parameters at 128 pixels, batches of 64, and as many steps as fit into `--minutes`.

    Command: vitral train simmim --data.root photos
    Expect: 800 epochs on ImageNet, then fine-tuned, B/16 83.8 % (no spread given); not run here
    Time: the 3.2 days of an H100 that `vitral plan ViT-B/16 --epochs 800` estimates
    Source: arXiv 2111.09886; configuration and accuracy of the authors' code for ViT-B

    Args:
        model: such as ViT-L/16.
    """
    vit = architecture(model, pool="gap", gelu="erf", layer_scale=0.1, drop_path=0.1)
    assert isinstance(vit, ViTConfig)  # a ResNet has no layer_scale
    return RunConfig(
        recipe="simmim",
        model=ModelSetup(architecture=vit),
        data=DataConfig(source="images", workers=WORKERS),
        preprocessing=centre_crop(interpolation="bicubic", **IMAGENET),
        augment=AugmentConfig(crop="inception", crop_area=(0.67, 1.0), flip=True),
        objective=MaskedPatchConfig(**SIMMIM, mask_unit=max(1, MASK_PIXELS // max(vit.patch_hw))),
        optim=OptimConfig(lr=4e-4, weight_decay=0.05, betas=(0.9, 0.999), clip=5.0),
        schedule=ScheduleConfig(decay="stair", warmup="10epochs", stairs=("700epochs",), multipliers=(0.1,)),
        train=TrainConfig(batch_size=2048, epochs=800.0, evaluate="20epochs", log="50steps"),
    )


def fashion_mnist_masked_patch() -> RunConfig:
    """Masked patch prediction on Fashion-MNIST's 60,000 images without labels, on a CPU.

    Each of the 16 patches has 7x7 grey pixels. The model predicts their 4x4 parts, because the mean of a grey patch
    holds little information.

    Command: vitral train fashion-mnist-masked-patch
    Expect: after 2,000 steps kNN 73.3 % ± 0.2, linear 80.4 % ± 0.3, fine-tuned on 1,000 labels 81.9 % ± 0.1 (3 seeds)
    Time: as `fashion-mnist`, 8 to 12 minutes on two cores of an Intel Xeon, plus the probes
    Source: measured here, benchmarks/self_supervision_2-core-xeon_2026-11-23.md
    """
    base = fashion_mnist()
    return replace(
        base,
        recipe="fashion-mnist-masked-patch",
        objective=MaskedPatchConfig(target="small_patch"),
        optim=OptimConfig(name="muon", lr=1e-2, weight_decay=0.05),
    )
