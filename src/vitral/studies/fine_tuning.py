"""Table 4: fine-tuning by momentum with each learning rate of the paper's grid, pre-trained and from scratch."""

from dataclasses import replace
from itertools import product

from vitral.data.config import DataConfig
from vitral.studies.base import base, fine_tuned, train_for, with_model
from vitral.studies.findings import Ordering, Side
from vitral.studies.study import TOP1, Arm, Finding, Study

__all__ = ["FINE_TUNING"]

RATES = (0.001, 0.003, 0.01, 0.03)
"""The grid for CIFAR, Pets and Flowers (Table 4)."""

PRETRAINED, SCRATCH = "pre-trained", "from scratch"
LABELS = 200


def arms() -> list[Arm]:
    """Both kinds of weights at every rate, on 200 digits."""
    start = with_model(train_for(base("mini"), steps=1000), patch_size=7)
    digits = DataConfig(source="digits", limit=LABELS)
    found = []
    for line, rate in product((PRETRAINED, SCRATCH), RATES):
        config = fine_tuned(start, steps=150, lr=rate, data=digits, augment=replace(start.augment, flip=False))
        found.append(
            Arm(
                name=f"{line}, rate {rate:g}",
                config=config,
                start=start if line == PRETRAINED else None,
                x=rate,
                line=line,
            )
        )
    return found


def findings(arms: list[Arm]) -> list[Finding]:
    """Pre-training helps at every rate; the grid matters, and its best rate lies above its lowest."""

    def side(label: str, *names: str) -> Side:
        return Side(label=label, arms=names, reduce="best")

    by_line = {line: [arm.name for arm in arms if arm.line == line] for line in (PRETRAINED, SCRATCH)}
    best = side("the best rate", *by_line[PRETRAINED])
    lowest = by_line[PRETRAINED][0]
    return [
        Ordering(
            claim="the pre-trained model is better than one from scratch, each at its best rate",
            better=best,
            worse=side("from scratch", *by_line[SCRATCH]),
        ),
        Ordering(claim="the best rate of the grid beats its lowest", better=best, worse=side(lowest, lowest)),
    ]


FINE_TUNING = Study(
    name="fine-tuning",
    title="Fine-tuning at each learning rate of the paper's grid",
    source="Table 4, appendix B.1.1",
    sentence="models are fine-tuned by SGD with momentum, cosine decay and no weight decay, each with the best of four "
    "learning rates; pre-training pays off on small data sets.",
    metrics=(TOP1,),
    arms={"mini": arms},
    findings=findings,
    x_label="learning rate",
    log_x=True,
    note="Pre-trained on Fashion-MNIST, fine-tuned on 200 digits for 150 steps. The paper selects the rate on held-out "
    "training images, and publishes no accuracy of each rate; here the best rate is that on the test images.",
)
