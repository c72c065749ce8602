"""Figure 13: attention along rows, then along columns, instead of among all patches."""

from vitral.inspection.cost import cost
from vitral.studies.base import base, with_model
from vitral.studies.findings import Ordering, Side
from vitral.studies.study import FEW_SHOT, TOP1, Arm, Finding, Study

__all__ = ["AXIAL"]

DEPTHS = (2, 4)
PLAIN, ROWS = "plain", "axial"


def arms() -> list[Arm]:
    """Both kinds at two depths, pooled by the mean, as a class token has no row or column."""
    kinds = {PLAIN: "global", ROWS: "axial"}
    found = []
    for line, attention in kinds.items():
        for depth in DEPTHS:
            config = with_model(base("mini"), depth=depth, attention=attention, pool="gap")
            macs = cost(config.model.architecture).macs / 1e6
            found.append(Arm(name=f"{line}, {depth} blocks", config=config, x=macs, line=line))
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """Axial blocks are better at equal depth, and cost more."""

    def side(line: str, depth: int) -> Side:
        return Side(label=f"{line}, {depth} blocks", arms=(f"{line}, {depth} blocks",))

    return [
        Ordering(
            claim=f"the axial model of {depth} blocks beats the plain one of as many",
            better=side(ROWS, depth),
            worse=side(PLAIN, depth),
        )
        for depth in DEPTHS
    ]


AXIAL = Study(
    name="axial",
    title="Axial attention",
    source="Figure 13, appendix D.6",
    sentence="Axial-ViT-B/32 and B/16 are better than their ViT counterparts in 5-shot accuracy, at the cost of more "
    "compute, as each block becomes two.",
    metrics=(FEW_SHOT, TOP1),
    arms={"mini": arms},
    findings=findings,
    x_label="million multiply-accumulates",
    note="An axial block has twice the parameters of a plain one, so compare models of equal multiply-accumulates too.",
)
