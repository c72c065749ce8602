"""What the paper found, as tests of significance over seeds.

A finding is *reproduced* or *not reproduced* only if a test at 5 % says so; otherwise it is *not visible at this size*.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import stats

__all__ = ["LEVEL", "Equivalence", "Ordering", "Outcome", "Side", "Values", "Verdict"]

LEVEL = 0.05
"""Significance level of each test."""

Verdict = Literal["reproduced", "not reproduced", "not visible at this size", "not measured"]

UNCLEAR: Verdict = "not visible at this size"

Values = Mapping[str, Sequence[float]]
"""The metric of every arm: one value for each seed, in the order of the seeds."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison: arms, and how they become one value for each seed."""

    label: str
    arms: tuple[str, ...]
    reduce: Literal["mean", "best"] = "mean"
    """`mean`: of all arms. `best`: the arm with the highest mean over seeds; picking it favours the side a little."""

    def per_seed(self, values: Values) -> list[float]:
        """One value for each seed; empty if an arm has none."""
        rows = [list(values.get(arm, ())) for arm in self.arms]
        if self.reduce == "best":
            rows = [max((row for row in rows if row), key=statistics.fmean, default=[])]
        if not all(rows) or len({len(row) for row in rows}) != 1:
            return []
        return [statistics.fmean(column) for column in zip(*rows, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a test."""

    claim: str
    verdict: Verdict
    difference: float | None
    """First side minus second, as a fraction or of logarithms; None if it was not measured."""
    p: float | None
    """None if no test is possible."""
    detail: str
    """One sentence with the numbers."""


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """One side is better than the other: Welch's one-sided t-test over seeds, in both directions."""

    claim: str
    better: Side
    worse: Side
    paper: float | None = None
    """The paper's difference, as a fraction."""
    ratio: bool = False
    """Whether values are speeds, whose logarithms are compared."""

    def test(self, values: Values) -> Outcome:
        """The outcome for measured values."""
        found = compare(self.better, self.worse, values, paper=self.paper, ratio=self.ratio)
        if found is None or found.freedom is None:
            return _untested(self.claim, found)
        p = one_sided(found.difference, found.error, found.freedom)
        verdict: Verdict = "reproduced" if p < LEVEL else "not reproduced" if 1 - p < LEVEL else UNCLEAR
        detail = f"{found.detail}, p = {p:.2g} (Welch's one-sided t-test, {found.seeds} seeds)"
        return Outcome(claim=self.claim, verdict=verdict, difference=found.difference, p=p, detail=detail)


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Two sides are alike: two one-sided Welch t-tests against a margin."""

    claim: str
    first: Side
    second: Side
    margin: float
    """Largest difference that counts as none, as a fraction; with `ratio`, the logarithm of a ratio."""
    paper: float | None = None
    """The paper's difference, as a fraction."""
    ratio: bool = False
    """Whether values are speeds, whose logarithms are compared."""

    def test(self, values: Values) -> Outcome:
        """The outcome for measured values; `p` is the larger of the two tests."""
        found = compare(self.first, self.second, values, paper=self.paper, ratio=self.ratio)
        if found is None or found.freedom is None:
            return _untested(self.claim, found)
        size, rest = abs(found.difference), (found.error, found.freedom)
        p = one_sided(self.margin - size, *rest)  # the test against the nearer limit has the larger p
        beyond = one_sided(size - self.margin, *rest)
        verdict: Verdict = "reproduced" if p < LEVEL else "not reproduced" if beyond < LEVEL else UNCLEAR
        margin = f"a factor of {math.exp(self.margin):.3g}" if self.ratio else f"±{100 * self.margin:g} points"
        limits = f"within {margin} with p = {p:.2g}"
        detail = f"{found.detail}, {limits} (two one-sided Welch t-tests, {found.seeds} seeds)"
        return Outcome(claim=self.claim, verdict=verdict, difference=found.difference, p=p, detail=detail)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides in numbers."""

    difference: float
    error: float
    """Standard error of the difference of means."""
    freedom: float | None
    """Welch's degrees of freedom; None if no test is possible."""
    seeds: int
    detail: str
    """Both means and their difference, in words."""


def compare(one: Side, other: Side, values: Values, *, paper: float | None, ratio: bool) -> Comparison | None:
    """Compares two sides; None if an arm has no values, or not one for each seed."""
    first, second = one.per_seed(values), other.per_seed(values)
    if not first or not second:
        return None
    if ratio:
        first, second = [math.log(value) for value in first], [math.log(value) for value in second]
    means = statistics.fmean(first), statistics.fmean(second)
    difference = means[0] - means[1]
    shown = [f"{math.exp(mean):.4g}" if ratio else f"{mean:.2%}" for mean in means]
    gap = f"{math.exp(difference):.2f} times" if ratio else _points(difference)
    detail = f"{one.label} {shown[0]} against {other.label} {shown[1]}: {gap}"
    if paper is not None:
        detail += f" (paper {_points(paper)})"
    error, freedom = welch(first, second)
    return Comparison(difference=difference, error=error, freedom=freedom, seeds=len(first), detail=detail)


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float | None]:
    """Standard error of the difference of means, and Welch's degrees of freedom.

    They are None with fewer than two values, and with values that are all equal, from which no test can conclude.
    """
    if min(len(first), len(second)) < 2:
        return math.nan, None
    a, b = statistics.variance(first) / len(first), statistics.variance(second) / len(second)
    if a + b == 0:
        return 0.0, None
    return math.sqrt(a + b), (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))


def one_sided(difference: float, error: float, freedom: float) -> float:
    """Probability of a difference at least this large if the true one is 0."""
    return float(stats.t.sf(difference / error, freedom))


def _untested(claim: str, found: Comparison | None) -> Outcome:
    """The outcome without a test."""
    if found is None:
        detail = "a run of this comparison diverged, so there is nothing to test"
        return Outcome(claim=claim, verdict="not measured", difference=None, p=None, detail=detail)
    detail = f"{found.detail}; a test needs two seeds or more whose values differ"
    return Outcome(claim=claim, verdict=UNCLEAR, difference=found.difference, p=None, detail=detail)


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f} points"
