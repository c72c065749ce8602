"""What a format cannot hold is refused by name, whatever the model is made of."""

import pytest

from unit.test_variants import VARIANTS
from vitral.models import build
from vitral.vit import ViT
from vitral.weights.foreign import LINEAGES, written_as


@pytest.mark.parametrize("form", LINEAGES)
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "BiT"])
def test_every_variant_is_written_or_refused(name: str, form: str) -> None:
    model = build(VARIANTS[name])
    assert isinstance(model, ViT)
    try:
        arrays, _ = written_as(LINEAGES[form], model)
    except ValueError as error:
        assert str(error).startswith(f"the format {form} ")  # noqa: PT017 - either outcome is right
    else:
        assert sum(array.numel() for array in arrays.values()) > 0
