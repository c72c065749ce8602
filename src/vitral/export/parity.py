"""The parity report: an exported file and the model that it was made from, on the same images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Int64
from torch import Tensor

from vitral.card import ModelCard
from vitral.data.config import Target
from vitral.errors import UserError
from vitral.evals.calibration import calibration
from vitral.export.exported import ExportedModel
from vitral.export.images import ImageBatch, ReferenceImages
from vitral.export.metadata import ExportMetadata
from vitral.models import Model
from vitral.vit import ViT

__all__ = ["BATCHES", "Comparison", "ParityReport", "compare"]

BATCHES = (1, 3, 16)
"""Batch sizes that are compared."""

PROBES = 48
"""Images that are compared at each size and batch; at the model's own size and the largest batch it is all of them."""

ROUNDING = 1e-4
"""Largest difference of outputs, as a fraction of the largest output, that is put down to rounding."""

COSINE = 0.999
"""Features that point this closely in the same direction are taken to be equal."""

CLOSE = 0.01
"""Numbers are taken to be equal if they differ by this part of their standard deviation over the images."""

SAME = {
    "class": "the same class",
    "multi-label": "the same labels",
    "regression": f"numbers within {CLOSE:.0%} of their deviation",
}
"""What equal images have in common, in words."""

TOLERANCES = {"float32": 0.99, "float16": 0.99, "int8": 0.97}
"""Smallest agreement with which a file passes."""

Compute = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Outputs of the file and the model at one image size and one batch size."""

    size: tuple[int, int]
    """Height and width of the images that the network gets, in pixels."""
    batch: int
    num_images: int
    largest: float
    """Largest absolute difference of outputs."""
    mean: float
    """Mean absolute difference of outputs."""
    scale: float
    """Largest absolute output of the model."""
    equal: int
    """Images with the same class or labels, or a number within `CLOSE`; with features, whose cosine is above `COSINE`.
    """


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Accuracy and calibration error on images whose classes are known, of the model and of the file; fractions."""

    num_images: int
    accuracy: tuple[float, float]
    ece: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """How far a file's outputs are from those of its model."""

    images: str
    """Which images were compared."""
    output: str
    """`logits` or `features`."""
    comparisons: tuple[Comparison, ...]
    """The first has the most images."""
    labelled: Labelled | None
    """None if the images have no known classes."""
    tolerance: float
    """Smallest agreement with which the file passes."""
    target: Target = "class"
    """What the model predicts."""

    @property
    def agreement(self) -> float:
        """The smallest fraction of equal images over all comparisons."""
        return min(row.equal / row.num_images for row in self.comparisons)

    @property
    def passed(self) -> bool:
        """Whether the file agrees with its model."""
        return self.agreement >= self.tolerance

    @property
    def verdict(self) -> str:
        """The result in words."""
        whole, largest = self.comparisons[0], max(row.largest for row in self.comparisons)
        rounding = all(row.largest <= ROUNDING * row.scale for row in self.comparisons)
        if not largest:
            text = f"identical: {self.output} of {whole.num_images:,} images are the same numbers"
        elif rounding:
            text = f"equal to rounding: {self.output} of {whole.num_images:,} images differ by at most {largest:.1e}"
        elif self.output == "logits":
            text = f"{SAME[self.target]} for {whole.equal:,} of {whole.num_images:,} images"
        else:
            text = f"features as good as equal for {whole.equal:,} of {whole.num_images:,} images"
        if self.labelled and not rounding:
            before, after = (f"{100 * value:.2f}" for value in self.labelled.accuracy)
            text += f"; accuracy {before} -> {after} %"
        if not self.passed:
            text += f"; below the {self.tolerance:.1%} of equal images that the file needs at every size and batch"
        return text


