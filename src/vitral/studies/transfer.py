"""Tables 2 and 9, Figure 2: models fine-tuned on many small tasks, by group of tasks."""

from dataclasses import replace

from vitral.data.config import DataConfig
from vitral.models import architecture
from vitral.studies.base import base, fine_tuned, train_for, with_model
from vitral.studies.findings import Equivalence, Ordering, Side
from vitral.studies.measures import TRANSFER_TASKS
from vitral.studies.study import TOP1, Arm, Finding, Study
from vitral.train.config import RunConfig

__all__ = ["TRANSFER_STUDY"]

LARGE, SMALL, BIT = "large ViT", "small ViT", "BiT ResNet"

PUBLISHED = {
    "ViT-H/14": {"natural": 0.8669, "specialized": 0.8700, "structured": 0.6503, "all": 0.7763},
    "ViT-L/16": {"natural": 0.8556, "specialized": 0.8673, "structured": 0.6296, "all": 0.7628},
    "BiT-L": {"all": 0.7629},
}
"""VTAB-1k after pre-training on JFT-300M: group means of Table 9, and Table 2."""


def models() -> dict[str, RunConfig]:
    """Three models pre-trained on Fashion-MNIST; the small ViT and the ResNet cost about the same arithmetic."""
    run = with_model(train_for(base("mini"), steps=1000), patch_size=7)
    bit = architecture("BiT-R50x1", image_size=28, channels=1, stages=(2, 2, 1), root_width=32, num_classes=10)
    return {LARGE: with_model(run, width=128, mlp_dim=512, depth=6), SMALL: run, BIT: with_model(run, bit)}


def arms() -> list[Arm]:
    """Every model fine-tuned on the 1,000 training images of every task."""
    found = []
    for model, start in models().items():
        for name, task in TRANSFER_TASKS.items():
            flip = start.augment.flip and task.flip
            config = fine_tuned(
                start,
                steps=150,
                lr=0.03,
                data=DataConfig(source=name, train_on_val=True),
                augment=replace(start.augment, flip=flip),
            )
            arm = Arm(name=f"{model}: {task.title}", config=config, start=start, line=model, group=task.group)
            found.append(arm)
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """The largest ViT is ahead of the ResNet, most of all on natural and structured tasks."""

    def side(line: str, group: str | None = None) -> Side:
        members = tuple(arm.name for arm in arms if arm.line == line and group in (arm.group, None))
        return Side(label=line, arms=members)

    vit, bit = (PUBLISHED[name]["all"] for name in ("ViT-H/14", "BiT-L"))
    return [
        Ordering(
            claim="over all tasks the large ViT beats the BiT ResNet",
            better=side(LARGE),
            worse=side(BIT),
            paper=vit - bit,
        ),
        Ordering(
            claim="over all tasks the large ViT beats the small one",
            better=side(LARGE),
            worse=side(SMALL),
            paper=vit - PUBLISHED["ViT-L/16"]["all"],
        ),
        *(
            Ordering(
                claim=f"on {group} tasks the large ViT beats the BiT ResNet",
                better=side(LARGE, group),
                worse=side(BIT, group),
            )
            for group in ("natural", "structured")
        ),
        Equivalence(
            claim="on specialized tasks the large ViT and the BiT ResNet are alike",
            first=side(LARGE, "specialized"),
            second=side(BIT, "specialized"),
            margin=0.02,
        ),
    ]


TRANSFER_STUDY = Study(
    name="transfer",
    title="Transfer to small tasks",
    source="Tables 2 and 9, Figure 2",
    sentence="ViT-H/14 beats BiT-R152x4 on VTAB-1k on average, and on natural and structured tasks; on specialized "
    "tasks the two are close.",
    metrics=(TOP1,),
    arms={"mini": arms},
    findings=findings,
    published=PUBLISHED,
    note="Pre-trained on the 60,000 images of Fashion-MNIST, and fine-tuned on the other tasks of vtab-mini for 150 "
    "steps at one learning rate; Digits is the only natural task of them. The paper's values are of VTAB-1k "
    "after pre-training on 300 million images, and its Figure 4 has ResNets ahead wherever there are few.",
)
