"""Section 3.2: fine-tuning at a higher resolution, with each way of resampling position embeddings."""

from itertools import product

from vitral.studies.base import base, fine_tuned, train_for, with_model
from vitral.studies.findings import Equivalence, Ordering, Side
from vitral.studies.study import TOP1, Arm, Finding, Study

__all__ = ["RESOLUTION"]

SIDE = 16
"""Pixels of pre-training."""

SCALES = {"1.5x": 24, "2x": 32}

RESAMPLINGS = {
    "google": "bilinear, corners aligned (the paper's)",
    "timm": "bilinear",
    "mae": "bicubic",
    "dinov2": "bicubic by a scale factor",
}


def arms() -> list[Arm]:
    """Fine-tuning of one pre-trained model at its own resolution, and at higher ones with every resampling."""
    start = with_model(train_for(base("mini"), steps=1500), image_size=SIDE, patch_size=4)

    def tuned(side: int, resampling: str) -> Arm:
        run = fine_tuned(start, steps=200, lr=0.01)
        config = with_model(run, image_size=side, position_resample=resampling)
        name = "1x" if side == SIDE else f"{side / SIDE:g}x, {RESAMPLINGS[resampling]}"
        return Arm(name=name, config=config, start=start, x=float(side), line=RESAMPLINGS[resampling])

    return [tuned(SIDE, "google"), *(tuned(side, kind) for side, kind in product(SCALES.values(), RESAMPLINGS))]


def findings(arms: list[Arm]) -> list[Finding]:
    """A higher resolution helps; the ways of resampling are alike."""
    paper = [f"{scale}, {RESAMPLINGS['google']}" for scale in SCALES]
    assert {"1x", *paper} <= {arm.name for arm in arms}
    tested: list[Finding] = [
        Ordering(
            claim=f"fine-tuning at {scale} the resolution beats fine-tuning at 1x",
            better=Side(label=name, arms=(name,)),
            worse=Side(label="1x", arms=("1x",)),
        )
        for scale, name in zip(SCALES, paper, strict=True)
    ]
    for kind in ("timm", "mae", "dinov2"):
        name = f"2x, {RESAMPLINGS[kind]}"
        tested.append(
            Equivalence(
                claim=f"after fine-tuning, {RESAMPLINGS[kind]} resampling is like the paper's",
                first=Side(label=name, arms=(name,)),
                second=Side(label=paper[-1], arms=(paper[-1],)),
                margin=0.005,
            )
        )
    return tested


RESOLUTION = Study(
    name="resolution",
    title="Fine-tuning at a higher resolution",
    source="Section 3.2",
    sentence="it is often beneficial to fine-tune at a higher resolution than pre-training; position embeddings are "
    "then interpolated in two dimensions.",
    metrics=(TOP1,),
    arms={"mini": arms},
    findings=findings,
    x_label="image side in pixels",
    note="Pre-trained for three epochs and fine-tuned for less than one, on the same images. A patch of 4x4 pixels "
    "shows half as much of an image at twice its size; so short a fine-tuning may not make up for that.",
)
