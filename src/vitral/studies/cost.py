"""Figure 5 and Table 6: transfer against the arithmetic of pre-training, for ViTs, hybrids and BiT ResNets."""

from typing import Any

from vitral.inspection.cost import cost
from vitral.inspection.plan import exaflops
from vitral.models import architecture
from vitral.studies.base import base, train_for, with_model
from vitral.studies.findings import Equivalence, Ordering, Side
from vitral.studies.study import TOP1, TRANSFER, Arm, Finding, Study
from vitral.vit_config import ViTConfig

__all__ = ["COST"]

STEPS, SIDE = 500, 32
"""Length of pre-training, and pixels, which the strides of the hybrids divide."""

VIT, HYBRID, BIT = "ViT", "hybrid", "BiT ResNet"

SMALL = dict(width=48, mlp_dim=192, depth=3, num_heads=4)
LARGE = dict(width=96, mlp_dim=384, depth=4, num_heads=4)

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT small/8": (VIT, dict(patch_size=8, **SMALL)),
    "ViT small/4": (VIT, dict(patch_size=4, **SMALL)),
    "ViT large/8": (VIT, dict(patch_size=8, **LARGE)),
    "ViT large/4": (VIT, dict(patch_size=4, **LARGE)),
    "R+ViT small/8": (HYBRID, dict(patch_size=8, stem_stages=(1, 1), stem_width=32, **SMALL)),
    "R+ViT large/8": (HYBRID, dict(patch_size=8, stem_stages=(1, 1), stem_width=32, **LARGE)),
    "BiT small": (BIT, dict(stages=(1, 1, 1), root_width=32)),
    "BiT deep": (BIT, dict(stages=(2, 2, 2), root_width=32)),
    "BiT wide": (BIT, dict(stages=(1, 1, 1), root_width=64)),
}
"""Kind and shape by name."""


def arms() -> list[Arm]:
    """Every model, pre-trained for the same number of steps."""
    run = train_for(base("mini"), steps=STEPS)
    found = []
    for name, (line, shape) in MODELS.items():
        if line == BIT:
            model = architecture("BiT-R50x1", image_size=SIDE, channels=1, num_classes=10, **shape)
        else:
            model = ViTConfig(image_size=SIDE, channels=1, num_classes=10, **shape)
        arithmetic = 1e6 * exaflops(cost(model).macs, images=STEPS * run.train.batch_size)
        found.append(Arm(name=name, config=with_model(run, model), x=arithmetic, line=line))
    return found


def rival(arm: Arm, arms: list[Arm]) -> Arm:
    """The best-endowed ViT of no more arithmetic, or the smallest."""
    vits = sorted((other for other in arms if other.line == VIT), key=lambda other: other.x or 0)
    affordable = [other for other in vits if (other.x or 0) <= (arm.x or 0)]
    return affordable[-1] if affordable else vits[0]


def findings(arms: list[Arm]) -> list[Finding]:
    """A ViT of no more arithmetic beats each ResNet; a hybrid beats the ViT when small, and is like it when large."""

    def side(arm: Arm) -> Side:
        return Side(label=arm.name, arms=(arm.name,))

    hybrids = sorted((arm for arm in arms if arm.line == HYBRID), key=lambda arm: arm.x or 0)
    tested: list[Finding] = [
        Ordering(claim=f"{rival(bit, arms).name} beats {bit.name}", better=side(rival(bit, arms)), worse=side(bit))
        for bit in arms
        if bit.line == BIT
    ]
    least, most = hybrids[0], hybrids[-1]
    return [
        *tested,
        Ordering(
            claim=f"the small hybrid beats {rival(least, arms).name}",
            better=side(least),
            worse=side(rival(least, arms)),
        ),
        Equivalence(
            claim=f"the large hybrid is like {rival(most, arms).name}",
            first=side(most),
            second=side(rival(most, arms)),
            margin=0.01,
        ),
    ]


COST = Study(
    name="cost",
    title="Transfer against the arithmetic of pre-training",
    source="Figure 5 and Table 6, section 4.4",
    sentence="for the same transfer accuracy ViTs need 2 to 4 times less arithmetic than ResNets; hybrids are slightly "
    "better than ViTs at small budgets, and the difference vanishes for larger models.",
    metrics=(TRANSFER, TOP1),
    arms={"mini": arms},
    findings=findings,
    x_label="teraFLOPs of pre-training",
    log_x=True,
    note="Pre-trained on Fashion-MNIST; transfer is a linear probe on the tasks of vtab-mini but Fashion-MNIST, and "
    "the paper's is fine-tuning on ImageNet, CIFAR, Pets and Flowers after JFT.",
)
