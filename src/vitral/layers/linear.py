"""Dense layers."""

from torch import nn

__all__ = ["FusedLinear"]


class FusedLinear(nn.Linear):
    """Several projections of one input as one matrix product. Initialisation and Muon treat each separately."""

    def __init__(self, inputs: int, outputs: int, *, projections: int, bias: bool = True) -> None:
        super().__init__(inputs, projections * outputs, bias=bias)
        self.projections = projections
