"""Table 7: ResNets pre-trained with Adam or with SGD."""

from dataclasses import replace

from vitral.data.config import DataConfig
from vitral.models import architecture
from vitral.studies.base import base, fine_tuned, train_for, with_model
from vitral.studies.findings import Ordering, Side
from vitral.studies.study import TOP1, Arm, Finding, Study
from vitral.train.optimisers.optimiser import OptimConfig

__all__ = ["OPTIMISER"]

PAPER = {("small", "Adam"): 0.8933, ("small", "SGD"): 0.8879, ("large", "Adam"): 0.9401, ("large", "SGD"): 0.9372}
"""Average over five data sets of R50x1 and R152x2 (Table 7)."""

RESNETS = {"small": dict(stages=(1, 1, 1), root_width=32), "large": dict(stages=(2, 2, 2), root_width=64)}

OPTIMISERS = {
    "Adam": OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05),
    "SGD": OptimConfig(name="sgd", lr=0.1, weight_decay=5e-4, momentum=0.9),
}
"""For pre-training; fine-tuning is by SGD."""


def arms() -> list[Arm]:
    """Two ResNets pre-trained with each optimiser, then fine-tuned on 200 digits."""
    found = []
    for size, shape in RESNETS.items():
        for name, optim in OPTIMISERS.items():
            bit = architecture("BiT-R50x1", image_size=28, channels=1, num_classes=10, **shape)
            start = replace(with_model(train_for(base("mini"), steps=500), bit), optim=optim)
            digits = DataConfig(source="digits", limit=200)
            config = fine_tuned(start, steps=150, lr=0.03, data=digits, augment=replace(start.augment, flip=False))
            paper = {TOP1: PAPER[size, name]}
            found.append(Arm(name=f"{size} ResNet, {name}", config=config, start=start, paper=paper))
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """Pre-training with Adam transfers better."""
    assert len(arms) == len(PAPER)
    return [
        Ordering(
            claim=f"pre-training the {size} ResNet with Adam transfers better than with SGD",
            better=Side(label="Adam", arms=(f"{size} ResNet, Adam",)),
            worse=Side(label="SGD", arms=(f"{size} ResNet, SGD",)),
            paper=PAPER[size, "Adam"] - PAPER[size, "SGD"],
        )
        for size in RESNETS
    ]


OPTIMISER = Study(
    name="optimiser",
    title="ResNets pre-trained with Adam or SGD",
    source="Table 7, appendix D.1",
    sentence="ResNets pre-trained with Adam transfer better on average than with SGD, though SGD is the usual choice.",
    metrics=(TOP1,),
    arms={"mini": arms},
    findings=findings,
    note="Pre-trained on Fashion-MNIST and fine-tuned on 200 digits; the paper's values are means over ImageNet, "
    "CIFAR, Pets and Flowers after JFT.",
)
