"""Figure 9: class token, mean or attention pooling, each at several learning rates."""

from dataclasses import replace

from vitral.studies.base import base, train_for, with_model
from vitral.studies.findings import Equivalence, Ordering, Side
from vitral.studies.study import FEW_SHOT, TOP1, Arm, Finding, Size, Study

__all__ = ["HEAD"]

POOLS = {"cls": "class token", "gap": "mean", "map": "attention pooling"}

RATES: dict[Size, tuple[float, ...]] = {
    "mini": (5e-4, 2e-3, 8e-3),
    "small": (3e-4, 1e-3, 3e-3),
    "paper": (1e-4, 3e-4, 8e-4),
}


def arms(size: Size) -> list[Arm]:
    """Every pooling at every rate."""
    run = base(size)
    if size == "mini":
        run = with_model(train_for(run, steps=1000), patch_size=7)
    return [
        Arm(
            name=f"{POOLS[pool]}, rate {rate:g}",
            config=with_model(replace(run, optim=replace(run.optim, lr=rate)), pool=pool),
            x=rate,
            line=POOLS[pool],
        )
        for pool in POOLS
        for rate in RATES[size]
    ]


def findings(arms: list[Arm]) -> list[Finding]:
    """Each at its best rate is alike; the mean at the class token's highest rate is worse than at its own."""

    def side(line: str, arms_of: list[Arm]) -> Side:
        return Side(label=f"{line} at its best rate", arms=tuple(arm.name for arm in arms_of), reduce="best")

    lines = {line: [arm for arm in arms if arm.line == line] for line in POOLS.values()}
    cls, mean, attention = (side(line, lines[line]) for line in POOLS.values())
    highest = max(lines["mean"], key=lambda arm: arm.x or 0)
    return [
        Equivalence(claim="mean and class token are alike, each at its own rate", first=mean, second=cls, margin=0.01),
        Equivalence(
            claim="attention pooling and class token are alike, each at its own rate",
            first=attention,
            second=cls,
            margin=0.01,
        ),
        Ordering(
            claim="a rate that is too high for the mean makes it look bad",
            better=mean,
            worse=Side(label=highest.name, arms=(highest.name,)),
        ),
    ]


HEAD = Study(
    name="head",
    title="Class token, mean or attention pooling",
    source="Figure 9, appendix D.3",
    sentence="class token and mean of the patches work similarly well, but need different learning rates; with the "
    "class token's rate the mean looked much worse.",
    metrics=(FEW_SHOT, TOP1),
    arms={"mini": lambda: arms("mini"), "small": lambda: arms("small"), "paper": lambda: arms("paper")},
    findings=findings,
    x_label="learning rate",
    log_x=True,
    note="The paper shows curves over training and publishes no table; the best rate of each is picked on the same "
    "images that are reported.",
)
