"""Learning from a teacher: DeiT's distillation, and a version that takes minutes."""

from dataclasses import replace

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.models import architecture
from vitral.objectives.classification import ClassificationConfig
from vitral.objectives.distillation import DistillationConfig
from vitral.recipes.fashion_mnist import fashion_mnist
from vitral.recipes.folder import folder
from vitral.recipes.images import IMAGENET, WORKERS, centre_crop
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig

__all__ = ["deit_distilled_imagenet1k", "distill", "fashion_mnist_distilled"]


def distill() -> RunConfig:
    """A small ViT on your own images, one folder per class, that learns from labels and a larger trained model.

    The model has a distillation token. Without one, `--model.no-distillation`, its only head learns from both labels
    and teacher. `--objective.teacher-weight 1 --objective.form soft` learns from the teacher alone, which pays off only
    with long training and strong crops (arXiv 2106.05237).

    Command: vitral train distill --data.root photos --objective.teacher runs/large
    Expect: more than `folder` with a good teacher: on Fashion-MNIST 0.2 to 0.6 points in two epochs (benchmarks/)
    Time: as `folder`, about 60 images per second on one core of an Intel Xeon, plus the teacher's forward passes
    Source: arXiv 2012.12877, section 4; measured here, benchmarks/distillation_2-core-xeon_2026-11-23.md
    """
    base = folder()
    return replace(
        base,
        recipe="distill",
        model=ModelSetup(architecture=replace(base.model.architecture, pool="cls", distillation=True)),
        objective=DistillationConfig(),
    )


def deit_distilled_imagenet1k(model: str = "ViT-B/16") -> RunConfig:
    """DeiT's hard distillation on ImageNet, 300 epochs, with a distillation token (arXiv 2012.12877, Table 9).

    The paper's best teacher is a convolutional RegNetY-16GF of 82.9 %. Here the teacher is a ResNet or a Vision
    Transformer.

    Command: vitral train deit-distilled-imagenet1k --data.root imagenet1k --objective.teacher runs/teacher
    Expect: B/16 83.4 % with the paper's teacher, against 81.8 % without one (no spread given); not run here
    Time: B/16 28.4 hours of an H100, estimated by `vitral plan ViT-B/16 --epochs 300`, plus the teacher's forward
        passes
    Source: arXiv 2012.12877, Tables 4 and 9

    Args:
        model: such as ViT-S/16.
    """
    return RunConfig(
        recipe="deit-distilled-imagenet1k",
        model=ModelSetup(architecture=architecture(model, distillation=True, drop_path=0.1, gelu="erf")),
        data=DataConfig(source="imagenet1k", workers=WORKERS),
        preprocessing=centre_crop(interpolation="bicubic", **IMAGENET),
        augment=AugmentConfig(
            crop="inception",
            crop_area=(0.08, 1.0),
            flip=True,
            randaugment="torchvision",
            randaugment_magnitude=9,
            erase=0.25,
            mixup=0.8,
            cutmix=1.0,
            repeats=3,
        ),
        objective=DistillationConfig(labels=ClassificationConfig(label_smoothing=0.1)),
        optim=OptimConfig(lr=1e-3, weight_decay=0.05, clip=None),
        schedule=ScheduleConfig(decay="cosine", warmup="5epochs", end=1e-5),
        train=TrainConfig(batch_size=1024, epochs=300.0, evaluate="5epochs", log="50steps"),
    )


def fashion_mnist_distilled() -> RunConfig:
    """The small ViT on Fashion-MNIST with a distillation token and a teacher that you trained, on a CPU.

    Command: vitral train fashion-mnist-distilled --objective.teacher runs/teacher
    Expect: 87.0 % ± 0.3 after 2 epochs with a teacher of 89.2 %, 86.7 without one (3 seeds)
    Time: 8 to 12 minutes on two cores of an Intel Xeon, as `fashion-mnist`, plus the teacher's forward passes
    Source: arXiv 2012.12877; measured here, benchmarks/distillation_2-core-xeon_2026-11-23.md
    """
    base = fashion_mnist()
    return replace(
        base,
        recipe="fashion-mnist-distilled",
        model=ModelSetup(architecture=replace(base.model.architecture, pool="cls", distillation=True)),
        objective=DistillationConfig(),
    )
