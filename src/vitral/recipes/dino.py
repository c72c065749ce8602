"""Self-distillation: DINO's pre-training, and a version that takes minutes."""

from dataclasses import replace
from typing import Any

from vitral.data.config import DataConfig
from vitral.models import architecture
from vitral.objectives.dino import CropConfig, DINOConfig
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.recipes.images import IMAGENET, WORKERS, centre_crop
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig

__all__ = ["dino", "fashion_mnist_dino"]


COLOURS: dict[str, Any] = dict(
    jitter_probability=0.8, saturation=0.2, hue=0.1, grey=0.2, blur=(1.0, 0.1, 0.5), solarise=0.2
)
"""Changes of the crops' colours in the authors' code, beside the jitter of 0.4."""


def dino(model: str = "ViT-S/16") -> RunConfig:
    """DINO's pre-training on images without labels (arXiv 2104.14294, section 3.2 and appendix D).

    Two global crops and eight local ones; AdamW with a learning rate of 5e-4 for each 256 images, batch 1024, 10 epochs
    of warm-up, gradients clipped at 3. The weight decay is a constant 0.04, where the paper increases it to 0.4. Crops
    are taken from the image after it is resized to the model's size. `--objective.patch-weight 1` adds iBOT's masked
    patches; `--objective.assignment sinkhorn --objective.koleo 0.1` adds the losses of DINOv2,
    `--objective.gram-weight 2` the Gram anchoring of DINOv3.

    With fewer than 20,000 images in `--data.root`, and without `--model.name`, the settings are for one machine
    instead: a ViT of 2 million parameters at 128 pixels, batches of 64, and as many steps as fit into `--minutes`.

    Command: vitral train dino --data.root photos
    Expect: on ImageNet for 800 epochs, S/16 74.5 % with kNN and 77.0 % linear (no spread given); not run here
    Time: four times the 2.5 hours of an H100 that `vitral plan ViT-S/16 --epochs 100` estimates for one crop per image
    Source: arXiv 2104.14294, section 3.2, appendix D and Table 2

    Args:
        model: such as ViT-B/16.
    """
    return RunConfig(
        recipe="dino",
        model=ModelSetup(architecture=architecture(model, gelu="erf", drop_path=0.1)),
        data=DataConfig(source="images", workers=WORKERS),
        preprocessing=centre_crop(interpolation="bicubic", **IMAGENET),
        objective=DINOConfig(crops=CropConfig(**COLOURS)),
        optim=OptimConfig(lr=2e-3, weight_decay=0.04, clip=3.0),
        schedule=ScheduleConfig(decay="cosine", warmup="10epochs", end=1e-6),
        train=TrainConfig(batch_size=1024, epochs=100.0, evaluate="5epochs", log="50steps"),
    )


def fashion_mnist_dino() -> RunConfig:
    """DINO on Fashion-MNIST's 60,000 images without labels, on a CPU.

    The run is short, so the teacher follows the student faster than in the paper: momentum 0.9.

    Command: vitral train fashion-mnist-dino
    Expect: after 2,000 steps kNN 79.7 % ± 0.2, linear 82.0 % ± 0.4, fine-tuned on 1,000 labels 81.4 % ± 0.3 (3 seeds)
    Time: 2.4 times the 8 to 12 minutes that `fashion-mnist` takes on two cores of an Intel Xeon, plus the probes
    Source: measured here, benchmarks/self_supervision_2-core-xeon_2026-11-23.md
    """
    return replace(
        fashion_mnist(),
        recipe="fashion-mnist-dino",
        objective=DINOConfig(
            crops=CropConfig(num_local=2, local_size=14, global_area=(0.5, 1.0), local_area=(0.2, 0.5), jitter=0.2),
            prototypes=1024,
            hidden=256,
            bottleneck=64,
            momentum=0.9,
        ),
        optim=OptimConfig(name="muon", lr=1e-2, weight_decay=0.04, clip=3.0),
    )
