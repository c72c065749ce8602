"""The table of timm's models says what the installed timm computes."""

import pytest

from parity.timm_table import derived_table
from vitral.weights.lineages.timm_models import TABLE


@pytest.mark.slow
def test_the_table_is_that_of_the_installed_timm() -> None:
    assert TABLE.read_text() == derived_table(), "write it again: python tests/parity/timm_table.py > FILE"
