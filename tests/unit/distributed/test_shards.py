"""Checkpoints are written as the tensors were, from their memory, like other files."""

import errno
import resource
import tracemalloc
from pathlib import Path

import pytest
import torch

from vitral.distributed import shards

TENSORS = {
    "weights": torch.arange(2.0**21).reshape(2, -1),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "step": torch.tensor(7),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "empty": torch.zeros(0, 4),
}


def test_tensors_come_back_as_they_were_at_the_call(tmp_path: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in TENSORS.items()}
    write = shards.save_tensors(tmp_path / "saved", tensors, group=None)
    for tensor in tensors.values():
        tensor.zero_()
    write()
    sizes = shards.tensor_sizes(tmp_path / "saved")
    assert sizes == {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}
    shards.load_tensors(tmp_path / "saved", tensors)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_writing_makes_no_copies_in_python(tmp_path: Path) -> None:
    write = shards.save_tensors(tmp_path / "first", TENSORS, group=None)
    write()  # what is imported and cached
    write = shards.save_tensors(tmp_path / "second", TENSORS, group=None)
    tracemalloc.start()
    write()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < TENSORS["weights"].nbytes / 4


def test_a_file_that_cannot_be_written_is_an_error_of_the_machine(tmp_path: Path) -> None:
    write = shards.save_tensors(tmp_path / "saved", TENSORS, group=None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG


def test_files_have_the_mode_of_other_new_files(tmp_path: Path) -> None:
    shards.save_tensors(tmp_path / "saved", TENSORS, group=None)()
    (tmp_path / "other").touch()
    (file,) = (tmp_path / "saved").iterdir()
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode
