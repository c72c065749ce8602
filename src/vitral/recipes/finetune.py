"""Fine-tuning of a trained model on a folder of images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.train.config import ModelSetup, RunConfig, TrainConfig
from vitral.train.optimisers.optimiser import OptimConfig
from vitral.train.schedule import ScheduleConfig
from vitral.vit_config import ViTConfig
from vitral.weights.flags import flags_of_training
from vitral.weights.load import load_with_report

__all__ = ["finetune"]


def finetune(weights: Path | None = None, **options: Any) -> RunConfig:
    """Fine-tunes a trained model on an image folder as the paper does; new classes get a new head of zeros.

    The settings are the paper's (section 4.1 and Table 4): momentum 0.9, gradient norm clipped at 1, no weight decay,
    dropout 0, no tanh layer. Batch size and length are for small data. The paper uses batch 512, 500 steps for Pets and
    Flowers and 20,000 for ImageNet, learning rates from 0.001 to 0.06, and 384 pixels (`--model.image-size 384`;
    position embeddings are interpolated to the new grid).

    Command: vitral train finetune --data.root photos --model.weights runs/folder-1
    Expect: digits from a Fashion-MNIST model 95.5 %, from scratch with the same steps 77.4 % (one run each)
    Time: 20 epochs of 10,000 images: 53 seconds of an H100, estimated by `vitral plan ViT-B/16 --data 10000
        --epochs 20`
    Source: arXiv 2010.11929, section 4.1 and Table 4; measured here, benchmarks/recipes_2-core-xeon_2026-11-23.md

    Args:
        weights: the trained model, a folder of Vitral or another project's file; None is a placeholder with the
            architecture of ViT-B/16, for help texts only.
        options: how another project's file is read, as in `load_with_report`.
    """
    architecture, preprocessing = ViTConfig(), Preprocessing(image_size=(224, 224), channels=3)
    if weights is not None:
        try:
            trained, _ = load_with_report(weights, **options)
        except UserError as error:
            raise UserError(flags_of_training(str(error))) from None
        assert trained.card is not None
        architecture, preprocessing = trained.config, trained.card.preprocessing
    plain = dict(representation_size=None, dropout=0.0, attention_dropout=0.0, head_bias=0.0)
    changes = {
        name: value for name, value in plain.items() if hasattr(architecture, name)
    }  # of these, a ResNet has only the head
    channels = preprocessing.channels if preprocessing.bands else None
    return RunConfig(
        recipe="finetune",
        model=ModelSetup(
            weights=weights,
            checkpoint_key=options.get("checkpoint_key"),
            prefix=options.get("prefix"),
            given=tuple(name for name in options if name not in ("checkpoint_key", "prefix")),
            architecture=replace(architecture, **changes),
        ),
        data=DataConfig(source="folder", workers=2, channels=channels),
        preprocessing=preprocessing,
        augment=AugmentConfig(crop="inception", crop_area=(0.25, 1.0), flip=True),
        optim=OptimConfig(name="sgd", lr=0.01, weight_decay=0.0, momentum=0.9, clip=1.0),
        schedule=ScheduleConfig(decay="cosine", warmup="5percent"),
        train=TrainConfig(batch_size=64, epochs=20.0),
    )
