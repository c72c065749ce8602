"""Dense layers."""

from torch import nn

__all__ = ["FusedLinear"]


class FusedLinear(nn.Linear):
    """Several projections of the same input, computed as one matrix product; initialised and updated one by one."""

    def __init__(self, inputs: int, outputs: int, *, projections: int, bias: bool = True) -> None:
        super().__init__(inputs, projections * outputs, bias=bias)
        self.projections = projections
