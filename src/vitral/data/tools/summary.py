"""What data consists of: images of each class, formats, sizes, orientations, colour profiles."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vitral.data.images.facts import ImageFacts
from vitral.data.sources.source import Source
from vitral.data.sources.targets import label_counts

__all__ = ["DataSummary", "SummaryBuilder"]


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """Counts of readable images, but for `classes`, which has all."""

    classes: dict[str, dict[str, int]]
    """Images of each class by split."""
    short_sides: tuple[int, int, int] | None
    """The smallest, the median and the largest short side in pixels; None: no image can be read."""
    properties: dict[str, dict[str, int]]
    """Images by the value of each property, such as `format`, the most frequent value first."""

    @property
    def imbalance(self) -> tuple[str, str, float] | None:
        """The classes with the most and the fewest training images, and their ratio; None for fewer than two."""
        counts = {name: by_split["train"] for name, by_split in self.classes.items() if by_split.get("train")}
        if len(counts) < 2:
            return None
        most, fewest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        return most, fewest, counts[most] / counts[fewest]


@dataclass(kw_only=True)
class SummaryBuilder:
    """Collects what one image after another says."""

    splits: Mapping[str, Source]
    short_sides: list[int] = field(default_factory=list)
    counters: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, size: tuple[int, int], facts: ImageFacts | None) -> None:
        """Adds an image.

        Args:
            size: width and height of the upright image.
            facts: what its file says; None for images that are no pictures.
        """
        self.short_sides.append(min(size))
        if facts is None:
            return
        values = {
            "format": facts.format or "pixels",
            "mode": facts.mode,
            "orientation": "stored upright" if facts.orientation == 1 else "turned as the file says",
            "colour profile": facts.profile or "none",
            "frames": "several, the first is read" if facts.several else "one",
        }
        for name, value in values.items():
            self.counters[name][value] += 1

    def build(self) -> DataSummary:
        """The summary of all images that were added."""
        sides = np.array(self.short_sides)
        counts = {split: label_counts(source).tolist() for split, source in self.splits.items()}
        names = self.splits["train"].classes
        return DataSummary(
            classes={name: {split: counts[split][row] for split in counts} for row, name in enumerate(names)},
            short_sides=(int(sides.min()), int(np.median(sides)), int(sides.max())) if len(sides) else None,
            properties={name: dict(counter.most_common()) for name, counter in self.counters.items()},
        )
