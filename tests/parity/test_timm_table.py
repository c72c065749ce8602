"""The table of timm's models says what the installed timm computes, and files without a name are read accordingly."""

import timm
import torch

from parity.timm_table import derived_preprocessing, derived_table
from vitral.errors import UserError
from vitral.weights.lineages.timm import TIMM
from vitral.weights.lineages.timm_config import GELUS, POOLS
from vitral.weights.lineages.timm_models import TABLE, timm_models
from vitral.weights.lineages.timm_preprocessing import TABLE as PREPROCESSING


def test_the_table_is_that_of_the_installed_timm() -> None:
    assert TABLE.read_text() == derived_table(), f"write it again: python tests/parity/timm_table.py models > {TABLE}"


def test_the_preprocessing_is_that_of_the_installed_timm() -> None:
    again = f"write it again: python tests/parity/timm_table.py preprocessing > {PREPROCESSING}"
    assert PREPROCESSING.read_text() == derived_preprocessing(), again


def test_a_file_without_its_name_is_read_right_or_refused() -> None:
    """Where the tensors alone give another model than the name, the file is refused."""
    wrong = {}
    for name in sorted(timm_models().keys() & set(timm.list_models())):
        with torch.device("meta"):
            tensors = TIMM.canonicalise(timm.create_model(name, depth=1).state_dict())
        try:
            alone = TIMM.infer_config(tensors, {})
        except UserError:
            continue
        model, undecided = timm_models()[name], TIMM.undecided(tensors, {})
        if model.difference:
            wrong |= {} if undecided else {name: model.difference}
            continue
        named = TIMM.infer_config(tensors, {"architecture": name})
        assert (named.num_heads, named.norm_eps) == (model.num_heads, model.norm_eps)
        assert (named.gelu, named.pool) == (GELUS.get(model.activation, "erf"), POOLS[model.pool])
        if alone != named and not undecided:
            wrong[name] = "differs"
    assert wrong == {}
