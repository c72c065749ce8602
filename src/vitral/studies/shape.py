"""Figure 8: which dimension of the Transformer to scale."""

from vitral.inspection.cost import cost
from vitral.studies.base import base, train_for, with_model
from vitral.studies.findings import Ordering, Side
from vitral.studies.study import FEW_SHOT, TOP1, Arm, Finding, Study

__all__ = ["SHAPE"]

CENTRE = dict(depth=4, width=64, mlp_dim=128, patch_size=7)
"""The base point; in the paper 8 layers, width 1024, MLP 2048, patches of 32 pixels."""

SCALED: dict[str, tuple[dict[str, int], ...]] = {
    "depth": (dict(depth=2), dict(depth=8), dict(depth=16)),
    "width": (dict(width=32), dict(width=128), dict(width=192)),
    "MLP": (dict(mlp_dim=64), dict(mlp_dim=512), dict(mlp_dim=1024)),
    "patch size": (dict(patch_size=14), dict(patch_size=4), dict(patch_size=2)),
    "all": (
        dict(depth=2, width=32, mlp_dim=64, patch_size=14),
        dict(depth=6, width=96, mlp_dim=192, patch_size=4),
    ),
}
"""The other points of each line."""


def arms() -> list[Arm]:
    """The base point, which lies on every line, and the points that scale one dimension or all."""
    run = with_model(train_for(base("mini"), steps=500), **CENTRE)
    reference = cost(run.model.architecture).macs
    found = []
    for line, points in SCALED.items():
        for changes in ({}, *points):
            config = with_model(run, **changes)
            values = ", ".join(f"{name} {value}" for name, value in changes.items()) or "base"
            relative = cost(config.model.architecture).macs / reference
            found.append(Arm(name=f"{line}: {values}", config=config, x=relative, line=line))
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """Of the largest points of each line, depth gains more than width; smaller patches and more of all gain."""

    def largest(line: str) -> Side:
        arm = max((arm for arm in arms if arm.line == line), key=lambda arm: arm.x or 0)
        return Side(label=arm.name, arms=(arm.name,))

    centre = Side(label="the base point", arms=("depth: base",))
    return [
        Ordering(claim="scaling depth helps", better=largest("depth"), worse=centre),
        Ordering(claim="scaling depth helps more than scaling width", better=largest("depth"), worse=largest("width")),
        Ordering(claim="smaller patches help", better=largest("patch size"), worse=centre),
        Ordering(claim="scaling all dimensions helps", better=largest("all"), worse=centre),
    ]


SHAPE = Study(
    name="shape",
    title="Scaling one dimension of the Transformer",
    source="Figure 8, appendix D.2",
    sentence="scaling depth improves most, width least; smaller patches help steadily without more parameters, and "
    "scaling all dimensions together is robust.",
    metrics=(FEW_SHOT, TOP1),
    arms={"mini": arms},
    findings=findings,
    x_label="relative multiply-accumulates",
    log_x=True,
    note="The paper publishes no table; its points are 1 to 64 layers at widths of 512 to 4096.",
)
