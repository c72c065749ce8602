"""Table 8: position embeddings, and where they are added."""

from vitral.studies.base import base, with_model
from vitral.studies.findings import Equivalence, Ordering, Side
from vitral.studies.study import FEW_SHOT, TOP1, Arm, Finding, Size, Study

__all__ = ["POSITIONS"]

PAPER: dict[tuple[str, str], float] = {
    ("none", "stem"): 0.61382,
    ("learned_1d", "stem"): 0.64206,
    ("learned_1d", "every_layer"): 0.63964,
    ("learned_1d", "every_layer_shared"): 0.64292,
    ("learned_2d", "stem"): 0.64001,
    ("learned_2d", "every_layer"): 0.64046,
    ("learned_2d", "every_layer_shared"): 0.64022,
    ("relative", "stem"): 0.64032,
}
"""5-shot accuracy on ImageNet of ViT-B/16 (Table 8)."""

LATER = (("sincos_2d", "stem"), ("rope", "stem"))
"""Positions that the paper does not have."""

NAMES = {"none": "none", "learned_1d": "1-D", "learned_2d": "2-D", "relative": "relative"}
NAMES |= {"sincos_2d": "sine-cosine", "rope": "RoPE"}
PLACES = {"stem": "", "every_layer": ", every layer", "every_layer_shared": ", every layer, shared"}


def arms(size: Size) -> list[Arm]:
    """One arm for each cell of the table, and the later positions."""
    return [
        Arm(
            name=f"{NAMES[position]}{PLACES[injection]}",
            config=with_model(base(size), position=position, position_injection=injection),
            paper={FEW_SHOT: PAPER[position, injection]} if (position, injection) in PAPER else {},
        )
        for position, injection in (*PAPER, *LATER)
    ]


def findings(arms: list[Arm]) -> list[Finding]:
    """Any position beats none; the kinds and places of the paper are alike."""
    learned = [arm for arm in arms if arm.paper and arm.name != "none"]
    mean = sum(arm.paper[FEW_SHOT] for arm in learned) / len(learned)
    one = PAPER["learned_1d", "stem"]
    tested: list[Finding] = [
        Ordering(
            claim="any position embedding beats none",
            better=Side(label="with positions", arms=tuple(arm.name for arm in learned)),
            worse=Side(label="without", arms=("none",)),
            paper=mean - PAPER["none", "stem"],
        )
    ]
    for arm in learned[1:]:
        tested.append(
            Equivalence(
                claim=f"{arm.name} is like 1-D at the stem",
                first=Side(label=arm.name, arms=(arm.name,)),
                second=Side(label="1-D", arms=("1-D",)),
                margin=0.01,
                paper=arm.paper[FEW_SHOT] - one,
            )
        )
    return tested


POSITIONS = Study(
    name="positions",
    title="Position embeddings",
    source="Table 8, appendix D.4",
    sentence="a model without position embedding is about 3 points worse, and how positions are encoded and where they "
    "are added hardly matters.",
    metrics=(FEW_SHOT, TOP1),
    arms={"mini": lambda: arms("mini"), "small": lambda: arms("small"), "paper": lambda: arms("paper")},
    findings=findings,
    note="The paper measures 5-shot accuracy on ImageNet after pre-training on JFT; mini measures it on the data that "
    "the model was trained on.",
)
