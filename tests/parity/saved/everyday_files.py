"""Files as people's own scripts leave them: averaged weights, classifiers beside a backbone, wrong configurations."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from parity.saved.case import Save, Saved, torch_file, transformers_folder
from parity.saved.wrapped_files import others, settings, timm_vit, transformers_vit, with_config

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


# Configurations that people edited


def edited(file: str = "config.json", **changes: Any) -> Save:
    """A folder of transformers with other values in one of its JSON files."""

    def save(model: nn.Module, folder: Path) -> Path:
        saved = transformers_folder(model, folder)
        path = saved / file
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**values, **changes}))
        return saved

    return save


transformers_edited = partial(Saved, build=transformers_vit)
WRONG_TYPES: dict[str, Any] = {
    "num_attention_heads": "4",
    "hidden_act": None,
    "layer_norm_eps": None,
    "hidden_size": "64",
    "image_size": "32",
    "patch_size": [8],
    "qkv_bias": "false",
}
CASES |= {
    **{
        f"transformers, {key} {value!r}": transformers_edited(
            save=edited(**{key: value}), refusal=f"config.json: {key} is {json.dumps(value)}, but must be "
        )
        for key, value in WRONG_TYPES.items()
    },
    **{
        f"transformers, image_mean {value!r}": transformers_edited(
            save=edited("preprocessor_config.json", image_mean=value), refusal=refusal
        )
        for value, refusal in (
            ([0.5, 0.5], "it has 2 numbers as mean, but the images have 3 channels"),
            (["0.5"] * 3, "preprocessor_config.json: image_mean is"),
            ("0.5", "must be a list of one number per channel"),
            (None, "image_mean is null"),
        )
    },
    "transformers, too few labels": transformers_edited(
        save=edited(id2label={"0": "cat", "1": "dog"}),
        lineage="transformers",
        notes=("ignored its id2label, which names 2 classes, and the head has 7",),
    ),
    "transformers, labels by name": transformers_edited(
        save=edited(id2label={f"label {index}": "cat" for index in range(7)}),
        lineage="transformers",
        notes=("ignored its id2label, which does not have the keys 0 to 6",),
    ),
    "timm, heads as text": Saved(
        build=timm_vit,
        save=lambda model, folder: with_config(model, folder, {"model_args": {"num_heads": "1"}}),
        refusal='config.json: num_heads is "1", but must be an integer',
    ),
    "timm, arguments as text": Saved(
        build=timm_vit,
        save=lambda model, folder: with_config(model, folder, {"model_args": "num_heads=1"}),
        refusal="model_args is",
    ),
}
