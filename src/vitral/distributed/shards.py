"""Saving and loading of sharded tensors as a folder of safetensors files, with `torch.distributed.checkpoint`."""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor
from torch.futures import Future

__all__ = ["load_tensors", "save_tensors", "tensor_sizes"]

ROOM = 0.8
"""A copy stays on the GPU if it, and what training allocates beside it, take less than this part of what is free."""

# expected: a run on one device saves without torch.distributed
warnings.filterwarnings("ignore", "torch.distributed is disabled")


def save_tensors(folder: Path, tensors: dict[str, Tensor], *, group: dist.ProcessGroup | None) -> Callable[[], None]:
    """Copies the tensors, and returns a function that writes the copies; each process writes a file `shard-RANK-*`.

    Args:
        folder: created if missing.
        tensors: by name; the same names in all processes.
        group: the processes that write together; None if there is only one.

    Returns:
        A function for a thread in the background; it raises OSError if the files cannot be written.
    """
    writer = _Writer(str(folder), save_distributed=True)
    device = next((tensor.device for tensor in tensors.values() if tensor.is_cuda), None)
    copies = None if device is None else _copy_on_gpu(tensors, device)  # takes milliseconds
    beside_training = nullcontext() if device is None or copies is None else _own_stream(device)
    state = copies or writer.stage(tensors)

    def write() -> None:
        try:
            with beside_training:
                save(state, storage_writer=writer, process_group=group, no_dist=group is None)
        except CheckpointException as error:
            raise next(iter(error.failures.values()))[0] from None  # the cause, not its wrapper

    return write


def _own_stream(device: torch.device) -> AbstractContextManager[None]:
    """A stream for another thread, so that training does not wait for copies to the host; it follows what is queued."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))

    @contextmanager
    def enter() -> Iterator[None]:
        with torch.cuda.device(device), torch.cuda.stream(stream):  # a thread begins on the first GPU
            yield

    return enter()


def _copy_on_gpu(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor] | None:
    """Copies beside the tensors; None if there is no room for them beside training."""
    local = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors.values()]
    now, most = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - now
    if sum(tensor.nbytes for tensor in local if tensor.is_cuda) + most - now > ROOM * free:
        return None
    try:
        return {name: tensor.clone() for name, tensor in tensors.items()}
    except torch.OutOfMemoryError:  # where what is free lies in pieces
        return None


class _Writer(HuggingFaceStorageWriter):
    """Writes from the tensors' memory, beside training.

    PyTorch's own method makes two more copies of all tensors, and Python runs nothing else meanwhile.
    """

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Writes this process's tensors to one file, in the layout of the method that it replaces."""
        tensors: dict[str, Tensor] = {}
        offsets: dict[str, Any] = {}
        for item in plan.items:
            assert item.tensor_data is not None
            tensors[item.index.fqn] = cast(Tensor, planner.resolve_data(item)).detach().cpu().contiguous()
            offsets[item.index.fqn] = {"saved_offsets": list(item.tensor_data.chunk.offsets)}
        if tensors:
            path = Path(self.path) / f"shard-{plan.storage_data['shard_index']:05d}-model-00001-of-00001.safetensors"
            metadata = {"DCP_SHARDING_INFO": json.dumps(offsets), "DCP_VERSION": "1.0", "format": "pt"}
            _write(path, tensors, metadata)
        written: Future[list[WriteResult]] = Future()
        written.set_result([])  # what is where, the reader finds in the files
        return written


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes a safetensors file to the disk.

    Raises:
        OSError: the disk is full, or fails.
    """
    path.touch()
    mode = path.stat().st_mode  # as new files have it; safetensors writes another, which only the owner may read
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        if (found := re.search(r"os error (\d+)", str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
    path.chmod(mode)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def load_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Loads tensors by name, in place, full ones or shards; called by all processes."""
    reader = HuggingFaceStorageReader(str(folder))
    load(cast(dict[str, Any], tensors), storage_reader=reader, no_dist=not dist.is_initialized())


def tensor_sizes(folder: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of each full tensor in a folder."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors = {name: about for name, about in found.items() if isinstance(about, TensorStorageMetadata)}
    return {name: (tuple(about.size), about.properties.dtype) for name, about in tensors.items()}
