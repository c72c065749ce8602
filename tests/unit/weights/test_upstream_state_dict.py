"""Every model variant is either written in a format or refused with the format's name."""

import pytest

from unit.test_variants import VARIANTS
from vitral.models import build
from vitral.vit import ViT
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.write import upstream_state_dict


@pytest.mark.parametrize("format", LINEAGES)
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "BiT"])
def test_every_variant_is_written_or_refused(name: str, format: str) -> None:
    model = build(VARIANTS[name])
    assert isinstance(model, ViT)
    try:
        tensors, _ = upstream_state_dict(LINEAGES[format], model)
    except ValueError as error:
        assert str(error).startswith(f"the format {format} ")  # noqa: PT017 - either outcome is right
    else:
        assert sum(tensor.numel() for tensor in tensors.values()) > 0
