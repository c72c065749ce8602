"""Tensors that each process has whole or in part, as a folder of safetensors: `torch.distributed.checkpoint`."""

import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

__all__ = ["read", "sizes", "write"]

# a run on one device saves alone, as it should
warnings.filterwarnings("ignore", "torch.distributed is disabled")


def write(folder: Path, tensors: dict[str, Tensor], *, group: dist.ProcessGroup | None) -> Callable[[], None]:
    """Copies the tensors and begins to write them, `shard-RANK-*` by each process.

    Args:
        folder: made where it is not there.
        tensors: by name; the same names in all processes.
        group: the processes that write together; None where there is one.

    Returns:
        What waits until all is written, and raises OSError where it could not be.
    """
    writing = async_save(
        tensors,
        storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
        process_group=group,
        no_dist=group is None,
    )
    assert isinstance(writing, Future)

    def wait() -> None:
        try:
            writing.result()
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from None  # what went wrong, not its wrapping

    return wait


def read(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Fills tensors, whole ones or shards, in place; called by all processes."""
    reader = HuggingFaceStorageReader(str(folder))
    load(cast(dict[str, Any], tensors), storage_reader=reader, no_dist=not dist.is_initialized())


def sizes(folder: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of every whole tensor in a folder."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors = {name: about for name, about in found.items() if isinstance(about, TensorStorageMetadata)}
    return {name: (tuple(about.size), about.properties.dtype) for name, about in tensors.items()}
