"""Later recipes for ImageNet: AugReg, better plain baselines, DeiT III, MAE's supervised recipes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.errors import UserError
from vitral.models import architecture
from vitral.objectives.classification import ClassificationConfig
from vitral.recipes.families import AUGREG_LEVELS
from vitral.recipes.finetune import finetune
from vitral.recipes.images import IMAGENET, WORKERS, augment, centre_crop
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig

__all__ = [
    "augreg",
    "better_vit",
    "deit3_imagenet1k",
    "mae_finetune_imagenet1k",
    "mae_linear_imagenet1k",
    "mae_scratch_imagenet1k",
]


def _data(*, val_fraction: float | None = None) -> DataConfig:
    return DataConfig(source="imagenet1k", workers=WORKERS, val_fraction=val_fraction)


MINIVAL = 0.01
"""big_vision trains on 99 % of the training images and validates on the others; the test comes at the end."""


def _big_vision_augment(layers: int, magnitude: int, mixup: float) -> AugmentConfig:
    """The augmentation of big_vision, with one mixup coefficient for a whole batch."""
    if not layers:
        return augment(mixup=mixup, mix_per="batch")
    return augment(
        randaugment="big_vision",
        randaugment_layers=layers,
        randaugment_magnitude=magnitude,
        mixup=mixup,
        mix_per="batch",
    )


def augreg(model: str = "ViT-B/16", *, level: str) -> RunConfig:
    """AugReg's level {level} on ImageNet, 300 epochs: {strength} (arXiv 2106.10270).

    Sigmoid cross-entropy with an initial head bias of -6.9, on 99 % of the training images; the rest are for
    validation. The paper's regularised runs add `--model.dropout 0.1 --model.drop-path 0.1`; its other weight decay is
    0.03. big_vision uses light1 for Ti/16, medium1 for S/32 and medium2 for larger models. The best of the paper's 28
    settings, before fine-tuning: B/16 79.84, S/16 79.00, Ti/16 72.59, L/16 75.72 % (Table 3).

    Command: vitral train augreg-{level} --data.root imagenet1k --model.name ViT-S/16
    Expect: {expect}; not run here
    Time: S/16 7.4 hours of an H100, estimated by `vitral plan ViT-S/16 --data 1268355 --epochs 300`; the paper
        states none
    Source: arXiv 2106.10270, section 3; big_vision's vit_i1k.py{source}
    """
    layers, magnitude, mixup = AUGREG_LEVELS[level]
    return RunConfig(
        recipe=f"augreg-{level}",
        model=ModelSetup(architecture=architecture(model, head_bias=-6.9)),
        data=_data(val_fraction=MINIVAL),
        preprocessing=centre_crop(),
        augment=_big_vision_augment(layers, magnitude, mixup),
        objective=ClassificationConfig(loss="sigmoid"),
        optim=OptimConfig(lr=1e-3, weight_decay=0.1, momentum_dtype="bfloat16", clip=1.0),
        schedule=ScheduleConfig(decay="cosine", warmup="10000steps"),
        train=TrainConfig(batch_size=4096, epochs=300.0, evaluate="5epochs", log="50steps"),
    )


def better_vit(model: str = "ViT-S/16", *, epochs: int) -> RunConfig:
    """Better plain ViT baselines: S/16 on ImageNet in {epochs} epochs (arXiv 2205.01580).

    Mean of the patches, fixed sine-cosine positions, batch 1024, RandAugment (2, 10), mixup 0.2, a linear head, and a
    weight decay of 1e-4 that does not depend on the learning rate. As in the source, the run trains on 99 % of the
    training images and validates on the others; the official validation images are the test.

    Command: vitral train vit-s16-imagenet1k-{epochs}ep --data.root imagenet1k
    Expect: {accuracy} % of the official validation images with this linear head (no spread given); not run here
    Time: {time} of an H100, estimated by `vitral plan ViT-S/16 --data 1268355 --epochs {epochs}`; {published}
    Source: arXiv 2205.01580, Table 1 and appendix; big_vision's vit_s16_i1k.py
    """
    plain = architecture(model, pool="gap", position="sincos_2d")
    return RunConfig(
        recipe=f"vit-s16-imagenet1k-{epochs}ep",
        model=ModelSetup(architecture=plain),
        data=_data(val_fraction=MINIVAL),
        preprocessing=centre_crop(),
        augment=_big_vision_augment(2, 10, 0.2),
        optim=OptimConfig(lr=1e-3, weight_decay=1e-4, decay_form="absolute", momentum_dtype="bfloat16", clip=1.0),
        schedule=ScheduleConfig(decay="cosine", warmup="10000steps"),
        train=TrainConfig(batch_size=1024, epochs=float(epochs), evaluate="5epochs", log="50steps"),
    )


DEIT3: dict[str, tuple[float, float, int]] = {
    "ViT-S/16": (4e-3, 0.05, 224),
    "ViT-B/16": (3e-3, 0.2, 192),
    "ViT-L/16": (3e-3, 0.45, 192),
    "ViT-H/14": (3e-3, 0.6, 160),
}
"""Learning rate, stochastic depth and training size in pixels."""


def deit3_imagenet1k(model: str = "ViT-S/16") -> RunConfig:
    """DeiT III on ImageNet, 800 epochs: LAMB, binary cross-entropy, 3-Augment (arXiv 2204.07118).

    Larger models train at less than 224 pixels (B and L at 192, H at 160, here 154, a multiple of its patches of 14)
    and are then fine-tuned at 224 for 20 epochs.

    Command: vitral train deit3-imagenet1k --data.root imagenet1k --model.name ViT-B/16
    Expect: after fine-tuning at 224 pixels S 81.4, B 83.8, L 84.9, H 85.2 % (no spread given); not run here
    Time: S/16 19.8 hours of an H100, estimated by `vitral plan ViT-S/16 --epochs 800`, B/16 2.8 times as much at 192
        pixels
    Source: arXiv 2204.07118

    Args:
        model: ViT-S/16, B/16, L/16 or H/14.
    """
    if model not in DEIT3:
        raise UserError(f"DeiT III has no {model}: --model.name takes {', '.join(DEIT3)}")
    lr, drop_path, size = DEIT3[model]
    patch = int(model.rpartition("/")[2])
    plain = architecture(model, image_size=size // patch * patch, layer_scale=1e-4, drop_path=drop_path, gelu="erf")
    return RunConfig(
        recipe="deit3-imagenet1k",
        model=ModelSetup(architecture=plain),
        data=_data(),
        preprocessing=centre_crop(1.0, interpolation="bicubic", **IMAGENET),
        augment=AugmentConfig(
            crop="inception",
            crop_area=(0.08, 1.0),
            flip=True,
            three_augment=True,
            colour_jitter=0.3,
            mixup=0.8,
            cutmix=1.0,
            repeats=3,
        ),
        objective=ClassificationConfig(loss="sigmoid", mixed_labels="multi_hot"),
        # DeiT III clips at 1.0, for a loss that is the mean over 1000 classes; here it is their sum
        optim=OptimConfig(name="lamb", lr=lr, weight_decay=0.05, clip=1000.0),
        schedule=ScheduleConfig(decay="cosine", warmup="5epochs"),
        train=TrainConfig(batch_size=2048, epochs=800.0, evaluate="10epochs", log="50steps"),
    )


def _mae_augment() -> AugmentConfig:
    return AugmentConfig(
        crop="inception",
        crop_area=(0.08, 1.0),
        flip=True,
        randaugment="torchvision",
        randaugment_magnitude=9,
        mixup=0.8,
        cutmix=1.0,
    )


def mae_finetune_imagenet1k(weights: Path | None = None, **options: Any) -> RunConfig:
    """MAE's fine-tuning on ImageNet: AdamW with layer decay, mixup and CutMix (arXiv 2111.06377, appendix A.1).

    B/16 for 100 epochs with layer decay 0.65 and the base learning rate 5e-4 of the released code. L and H for 50
    epochs with 0.75 and 1e-3: `--train.epochs 50 --optim.layer-decay 0.75 --optim.lr 4e-3 --model.drop-path 0.2`, for H
    0.3. The noise of 0.5 on RandAugment's magnitude is left out.

    Command: vitral train mae-finetune-imagenet1k --model.weights mae.pth
    Expect: 83.6 % with B/16, 85.9 with L, 86.9 with H, from 1,600 epochs of MAE (no spread given); not run here
    Time: B/16 9.5 hours of an H100, estimated by `vitral plan ViT-B/16 --epochs 100`
    Source: arXiv 2111.06377, appendix A.1; learning rates of its repository

    Args:
        weights: the pre-trained model; None is a placeholder with the architecture of ViT-B/16.
        options: how another project's file is read, as in `load_with_report`.
    """
    base = finetune(weights, **options)
    return replace(
        base,
        recipe="mae-finetune-imagenet1k",
        model=replace(base.model, architecture=replace(base.model.architecture, drop_path=0.1)),
        data=_data(),
        augment=_mae_augment(),
        objective=ClassificationConfig(label_smoothing=0.1),
        optim=OptimConfig(lr=2e-3, weight_decay=0.05, layer_decay=0.65, clip=None),
        schedule=ScheduleConfig(decay="cosine", warmup="5epochs", end=1e-6),
        train=TrainConfig(batch_size=1024, epochs=100.0, evaluate="1epoch", log="50steps"),
    )


def mae_linear_imagenet1k(weights: Path | None = None, **options: Any) -> RunConfig:
    """MAE's linear probe on ImageNet: LARS, batch 16,384, only crops and flips (arXiv 2111.06377, appendix A.1).

    Only the head learns, on features that are standardised for each batch; at the end this is folded into the head.
    `vitral eval --suite linear` measures nearly the same from features that are extracted once.

    Command: vitral train mae-linear-imagenet1k --model.weights mae.pth
    Expect: 68.0 % with B/16, 75.8 with L, 76.6 with H, from 1,600 epochs of MAE (no spread given); not run here
    Time: forward passes only, a third of the 8.5 hours of an H100 that `vitral plan ViT-B/16 --epochs 90` estimates for
        training
    Source: arXiv 2111.06377, appendix A.1

    Args:
        weights: the pre-trained model; None is a placeholder with the architecture of ViT-B/16.
        options: how another project's file is read, as in `load_with_report`.
    """
    base = finetune(weights, **options)
    return replace(
        base,
        recipe="mae-linear-imagenet1k",
        model=replace(base.model, probe=True),
        data=_data(),
        augment=AugmentConfig(crop="inception", crop_area=(0.08, 1.0), flip=True),
        optim=OptimConfig(name="lars", lr=6.4, weight_decay=0.0, clip=None),
        schedule=ScheduleConfig(decay="cosine", warmup="10epochs"),
        train=TrainConfig(batch_size=16384, epochs=90.0, evaluate="5epochs", log="10steps"),
    )


def mae_scratch_imagenet1k(model: str = "ViT-B/16") -> RunConfig:
    """MAE's supervised recipe from scratch on ImageNet, 300 epochs (arXiv 2111.06377, appendix A.2).

    L and H train for 200 epochs: `--train.epochs 200`, with `--model.drop-path 0.2` and 0.3.

    Command: vitral train mae-scratch-imagenet1k --data.root imagenet1k
    Expect: B/16 82.3, L/16 82.6, H/14 83.1 % (the averaged weights; no spread given); not run here
    Time: B/16 28.4 hours of an H100, estimated by `vitral plan ViT-B/16 --epochs 300`
    Source: arXiv 2111.06377, appendix A.2

    Args:
        model: such as ViT-L/16.
    """
    plain = architecture(model, pool="gap", position="sincos_2d_mae", drop_path=0.1, gelu="erf")
    return RunConfig(
        recipe="mae-scratch-imagenet1k",
        model=ModelSetup(architecture=plain),
        data=_data(),
        preprocessing=centre_crop(interpolation="bicubic", **IMAGENET),
        augment=_mae_augment(),
        objective=ClassificationConfig(label_smoothing=0.1),
        optim=OptimConfig(lr=1.6e-3, weight_decay=0.3, betas=(0.9, 0.95), clip=None),
        schedule=ScheduleConfig(decay="cosine", warmup="20epochs"),
        train=TrainConfig(batch_size=4096, epochs=300.0, ema=0.9999, evaluate="5epochs", log="50steps"),
    )
