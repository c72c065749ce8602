"""Runs that must be equal on one process and on two, each with a possible cause of differences."""

from dataclasses import replace
from pathlib import Path

from tiny import ARCHITECTURE, tiny_run
from vitral.objectives.dino import CropConfig, DINOConfig
from vitral.objectives.distillation import DistillationConfig
from vitral.objectives.mae import MAEConfig
from vitral.objectives.masked_patch import MaskedPatchConfig
from vitral.train.config import RunConfig

__all__ = ["RUNS", "with_teacher"]


def without_dropout(config: RunConfig) -> RunConfig:
    """Dropout differs between processes; everything else depends only on the sample."""
    return replace(config, model=replace(config.model, architecture=replace(ARCHITECTURE, dropout=0.0)))


RUNS = {
    "fsdp-adafactor": without_dropout(tiny_run(optimiser="adafactor", parallel="fsdp")),
    "fsdp-lamb": without_dropout(tiny_run(optimiser="lamb", parallel="fsdp")),
    "ddp": without_dropout(tiny_run(optimiser="sgd", accumulate=2, evaluate="5steps")),
    "ddp-adamw": without_dropout(tiny_run(optimiser="adamw")),
    "fsdp": without_dropout(tiny_run(optimiser="sgd", parallel="fsdp", accumulate=4)),
    "fsdp-muon": without_dropout(tiny_run(optimiser="muon", parallel="fsdp", recompute=True)),
    "hsdp": without_dropout(tiny_run(optimiser="sgd", parallel="fsdp", shards=1, ema=None)),
}
"""The held-out digits are two batches of evaluation, 256 and 103 images."""

# Adam makes a step as long as the rate out of any difference in rounding
RUNS["ddp-adamw"] = replace(RUNS["ddp-adamw"], optim=replace(RUNS["ddp-adamw"].optim, lr=1e-3))
# one batch of evaluation, so that the second process has none
RUNS["fsdp"] = replace(RUNS["fsdp"], data=replace(RUNS["fsdp"].data, test_fraction=0.1))
# matrices that are large enough to be factored
WIDE = replace(RUNS["fsdp-adafactor"].model.architecture, width=32, mlp_dim=48)
RUNS["fsdp-adafactor"] = replace(RUNS["fsdp-adafactor"], model=replace(RUNS["fsdp-adafactor"].model, architecture=WIDE))

RUNS |= {
    f"{name}-masked-patch": replace(RUNS[name], objective=MaskedPatchConfig(target="small_patch"))
    for name in ("ddp-adamw", "fsdp")
}
DECODER = MAEConfig(masked_fraction=0.5, width=16, depth=1, num_heads=2)
SMALL = DINOConfig(
    prototypes=16,
    hidden=16,
    bottleneck=8,
    patch_weight=1.0,
    masked_fraction=0.5,
    gram_weight=1.0,
    gram_start=0.3,
    gram_refresh=0.3,
    crops=CropConfig(num_local=2),
    # gradients grow as temperatures fall, and their rounding with them
    student_temperature=1.0,
    teacher_temperature=(0.5, 0.5),
)
RUNS |= {
    # the teacher is its running average
    f"{name}-dino": replace(RUNS[name], objective=SMALL, train=replace(RUNS[name].train, ema=None))
    for name in ("ddp-adamw", "fsdp")
}
RUNS |= {
    f"{name}-probe": replace(
        without_dropout(tiny_run(optimiser="lars", parallel=name, ema=None)),
        model=replace(RUNS["fsdp"].model, probe=True),
    )
    for name in ("ddp", "fsdp")
}
TWO_HEADS = replace(RUNS["fsdp"].model.architecture, distillation=True)
RUNS |= {
    f"{name}-distilled": replace(
        RUNS[name],
        model=replace(RUNS[name].model, architecture=TWO_HEADS),
        objective=DistillationConfig(teacher=Path("ddp-adamw")),
    )
    for name in ("ddp-adamw", "fsdp")
}
RUNS |= {f"{name}-mae": replace(RUNS[name], objective=DECODER) for name in ("ddp-adamw", "fsdp")}
# at the rate of tiny runs the loss grows, and from some first weights rounding with it, past 1e-5 within twelve steps
RUNS = {
    name: replace(config, optim=replace(config.optim, lr=0.1)) if config.optim.name == "sgd" else config
    for name, config in RUNS.items()
}
RUNS |= {f"{name}-sam": replace(RUNS[name], optim=replace(RUNS[name].optim, sam_rho=0.05)) for name in ("ddp", "fsdp")}

RUNS |= {
    f"{name}-bfloat16": replace(RUNS[name], train=replace(RUNS[name].train, reduce_dtype="bfloat16"))
    for name in ("ddp", "fsdp")
}


def with_teacher(config: RunConfig, folder: Path) -> RunConfig:
    """The run with its teacher, if it has one, from a folder of finished runs."""
    if not isinstance(config.objective, DistillationConfig):
        return config
    return replace(config, objective=replace(config.objective, teacher=folder / config.objective.teacher))
