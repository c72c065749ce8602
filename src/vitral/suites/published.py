"""Published accuracies of the paper's models, for comparison."""

from dataclasses import dataclass

from vitral.errors import UserError

__all__ = ["SOURCES", "VTAB1K_PUBLISHED", "PublishedRow", "published"]

MODELS = ("ViT-B/16", "ViT-B/32", "ViT-L/16", "ViT-L/32", "ViT-H/14")
SOURCES = ("imagenet1k", "cifar10", "cifar100", "pets", "flowers")
"""The data sets whose test accuracy is published, as `--data.source` names them."""

TABLE_5: dict[str, dict[str, tuple[float | None, ...]]] = {
    "ImageNet": {
        "cifar10": (98.13, 97.77, 97.86, 97.94, None),
        "cifar100": (87.13, 86.31, 86.35, 87.07, None),
        "imagenet1k": (77.91, 73.38, 76.53, 71.16, None),
        "flowers": (89.49, 85.43, 89.66, 86.36, None),
        "pets": (93.81, 92.04, 93.64, 91.35, None),
    },
    "ImageNet-21k": {
        "cifar10": (98.95, 98.79, 99.16, 99.13, 99.27),
        "cifar100": (91.67, 91.97, 93.44, 93.04, 93.82),
        "imagenet1k": (83.97, 81.28, 85.15, 80.99, 85.13),
        "flowers": (99.38, 99.11, 99.61, 99.19, 99.51),
        "pets": (94.43, 93.02, 94.73, 93.09, 94.82),
    },
    "JFT": {
        "cifar10": (99.00, 98.61, 99.38, 99.19, 99.50),
        "cifar100": (91.87, 90.49, 94.04, 92.52, 94.55),
        "imagenet1k": (84.15, 80.73, 87.12, 84.37, 88.04),
        "flowers": (99.56, 99.27, 99.56, 99.45, 99.68),
        "pets": (95.80, 93.40, 97.11, 95.83, 97.56),
    },
}
"""Percent by pre-training data, data set and model of `MODELS`: at 384 pixels, without averaged weights."""

TABLE_2: dict[str, dict[str, float]] = {
    "ViT-H/14, JFT": dict(imagenet1k=88.55, cifar10=99.50, cifar100=94.55, pets=97.56, flowers=99.68),
    "ViT-L/16, JFT": dict(imagenet1k=87.76, cifar10=99.42, cifar100=93.90, pets=97.32, flowers=99.74),
    "ViT-L/16, ImageNet-21k": dict(imagenet1k=85.30, cifar10=99.15, cifar100=93.25, pets=94.67, flowers=99.61),
}
"""Percent by model and data set, means of three fine-tunings: ImageNet at 512 or 518 pixels with averaged weights."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A published accuracy."""

    name: str
    """Model, pre-training data, and the table in the paper."""
    accuracy: float
    """Top-1 accuracy on the test images (ImageNet: the validation images), as a fraction."""


def published(source: str) -> list[PublishedRow]:
    """The paper's fine-tuned models on a data set, worst first.

    Raises:
        UserError: the paper has none on this data set.
    """
    if source not in SOURCES:
        raise UserError(
            f"the paper has no results on the data of these runs, {source}: leave out --published, which supports "
            f"{', '.join(SOURCES)}"
        )
    rows = [
        PublishedRow(name=f"{model}, {pretraining} (Table 5)", accuracy=percent / 100)
        for pretraining, datasets in TABLE_5.items()
        for model, percent in zip(MODELS, datasets[source], strict=True)
        if percent is not None
    ]
    rows += [
        PublishedRow(name=f"{name} (Table 2)", accuracy=datasets[source] / 100) for name, datasets in TABLE_2.items()
    ]
    return sorted(rows, key=lambda row: row.accuracy)


_VTAB1K: dict[str, tuple[float, float, float, float, float]] = {
    "Caltech101": (95.3, 95.4, 90.8, 91.0, 38.2),
    "CIFAR-100": (85.5, 81.9, 84.1, 57.0, 13.2),
    "DTD": (75.2, 74.3, 74.1, 66.0, 20.6),
    "Flowers102": (99.7, 99.7, 99.3, 88.6, 40.2),
    "Pets": (97.2, 96.7, 92.7, 89.9, 12.1),
    "Sun397": (65.0, 63.5, 61.0, 34.4, 5.0),
    "SVHN": (88.9, 87.4, 80.9, 87.3, 66.1),
    "Camelyon": (83.3, 83.6, 82.5, 80.6, 75.6),
    "EuroSAT": (96.7, 96.5, 95.6, 95.3, 85.0),
    "Resisc45": (91.4, 89.7, 85.2, 80.8, 42.6),
    "Retinopathy": (76.6, 77.1, 75.3, 73.2, 72.6),
    "Clevr-Count": (91.7, 86.4, 70.3, 41.0, 38.8),
    "Clevr-Dist": (63.8, 63.1, 56.1, 56.1, 55.2),
    "DMLab": (53.1, 49.7, 41.9, 36.3, 26.6),
    "dSpr-Loc": (79.4, 74.5, 74.7, 85.7, 78.4),
    "dSpr-Ori": (63.3, 60.5, 64.9, 46.0, 39.2),
    "KITTI-Dist": (84.5, 82.2, 79.9, 70.6, 42.7),
    "sNORB-Azim": (33.2, 36.2, 30.5, 45.7, 30.1),
    "sNORB-Elev": (51.2, 51.1, 41.7, 35.4, 37.6),
}
_VTAB1K_MODELS = ("H/14, JFT", "L/16, JFT", "L/16, I21k", "R50, ImageNet", "R50, scratch")

VTAB1K_PUBLISHED: dict[str, dict[str, float]] = {
    model: {title: percents[column] / 100 for title, percents in _VTAB1K.items()}
    for column, model in enumerate(_VTAB1K_MODELS)
}
"""Accuracy of fine-tuned models on VTAB-1k by model and task: three of the paper's Table 9, and the ResNet-50 of VTAB's
authors, pre-trained on ImageNet and trained from scratch.
"""
