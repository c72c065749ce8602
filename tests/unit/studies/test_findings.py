"""Verdicts come from the stated tests: compared with scipy's, and at the edges."""

import math

import pytest
from scipy.stats import ttest_ind

from vitral.studies.findings import Equivalence, Ordering, Side

CLEAR = {"a": [0.90, 0.91, 0.92], "b": [0.80, 0.81, 0.82]}


def side(*arms: str, **changes: str) -> Side:
    return Side(label=" and ".join(arms), arms=arms, **changes)


def ordering(**changes: float) -> Ordering:
    return Ordering(claim="a beats b", better=side("a"), worse=side("b"), **changes)


def equivalence(margin: float) -> Equivalence:
    return Equivalence(claim="a is like b", first=side("a"), second=side("b"), margin=margin)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (CLEAR["a"], CLEAR["b"], "reproduced"),
        (CLEAR["b"], CLEAR["a"], "not reproduced"),
        ([0.90, 0.80, 0.85], [0.84, 0.86, 0.83], "not visible at this size"),
        ([0.9], [0.1], "not visible at this size"),
        ([0.9, 0.9], [0.9, 0.9], "not visible at this size"),
        ([0.9, 0.9], [0.8, 0.8], "not visible at this size"),
        ([], [0.8, 0.8], "not measured"),
    ],
)
def test_an_ordering(first: list[float], second: list[float], verdict: str) -> None:
    outcome = ordering().test({"a": first, "b": second})
    assert outcome.verdict == verdict
    if len(first) == 3:
        assert outcome.p == pytest.approx(ttest_ind(first, second, equal_var=False, alternative="greater").pvalue)


def test_numbers_are_in_the_sentence() -> None:
    outcome = ordering(paper=0.03).test(CLEAR)
    assert outcome.difference == pytest.approx(0.1)
    assert "a 91.00% against b 81.00%: +10.00 points (paper +3.00 points), p = " in outcome.detail
    assert "3 seeds" in outcome.detail


@pytest.mark.parametrize(
    ("first", "margin", "verdict"),
    [
        ([0.810, 0.811, 0.809], 0.01, "reproduced"),
        ([0.90, 0.91, 0.92], 0.01, "not reproduced"),
        ([0.820, 0.821, 0.819], 0.01, "not visible at this size"),
        ([0.70, 0.90, 0.83], 0.01, "not visible at this size"),
        ([0.70, 0.71, 0.72], 0.01, "not reproduced"),
        ([0.81], 0.01, "not visible at this size"),
    ],
)
def test_an_equivalence(first: list[float], margin: float, verdict: str) -> None:
    second = [0.810, 0.8105, 0.8095] if len(first) == 3 else [0.81]
    outcome = equivalence(margin).test({"a": first, "b": second})
    assert outcome.verdict == verdict
    if len(first) == 3:
        lower = ttest_ind([value + margin for value in first], second, equal_var=False, alternative="greater").pvalue
        upper = ttest_ind([value - margin for value in first], second, equal_var=False, alternative="less").pvalue
        assert outcome.p == pytest.approx(max(lower, upper))


def test_speeds_are_compared_by_their_logarithms() -> None:
    fast, slow = [200.0, 210.0, 190.0], [100.0, 104.0, 97.0]
    values = {"a": fast, "b": slow}
    outcome = ordering(ratio=True).test(values)
    logs = [math.log(value) for value in fast], [math.log(value) for value in slow]
    assert outcome.verdict == "reproduced"
    assert outcome.p == pytest.approx(ttest_ind(*logs, equal_var=False, alternative="greater").pvalue)
    assert "1.99 times" in outcome.detail
    alike = Equivalence(claim="alike", first=side("a"), second=side("b"), margin=math.log(3), ratio=True).test(values)
    assert alike.verdict == "reproduced"
    assert "within a factor of 3" in alike.detail


def test_several_arms_become_one_value_for_each_seed() -> None:
    values = {"a": [0.2, 0.4], "b": [0.4, 0.8], "c": []}
    assert side("a", "b").per_seed(values) == pytest.approx([0.3, 0.6])
    assert side("a", "b", reduce="best").per_seed(values) == [0.4, 0.8]
    assert side("a", "c").per_seed(values) == []
    assert side("a", "c", reduce="best").per_seed(values) == [0.2, 0.4]
    assert side("c", reduce="best").per_seed(values) == []
