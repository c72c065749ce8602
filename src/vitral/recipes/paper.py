"""The paper's pre-training (every row of Table 3) and its fine-tuning (every row of Table 4)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitral.data.config import DataConfig
from vitral.errors import UserError
from vitral.models import architecture
from vitral.objectives.classification import ClassificationConfig
from vitral.recipes.families import TASKS, Task
from vitral.recipes.finetune import finetune
from vitral.recipes.images import WORKERS, augment, centre_crop
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig

__all__ = [
    "JFT",
    "paper_finetuning",
    "paper_imagenet",
    "paper_imagenet1k_512",
    "paper_imagenet21k",
    "paper_jft",
]

JFT: dict[str, tuple[float, int]] = {
    **dict.fromkeys(("ViT-B/16", "ViT-B/32", "R50+ViT-B/16", "R50+ViT-B/32"), (8e-4, 7)),
    "ViT-L/32": (6e-4, 7),
    "ViT-L/16": (4e-4, 14),
    "ViT-H/14": (3e-4, 14),
    **dict.fromkeys(("BiT-R50x1", "BiT-R50x2"), (1e-3, 7)),
    "BiT-R101x1": (8e-4, 7),
    **dict.fromkeys(("BiT-R152x1", "BiT-R152x2"), (6e-4, 7)),
    "R50+ViT-L/32": (2e-4, 7),
    "R50+ViT-L/16": (4e-4, 14),
}
"""Learning rate and epochs on JFT by model (Table 3); L/16 was also trained for 7 epochs."""


def paper_jft(model: str = "ViT-B/16") -> RunConfig:
    """The paper's pre-training on JFT-300M, for a large data set of your own.

    Sigmoid cross-entropy with an initial head bias of -10, linear decay to 1e-5, no dropout (Table 3). `--model.name`
    selects any model of the table, also ResNets and hybrids, with its learning rate and epochs. The paper also trains
    L/16 and R50+ViT-L/16 half as long: `--train.epochs 7`.

    Command: vitral train paper-jft --data.root images --model.name ViT-L/16
    Expect: on JFT, then fine-tuned at 512 pixels on ImageNet, H/14 88.55 % ± 0.04, L/16 87.76 % ± 0.03; not run here
    Time: 2,500 TPUv3-core-days for H/14, 680 for L/16; B/16 6.5 days of an H100, estimated by `vitral plan ViT-B/16
        --data jft300m --epochs 7`
    Source: arXiv 2010.11929, Tables 2 and 3; Table 6 for all other models

    Args:
        model: a model of Table 3.
    """
    lr, epochs = _row(JFT, model)
    return _pretraining(
        "paper-jft", model, data=DataConfig(source="folder", workers=WORKERS), lr=lr, epochs=epochs, decay=0.1
    )


def paper_imagenet21k(model: str = "ViT-B/16") -> RunConfig:
    """The paper's pre-training on ImageNet-21k, 90 epochs.

    Sigmoid cross-entropy with an initial head bias of -10, dropout 0.1, linear decay to 1e-5 (Table 3). The paper also
    trains L/16 and L/32 for 30 epochs: `--train.epochs 30`.

    Command: vitral train paper-imagenet21k --data.root imagenet21k
    Expect: validation B/16 47.88, L/16 49.90 %; fine-tuned on ImageNet 83.97, 85.15 % (one run each); not run here
    Time: 230 TPUv3-core-days for L/16; B/16 3.9 days of an H100, estimated by `vitral plan ViT-B/16 --data
        imagenet21k --epochs 90`
    Source: arXiv 2010.11929, Tables 2, 3 and 5; validation accuracy from issue 62 of the authors' repository

    Args:
        model: such as ViT-L/16.
    """
    data = DataConfig(source="imagenet21k", workers=WORKERS)
    return _pretraining("paper-imagenet21k", model, data=data, lr=1e-3, epochs=90, decay=0.03, dropout=0.1)


def paper_imagenet(model: str = "ViT-B/16") -> RunConfig:
    """The paper's training on ImageNet only, 300 epochs.

    Softmax cross-entropy, cosine decay, dropout 0.1, weight decay 0.3, gradient norm clipped at 1 (Table 3).

    Command: vitral train paper-imagenet --data.root imagenet1k
    Expect: before fine-tuning B/16 74.79, B/32 69.19, L/16 72.59, L/32 66.90 % (one run each); not run here
    Time: B/16 28.4 hours of an H100, estimated by `vitral plan ViT-B/16 --epochs 300`; the paper states none
    Source: arXiv 2010.11929, Table 3; accuracies from issue 62 of the authors' repository

    Args:
        model: such as ViT-B/32.
    """
    data = DataConfig(source="imagenet1k", workers=WORKERS)
    config = _pretraining("paper-imagenet", model, data=data, lr=3e-3, epochs=300, decay=0.3, dropout=0.1)
    return replace(
        config,
        model=ModelSetup(architecture=replace(config.model.architecture, head_bias=0.0)),
        objective=ClassificationConfig(loss="softmax"),
        optim=replace(config.optim, clip=1.0),
        schedule=ScheduleConfig(decay="cosine", warmup="10000steps"),
    )


def _row(table: dict[str, tuple[float, int]], model: str) -> tuple[float, int]:
    if model not in table:
        raise UserError(f"Table 3 has no {model}: --model.name takes {', '.join(table)}")
    return table[model]


def _pretraining(
    name: str, model: str, *, data: DataConfig, lr: float, epochs: int | float, decay: float, dropout: float = 0.0
) -> RunConfig:
    """Settings of all rows: batch 4096, Adam, 10,000 steps of warm-up, 224 pixels, the tanh layer before the head."""
    plain = architecture(model)
    extra = (
        {"dropout": dropout, "representation_size": getattr(plain, "width", None)} if hasattr(plain, "dropout") else {}
    )
    return RunConfig(
        recipe=name,
        model=ModelSetup(architecture=replace(plain, head_bias=-10.0, **extra)),
        data=data,
        preprocessing=centre_crop(),
        augment=augment(),
        objective=ClassificationConfig(loss="sigmoid"),
        optim=OptimConfig(name="adamw", lr=lr, weight_decay=decay, betas=(0.9, 0.999), clip=None),
        schedule=ScheduleConfig(decay="linear", warmup="10000steps", end=1e-5),
        train=TrainConfig(batch_size=4096, epochs=float(epochs), evaluate="1epoch", log="50steps"),
    )


def paper_finetuning(weights: Path | None = None, *, task: Task, **options: Any) -> RunConfig:
    """The paper's fine-tuning on {task}, {steps:,} steps of 512 images at 384 pixels.

    SGD with momentum 0.9 stored in bfloat16, cosine decay, no weight decay, clipping at 1 (Table 4). The learning rate
    is one of {grid}, selected on {selected_on}.

    Command: vitral train paper-{task} --model.weights B_16.npz --optim.lr 0.01
    Expect: from ImageNet-21k {reported}; not run here
    Time: B/16 {time} of an H100, estimated by `vitral plan ViT-B/16 --image-size 384 --data
        {images} --epochs 1`
    Source: arXiv 2010.11929, Tables 2, 4 and 5
    """
    row = TASKS[task]
    base = finetune(weights, **options)
    # 384 is not a multiple of patches of 14 pixels: Google's convolution ignores the last 6
    size = 378 if _has_patches_of_14(base) else 384
    return replace(
        base,
        recipe=f"paper-{task}",
        model=replace(base.model, architecture=replace(base.model.architecture, image_size=size)),
        data=DataConfig(source=task, workers=WORKERS),
        augment=augment(),
        optim=OptimConfig(name="sgd", lr=0.01, weight_decay=0.0, momentum=0.9, momentum_dtype="bfloat16", clip=1.0),
        schedule=ScheduleConfig(decay="cosine", warmup=f"{row['warmup']}steps"),
        train=TrainConfig(batch_size=512, steps=row["steps"], evaluate="10percent"),
    )


def paper_imagenet1k_512(weights: Path | None = None, **options: Any) -> RunConfig:
    """The paper's best fine-tuning on ImageNet: 512 pixels (518 with patches of 14), and a Polyak average (Table 2).

    Otherwise as `paper-imagenet1k`. The run evaluates and saves the moving average of the weights, decay 0.9999.

    Command: vitral train paper-imagenet1k-512 --model.weights L_16.npz --optim.lr 0.03
    Expect: from JFT, H/14 88.55 % ± 0.04, L/16 87.76 % ± 0.03; L/16 from ImageNet-21k 85.30 % ± 0.02; not run here
    Time: L/16 15.6 hours of an H100, estimated by `vitral plan ViT-L/16 --image-size 512 --data 10240000 --epochs 1`
    Source: arXiv 2010.11929, Tables 2 and 4
    """
    base = paper_finetuning(weights, task="imagenet1k", **options)
    size = 518 if _has_patches_of_14(base) else 512
    return replace(
        base,
        recipe="paper-imagenet1k-512",
        model=replace(base.model, architecture=replace(base.model.architecture, image_size=size)),
        train=replace(base.train, ema=0.9999, ema_warmup=False),
    )


def _has_patches_of_14(config: RunConfig) -> bool:
    """Whether the model has the patches of H/14."""
    return getattr(config.model.architecture, "patch_hw", None) == (14, 14)
