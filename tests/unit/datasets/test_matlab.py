"""Arrays in Matlab's files."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from vitral.datasets.originals.matlab import load_matlab_array


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_numbers_are_those_that_scipy_reads(kind: str, compressed: bool, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(kind)
    arrays = {"a": drawn, "values": drawn[0, :, :3], "row": drawn[0, 0], "few": drawn[:1, 0, :2], "none": drawn[:0, 0]}
    file = tmp_path / "arrays.mat"
    savemat(file, {"text": "words", **arrays, "things": {"part": 1}}, do_compression=compressed)
    peer = loadmat(file)
    for name in arrays:
        found = load_matlab_array(file, name)
        assert found.dtype == peer[name].dtype
        assert found.shape == peer[name].shape
        assert (found == peer[name]).all()


def element(order: str, kind: int, content: bytes) -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def written(order: str, *, stored: int = 2) -> bytes:
    """As Matlab writes it: doubles that are small whole numbers in a byte each, and short names in their own head."""
    flags = element(order, 6, struct.pack(f"{order}II", 6, 0))
    shape = element(order, 5, struct.pack(f"{order}II", 1, 5))
    name = struct.pack(f"{order}I", 3 << 16 | 1) + b"ids\0"
    matrix = flags + shape + name + element(order, stored, bytes([3, 1, 4, 1, 5]))
    mark = {"<": b"IM", ">": b"MI"}[order]
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x100) + mark + element(order, 14, matrix)


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_either_byte_order_stored_small(order: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.mat"
    file.write_bytes(written(order))
    found = load_matlab_array(file, "ids")
    assert found.dtype == np.float64
    assert found.tolist() == loadmat(file)["ids"].tolist() == [[3, 1, 4, 1, 5]]


@pytest.mark.parametrize("stored", [0, 8, 10, 14, 15, 19, 40])
def test_a_wrong_type_of_values_is_named(stored: int, tmp_path: Path) -> None:
    """SciPy crashes on these."""
    file = tmp_path / "ids.mat"
    file.write_bytes(written("<", stored=stored))
    with pytest.raises(ValueError, match=rf"^{file} is damaged, or no Matlab file with 'ids': download it again$"):
        load_matlab_array(file, "ids")


def test_numbers_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "ids.mat"
    file.write_bytes(written("<"))
    with pytest.raises(ValueError, match=rf"^{file} is damaged, or no Matlab file with 'labels'"):
        load_matlab_array(file, "labels")
    for length in range(len(written("<")) - 3):
        file.write_bytes(written("<")[:length])
        with pytest.raises(ValueError, match="is damaged, or no Matlab file with 'ids'"):
            load_matlab_array(file, "ids")
    file.unlink()
    with pytest.raises(ValueError, match=rf"^{file} cannot be read: No such file or directory$"):
        load_matlab_array(file, "ids")
