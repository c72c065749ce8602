"""Files as people's own scripts leave them: averaged weights, classifiers beside a backbone, wrong configurations."""

from typing import Any

import torch
from torch import nn

from parity.saved.case import Saved, torch_file
from parity.saved.wrapped_files import others, settings, timm_vit

__all__ = ["CASES"]


# Averaged weights without names


def torch_ema(model: nn.Module, *, averaged: bool = True, keep: int | None = None) -> dict[str, Any]:
    """A script that keeps torch_ema's `ExponentialMovingAverage` beside the model.

    Args:
        model: the model that Vitral must read.
        averaged: whether `model` has the averaged weights, or those before averaging.
        keep: number of averaged tensors; None: one for each parameter.
    """
    own, raw = model.state_dict(), others(model)
    average = list((own if averaged else raw).values())[:keep]
    state = {"decay": 0.99, "num_updates": 10, "shadow_params": average, "collected_params": None}
    return {**settings(), "model": raw if averaged else own, "ema": state}


CASES: dict[str, Saved] = {
    "torch_ema": Saved(
        build=timm_vit,
        save=torch_file(torch_ema),
        lineage="timm",
        notes=("the averaged weights in ema were read; --checkpoint-key model reads the others",),
    ),
    "torch_ema, by its key": Saved(
        build=timm_vit, save=torch_file(torch_ema), lineage="timm", options={"checkpoint_key": "ema"}
    ),
    "torch_ema, the weights before averaging": Saved(
        build=timm_vit,
        save=torch_file(lambda model: torch_ema(model, averaged=False)),
        lineage="timm",
        options={"checkpoint_key": "model"},
    ),
    "torch_ema of some parameters": Saved(
        build=timm_vit,
        save=torch_file(lambda model: torch_ema(model, averaged=False, keep=-1)),
        lineage="timm",
        notes=("averaged weights in ema have no names", "the weights before averaging were read"),
    ),
    "torch_ema of some parameters, by its key": Saved(
        build=timm_vit,
        save=torch_file(lambda model: torch_ema(model, keep=-1)),
        options={"checkpoint_key": "ema"},
        refusal="do not match the model's tensors in order",
    ),
}
