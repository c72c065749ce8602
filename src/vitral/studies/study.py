"""What a study is: the runs that it compares, and the findings of the paper that it tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vitral.errors import UserError
from vitral.studies.findings import Equivalence, Ordering, Side
from vitral.train.config import RunConfig

__all__ = [
    "FEW_SHOT",
    "LARGEST_BATCH",
    "SIZES",
    "SPEED",
    "TOP1",
    "TRANSFER",
    "UNTRAINED",
    "Arm",
    "Finding",
    "Size",
    "Study",
    "as_text",
    "side_of",
]

Size = Literal["mini", "small", "paper"]
"""mini: two cores and Fashion-MNIST, less than an hour or two. small: one GPU. paper: the paper's setting."""

SIZES: tuple[Size, ...] = ("mini", "small", "paper")

TOP1, FEW_SHOT = "top-1", "5-shot"
"""Metrics: accuracy on test images after training; accuracy of least squares on features, from 5 images a class."""

TRANSFER = "vtab-mini"
"""Metric: mean accuracy of a linear probe over the tasks of vtab-mini but Fashion-MNIST, on which `mini` pre-trains."""

SPEED, LARGEST_BATCH = "images/s", "largest batch"
"""Metrics of an architecture: its highest speed of inference on this machine; images of a training step on an H100."""

UNTRAINED = (SPEED, LARGEST_BATCH)
"""Metrics that need no training, and are no fractions."""

Finding = Ordering | Equivalence


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One setting that a study compares; it is trained with every seed."""

    name: str
    """Unique in the study."""
    config: RunConfig
    """Without seed and folder."""
    start: RunConfig | None = None
    """A run whose model this arm starts from, trained with the same seed."""
    x: float | None = None
    """Its place on the horizontal axis."""
    line: str | None = None
    """The line, or colour of bars, that it belongs to in the picture."""
    group: str | None = None
    """The group of bars that it is part of; a bar is a mean."""
    paper: Mapping[str, float] = field(default_factory=dict)
    """The paper's values by metric, as fractions."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table or figure of the paper.

    Raises:
        UserError: in `arms_of`, the study has no such size.
    """

    name: str
    title: str
    source: str
    """Where the paper has it, such as `Table 8, appendix D.4`."""
    sentence: str
    """What the paper found, as one or two sentences."""
    metrics: tuple[str, ...]
    """The first is the one of the picture."""
    arms: Mapping[Size, Callable[[], list[Arm]]]
    """The arms by size."""
    findings: Callable[[list[Arm]], list[Finding]]
    """What is tested, for these arms."""
    x_label: str | None = None
    """The horizontal axis; None: one row for each arm."""
    log_x: bool = False
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The paper's bars, if arms have groups: by model, then by group."""
    note: str = ""
    """What a reader of the result must know: how the setting differs from the paper's."""

    def arms_of(self, size: Size) -> list[Arm]:
        """The arms of a size.

        Raises:
            UserError: the study has no such size.
        """
        if size not in self.arms:
            raise UserError(f"the study {self.name} has no size {size}: choose --size {' or '.join(self.arms)}")
        arms = self.arms[size]()
        assert len({arm.name for arm in arms}) == len(arms), "two arms have the same name"
        return arms


def side_of(arms: Sequence[Arm], name: str) -> Side:
    """One arm as a side of a comparison."""
    assert any(arm.name == name for arm in arms), f"there is no arm {name}"
    return Side(label=name, arms=(name,))


def as_text(metric: str, value: float) -> str:
    """A value of a metric, such as `81.25%` or `1,024`."""
    if metric not in UNTRAINED:
        return f"{value:.2%}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