def compare(
    model: Model, exported: ExportedModel, images: ReferenceImages, *, tolerance: float | None = None
) -> ParityReport:
    """Compares a file with its model at every batch size, and at three image sizes if it takes any.

    Args:
        model: as it was exported, on the CPU.
        exported: the file.
        images: real images.
        tolerance: smallest fraction of equal images with which the file passes; None: that of its precision.

    Raises:
        UserError: no image can be read, or the model's outputs are not finite.
    """
    card, metadata = model.card, exported.metadata
    assert card is not None
    largest_batch = max(BATCHES)
    before_all, after_all, labels = [], [], []
    reference = partial(_reference, model, metadata.output)
    for batch, truth in images.batches(card.preprocessing, largest_batch):
        normalised = card.preprocessing.normalise(batch.pixels)
        before_all.append(reference(normalised))
        after_all.append(_computed(exported, card, batch))
        labels.append(truth)
    before, after, truth = torch.cat(before_all), torch.cat(after_all), torch.cat(labels)
    if not before.isfinite().all():
        raise UserError("the model's outputs are not finite, so its weights are damaged, and it is not exported")
    rows = [_comparison(before, after, size=card.preprocessing.image_size, batch=largest_batch, metadata=metadata)]
    own = card.preprocessing.image_size
    for size in _sizes(model) if metadata.image_size == "dynamic" else (own,):
        for count in BATCHES:
            if (size, count) != (own, largest_batch):
                rows.append(_probe(reference, exported, card, images, size=size, batch=count))
    known = truth >= 0
    has_classes = bool(card.classes) and card.target == "class"
    labelled = _labelled(before[known], after[known], truth[known]) if known.any() and has_classes else None
    return ParityReport(
        images=images.title,
        output=metadata.output,
        comparisons=tuple(rows),
        labelled=labelled,
        tolerance=TOLERANCES[metadata.precision] if tolerance is None else tolerance,
        target=card.target,
    )


@torch.no_grad()
def _reference(model: Model, output: str, images: Tensor) -> Tensor:
    return model(images) if output == "logits" else model.features(images).pooled


def _computed(exported: ExportedModel, card: ModelCard, batch: ImageBatch) -> Tensor:
    """What the file computes of a batch, from whole images if it preprocesses them itself."""
    if not exported.metadata.with_preprocessing:
        return exported(card.preprocessing.normalise(batch.pixels))
    return torch.cat([exported(image[None]) for image in batch.whole])


def _probe(
    reference: Compute,
    exported: ExportedModel,
    card: ModelCard,
    images: ReferenceImages,
    *,
    size: tuple[int, int],
    batch: int,
) -> Comparison:
    """Compares some images at one size and batch."""
    preprocessing = replace(card.preprocessing, image_size=size)
    before, after = [], []
    for part, _ in images.batches(preprocessing, batch, limit=PROBES, same_size=True):
        before.append(reference(preprocessing.normalise(part.pixels)))
        whole = exported.metadata.with_preprocessing
        after.append(exported(torch.stack(part.whole) if whole else preprocessing.normalise(part.pixels)))
    return _comparison(torch.cat(before), torch.cat(after), size=size, batch=batch, metadata=exported.metadata)


def _comparison(
    before: Tensor, after: Tensor, *, size: tuple[int, int], batch: int, metadata: ExportMetadata
) -> Comparison:
    difference = (after - before).abs()
    is_logits, card = metadata.output == "logits", metadata.card
    before, after = (values if is_logits else values.flatten(1) for values in (before, after))
    if is_logits and card.target == "regression":
        deviation = before.std() if len(before) > 1 else before.abs().mean()
        same = ((after - before).abs() <= CLOSE * deviation).all(-1)
    elif is_logits and card.target == "multi-label":
        thresholds = torch.tensor(card.label_thresholds)
        same = ((before.sigmoid() >= thresholds) == (after.sigmoid() >= thresholds)).all(-1)
    elif is_logits:
        same = before.argmax(-1) == after.argmax(-1)
    else:
        same = torch.cosine_similarity(before.double(), after.double(), dim=-1) > COSINE
    same = same & after.isfinite().all(-1)  # half precision may overflow
    return Comparison(
        size=size,
        batch=batch,
        num_images=same.numel(),
        largest=difference.max().item(),
        mean=difference.mean().item(),
        scale=before.abs().max().item(),
        equal=int(same.sum()),
    )


def _labelled(before: Tensor, after: Tensor, truth: Int64[Tensor, " n"]) -> Labelled:
    accuracy, error = [], []
    for logits in (before, after):
        confidence, predicted = logits.softmax(1).max(1)
        correct = predicted == truth
        accuracy.append(correct.double().mean().item())
        error.append(calibration(confidence.nan_to_num(), correct).error)
    return Labelled(num_images=len(truth), accuracy=(accuracy[0], accuracy[1]), ece=(error[0], error[1]))


def _sizes(model: Model) -> tuple[tuple[int, int], ...]:
    """The model's own size, a taller and a wider one, in whole patches."""
    (h, w), (p, q) = model.config.image_hw, model.config.patch_hw if isinstance(model, ViT) else (1, 1)
    if not isinstance(model, ViT):
        return (h, w), (h * 3 // 2, w), (h, w * 5 // 4)
    rows, columns = h // p, w // q
    return (h, w), (-(-rows * 3 // 2) * p, w), (max(rows * 3 // 4, 2) * p, -(-columns * 5 // 4) * q)
