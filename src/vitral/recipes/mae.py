"""Masked autoencoders: the published pre-training, and a version that takes minutes."""

from dataclasses import replace

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.models import architecture
from vitral.objectives.mae import MAEConfig
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.recipes.images import IMAGENET, WORKERS, centre_crop
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig

__all__ = ["fashion_mnist_mae", "mae"]


def mae(model: str = "ViT-B/16") -> RunConfig:
    """MAE's pre-training on images without labels (arXiv 2111.06377, appendix A.1).

    Three quarters of the patches are masked. AdamW with a learning rate of 1.5e-4 for each 256 images, batch 4096, 40
    epochs of warm-up; only crops and flips. The model averages its patches instead of using a class token, which
    according to the paper works as well. Fine-tune with `mae-finetune-imagenet1k`.

    With fewer than 20,000 images in `--data.root`, and without `--model.name`, the settings are for one machine
    instead: a ViT of 2 million parameters at 128 pixels, batches of 64, and as many steps as fit into `--minutes`.

    Command: vitral train mae --data.root photos
    Expect: 800 epochs on ImageNet, then fine-tuned, L/16 84.9 %; after 1,600, B/16 83.6 % (no spread); not run here
    Time: a third of the 3.2 days of an H100 that `vitral plan ViT-B/16 --epochs 800` estimates for whole images
    Source: arXiv 2111.06377, Table 1 and appendix A.1

    Args:
        model: such as ViT-L/16.
    """
    return RunConfig(
        recipe="mae",
        model=ModelSetup(architecture=architecture(model, pool="gap", position="sincos_2d_mae", gelu="erf")),
        data=DataConfig(source="images", workers=WORKERS),
        preprocessing=centre_crop(interpolation="bicubic", **IMAGENET),
        augment=AugmentConfig(crop="inception", crop_area=(0.2, 1.0), flip=True),
        objective=MAEConfig(),
        optim=OptimConfig(lr=2.4e-3, weight_decay=0.05, betas=(0.9, 0.95), clip=None),
        schedule=ScheduleConfig(decay="cosine", warmup="40epochs"),
        train=TrainConfig(batch_size=4096, epochs=800.0, evaluate="20epochs", log="50steps"),
    )


def fashion_mnist_mae() -> RunConfig:
    """A masked autoencoder on Fashion-MNIST's 60,000 images without labels, on a CPU.

    Command: vitral train fashion-mnist-mae
    Expect: after 2,000 steps kNN 80.3 % ± 0.1, linear 82.6 % ± 0.3, fine-tuned on 1,000 labels 82.0 % ± 0.1 (3 seeds)
    Time: three quarters of the 8 to 12 minutes that `fashion-mnist` takes on two cores of an Intel Xeon, plus
        the probes
    Source: measured here, benchmarks/self_supervision_2-core-xeon_2026-11-23.md
    """
    return replace(
        fashion_mnist(),
        recipe="fashion-mnist-mae",
        objective=MAEConfig(width=64, depth=2, num_heads=4),
    )
