"""Saving and loading of sharded tensors as a folder of safetensors files, with `torch.distributed.checkpoint`."""

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

__all__ = ["load_tensors", "save_tensors", "tensor_sizes"]

# expected: a run on one device saves without torch.distributed
warnings.filterwarnings("ignore", "torch.distributed is disabled")


def save_tensors(folder: Path, tensors: dict[str, Tensor], *, group: dist.ProcessGroup | None) -> Callable[[], None]:
    """Copies the tensors and writes them in the background; each process writes files `shard-RANK-*`.

    Args:
        folder: created if missing.
        tensors: by name; the same names in all processes.
        group: the processes that write together; None if there is only one.

    Returns:
        A function that waits until everything is written; it raises OSError if that failed.
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
            raise next(iter(error.failures.values()))[0] from None  # the cause, not its wrapper

    return wait


def load_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Loads tensors by name, in place, full ones or shards; called by all processes."""
    reader = HuggingFaceStorageReader(str(folder))
    load(cast(dict[str, Any], tensors), storage_reader=reader, no_dist=not dist.is_initialized())


def tensor_sizes(folder: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of each full tensor in a folder."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors = {name: about for name, about in found.items() if isinstance(about, TensorStorageMetadata)}
    return {name: (tuple(about.size), about.properties.dtype) for name, about in tensors.items()}
