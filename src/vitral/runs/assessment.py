"""What a classifier is worth: beside simple methods on the same images, and which of its mistakes cost most."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vitral.evals.baselines import PIXELS, Baselines, PretrainedProbe
from vitral.evals.predictions import Predictions
from vitral.files import write_json

__all__ = ["Advisor", "Assessment", "assess", "load_assessment", "save_assessment"]

ASSESSMENT = "assessment.json"
"""Name of the file in a run's folder."""

MAX_CONFUSIONS, MAX_NAMES = 3, 8
"""Confusions and names of classes that are listed."""

METHODS = {
    "logistic_regression": f"logistic regression on pixels at {PIXELS}x{PIXELS}",
    "nearest_neighbour": f"nearest neighbour on pixels at {PIXELS}x{PIXELS}",
    "majority_class": "always the most frequent class",
}
"""Each baseline on pixels in words."""

PAIR_FRACTION = 0.25
"""Fraction of all mistakes from which two classes are worth a look by themselves."""

SMALL_CLASS = 0.5
"""A class with fewer images than this fraction of the mean is small."""


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """The accuracy of a run's model on test images beside that of simple methods."""

    split: str
    accuracy: float
    """Fraction of the images that the model classifies correctly."""
    baselines: Baselines
    never_predicted: tuple[str, ...]
    """Classes with images in the split that the model predicts for none of its images."""
    confusions: tuple[tuple[str, str, int, int], ...]
    """The most frequent mistakes: true class, predicted class, number of images, images of the true class."""
    advice: str
    """One sentence."""

    def rows(self) -> list[tuple[str, str]]:
        """The model and each baseline in words, with its accuracy."""
        methods = [(_method(name, self.baselines), value) for name, value in self.baselines.accuracies().items()]
        return [(name, f"{value:.1%}") for name, value in (("this model", self.accuracy), *methods)]

    def lines(self) -> list[str]:
        """Lines for the terminal."""
        found, rows = [], self.rows()
        width = max(len(name) for name, _ in rows)
        found.append(f"accuracy on {self.baselines.num_test:,} {self.split} images, beside simple methods:")
        found += [f"  {name:<{width}}  {value:>6}" for name, value in rows]
        if self.never_predicted:
            found.append(f"never predicted: {shortened(self.never_predicted)}")
        if self.confusions:
            pairs = (f"{truth} as {other} ({count} of {total})" for truth, other, count, total in self.confusions)
            found.append(f"most frequent mistakes: {', '.join(pairs)}")
        return [*found, f"advice: {self.advice}"]


@dataclass(frozen=True, kw_only=True)
class Advisor:
    """What the advice depends on, besides the predictions."""

    classes: tuple[str, ...]
    counts: Int64[np.ndarray, " classes"]
    """Training images of each class."""
    longer: str
    """Flag that trains for longer."""
    pretrained: bool
    """Whether the run started from trained weights."""
    finetune: str
    """Command that fine-tunes a pretrained model on the same images."""

    def advise(self, assessment: Assessment, wrong: Int64[np.ndarray, " classes"]) -> str:
        """The sentence that helps most.

        Args:
            assessment: without its advice.
            wrong: mistakes by true class.
        """
        best, accuracy = max(assessment.baselines.accuracies().items(), key=lambda one: one[1])
        if assessment.accuracy <= accuracy:
            other = "" if self.pretrained else f", or fine-tune a pretrained model with {self.finetune}"
            method = _method(best, assessment.baselines)
            return f"the model is no better than {method}: train for longer with {self.longer}{other}"
        if not wrong.sum():
            return "no mistake on these images: try images from elsewhere"
        small = [name for name in assessment.never_predicted if self._is_small(name)]
        if small:
            number = self.counts[self.classes.index(small[0])]
            return (
                f"add images of {small[0]}, which has {number:,} of {self.counts.sum():,} training images, or train "
                "with --data.sampling balanced"
            )
        truth, other, *_ = assessment.confusions[0] if assessment.confusions else ("", "")
        between = sum(count for a, b, count, _ in assessment.confusions if {a, b} == {truth, other})
        if len(self.classes) > 2 and between >= PAIR_FRACTION * wrong.sum():
            return f"{between} of {wrong.sum()} mistakes are between {truth} and {other}: check their images and labels"
        if not self.pretrained:
            return f"fine-tune a pretrained model with {self.finetune}, or train for longer with {self.longer}"
        worst = int(wrong.argmax())
        return f"add images of {self.classes[worst]}, which has most of the mistakes ({wrong[worst]} of {wrong.sum()})"

    def _is_small(self, name: str) -> bool:
        return bool(self.counts[self.classes.index(name)] < SMALL_CLASS * self.counts.mean())


def _method(name: str, baselines: Baselines) -> str:
    """A baseline in words."""
    probe = baselines.linear_probe
    if name != "linear_probe" or probe is None:
        return METHODS[name]
    some = f" ({probe.num_test:,} of the images)" if probe.num_test < baselines.num_test else ""
    return f"linear probe of {probe.model}{some}"


def assess(split: str, predictions: Predictions, baselines: Baselines, advisor: Advisor) -> Assessment:
    """Compares predictions with baselines on the same images."""
    classes, num_classes = advisor.classes, predictions.num_classes
    truth, predicted = predictions.truth, predictions.top[:, 0]
    num_images, wrong = truth.bincount(minlength=num_classes), truth != predicted
    missing = (num_images > 0) & (predicted.bincount(minlength=num_classes) == 0)
    pairs, counts = (truth[wrong] * num_classes + predicted[wrong]).unique(return_counts=True)
    most = counts.argsort(descending=True, stable=True)[:MAX_CONFUSIONS]
    found = Assessment(
        split=split,
        accuracy=(~wrong).double().mean().item(),
        baselines=baselines,
        never_predicted=tuple(classes[number] for number in missing.nonzero()[:, 0].tolist()),
        confusions=tuple(
            (classes[pair // num_classes], classes[pair % num_classes], count, int(num_images[pair // num_classes]))
            for pair, count in zip(pairs[most].tolist(), counts[most].tolist(), strict=True)
        ),
        advice="",
    )
    mistakes = truth[wrong].bincount(minlength=num_classes).numpy()
    return replace(found, advice=advisor.advise(found, mistakes))


def shortened(names: tuple[str, ...]) -> str:
    """Names separated by commas; of many the first."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def save_assessment(folder: Path, assessment: Assessment) -> None:
    """Writes `assessment.json` into a run's folder."""
    write_json(folder / ASSESSMENT, asdict(assessment))


def load_assessment(folder: Path) -> Assessment | None:
    """Reads `assessment.json`; None if there is none, or the file is damaged."""
    try:
        values = json.loads((folder / ASSESSMENT).read_text())
        tuples = {"never_predicted": tuple(values["never_predicted"])}
        tuples["confusions"] = tuple(map(tuple, values["confusions"]))
        probe = values["baselines"].get("linear_probe")
        probe = probe and PretrainedProbe(**probe)
        baselines = Baselines(**{**values["baselines"], "linear_probe": probe})
        return Assessment(**{**values, **tuples, "baselines": baselines})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
