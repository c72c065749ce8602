"""Files with tensors that are missing or of another shape: read or refused, while a bug of ours is neither."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models import small_model
from vitral.errors import UserError
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.load import load_with_report
from vitral.weights.write import upstream_state_dict

MODELS: dict[str, dict[str, Any]] = {
    **{key: {} for key in ("google", "google-linen", "big_vision", "timm", "torchvision", "transformers")},
    **{key: {"layer_scale": 0.1, "num_registers": 2} for key in ("dinov2", "facebook-dinov2")},
    "siglip": {"pool": "map"},
    **{key: {"pre_norm": True, "patch_bias": False, "head_bias": None} for key in ("clip", "open_clip")},
}
CHANGES = (
    lambda tensor: torch.tensor(1.5),
    lambda tensor: tensor.flatten(),
    lambda tensor: tensor[None],
    lambda tensor: tensor[:0],
    lambda tensor: tensor[..., :-1],
    lambda tensor: torch.cat([tensor, tensor]),
)


@pytest.mark.parametrize("format", MODELS)
def test_another_shape_is_read_or_refused(format: str, tmp_path: Path) -> None:
    rng = random.Random(format)
    state = upstream_state_dict(LINEAGES[format], small_model(image_size=16, **MODELS[format]))[0]
    for _ in range(25):
        changed: dict[str, Tensor] = {name: tensor.clone() for name, tensor in state.items()}
        for name in rng.sample(sorted(state), k=2):
            changed[name] = rng.choice(CHANGES)(state[name]).contiguous().clone()
        del changed[rng.choice(sorted(state))]
        save_file(changed, tmp_path / "x.safetensors")
        with pytest.raises(UserError) as caught:
            load_with_report(tmp_path / "x.safetensors", num_heads=3)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [TypeError("a bug"), KeyError(3), AttributeError("a bug")])
def test_a_bug_is_no_damage(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    save_file(upstream_state_dict(LINEAGES["timm"], small_model(image_size=16))[0], tmp_path / "x.safetensors")
    monkeypatch.setitem(LINEAGES, "timm", replace(LINEAGES["timm"], infer_config=fail))
    with pytest.raises(type(error)):
        load_with_report(tmp_path / "x.safetensors")
