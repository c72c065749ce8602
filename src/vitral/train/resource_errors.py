"""User errors for failures of the machine: out of memory, no compiler, a killed process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vitral.data.batches import translate_worker_errors
from vitral.errors import UserError
from vitral.train.config import TrainConfig

__all__ = ["NotEnoughMemory", "OutOfMemory", "is_out_of_memory", "translate_resource_errors"]


class NotEnoughMemory(UserError):
    """The batches or the model do not fit into memory.

    Args:
        problem: what does not fit.
        fix: flags of training with which it would; a command without them catches the error and names its own.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem}: {fix}" if fix else problem)
        self.problem = problem


class OutOfMemory(NotEnoughMemory):
    """Memory ran out in training. With several processes, only one may raise it."""


@contextmanager
def translate_resource_errors(config: TrainConfig) -> Iterator[None]:
    """Translates resource errors into UserErrors that say what to change; other errors pass."""
    try:
        with translate_worker_errors():
            yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"memory ran out with batches of {config.batch_size} images in {config.accumulate} parts",
                "raise --train.accumulate, or start a new run with a smaller --train.batch-size",
            ) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"torch.compile failed ({reason}): install a C++ compiler, or set --train.compile False"
            ) from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out. On a CPU, PyTorch raises a RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
