"""The shapes in signatures are checked while tests run; should that hook go missing, this is where it shows."""

import jaxtyping
import pytest
import torch

from vitral.vit import MLP


def test_a_wrong_rank_is_caught() -> None:
    mlp = MLP(width=4, hidden=8, gelu="tanh", dropout=0.0)
    with pytest.raises(jaxtyping.TypeCheckError):
        mlp(torch.zeros(4))
