"""Every file gives either tensors or a one-line error, and nothing in it is executed."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from models import small_model
from vitral.errors import UserError
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.read import load_upstream
from vitral.weights.tensor_file import read_tensor_file, read_tensors
from vitral.weights.write import upstream_state_dict

ARRAYS = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.zeros((), np.float32)}


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def google(tmp_path: Path, **changes: np.ndarray) -> Path:
    """A valid file in Google's format, with some arrays replaced."""
    tensors, _ = upstream_state_dict(LINEAGES["google"], small_model(image_size=16))
    named = {name: tensor.numpy() for name, tensor in tensors.items()}
    (tmp_path / "google.npz").write_bytes(archive(**{**named, **changes}))
    return tmp_path / "google.npz"


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "x.pth", "x"])
def test_the_kind_is_detected_from_the_content(name: str, tmp_path: Path) -> None:
    tensors = {key: torch.from_numpy(array.copy()) for key, array in ARRAYS.items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}}, buffer)
    legacy = io.BytesIO()
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    for content in (archive(**ARRAYS), save(tensors), buffer.getvalue(), legacy.getvalue()):
        (tmp_path / name).write_bytes(content)
        read = read_tensors(tmp_path / name)
        assert set(read) == set(tensors)
        assert all(torch.equal(read[key], tensor) for key, tensor in tensors.items())


def test_bfloat16_in_a_numpy_archive_is_read(tmp_path: Path) -> None:
    exact = torch.tensor([1.5, -2.0, 0.25]).bfloat16()
    raw = exact.view(torch.int16).numpy().view(np.dtype("V2"))
    (tmp_path / "x.npz").write_bytes(archive(x=raw))
    assert torch.equal(read_tensors(tmp_path / "x.npz")["x"], exact)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"x": Evil(trace)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil(trace)))
    np.savez(tmp_path / "evil.npz", x=np.array([Evil(trace)], dtype=object))
    np.save(tmp_path / "evil.npy", np.array([Evil(trace)], dtype=object))
    for name in ("evil.pth", "evil.pkl", "evil.npz", "evil.npy"):
        with pytest.raises(ValueError, match=name):
            read_tensors(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["npz", "safetensors", "torch"])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_a_one_line_error(kind: str, fraction: float, tmp_path: Path) -> None:
    big = {"x": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), **ARRAYS}
    tensors = {key: torch.from_numpy(array.copy()) for key, array in big.items()}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    whole = {"npz": archive(**big), "safetensors": save(tensors), "torch": buffer.getvalue()}[kind]
    path = tmp_path / "cut"
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(ValueError, match=r"cut (is|:|contains)") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED)
    with bomb, bomb.open("x.npy", "w", force_zip64=True) as member:
        for _ in range(1100):
            member.write(bytes(2**20))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**22
    with pytest.raises(ValueError, match="would unpack to 1,153,433,600 bytes"):
        read_tensors(tmp_path / "bomb.npz")


def test_a_header_that_declares_too_much_data_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "oversized.npz", "w") as oversized:
        oversized.writestr("x.npy", header.getvalue() + bytes(64))
    with pytest.raises(ValueError, match=r"oversized.npz: x.npy"):
        read_tensors(tmp_path / "oversized.npz")


@pytest.mark.parametrize("old", [b"NUMPY", b"descr", b"(3, 4)", b"'<f4'"])
def test_a_damaged_header_is_named(tmp_path: Path, old: bytes) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros((3, 4), np.float32))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as damaged:
        damaged.writestr("x.npy", content.getvalue().replace(old, old[:-1] + b"\xff"))
    with pytest.raises(UserError, match=r"x\.npz: x\.npy is not an array, or its header is damaged$"):
        read_tensors(tmp_path / "x.npz")


def test_other_byte_orders_are_read(tmp_path: Path) -> None:
    values = np.arange(6).reshape(2, 3)
    np.savez(tmp_path / "x.npz", big=values.astype(">f4"), little=values.astype("<f4"))
    tensors = read_tensors(tmp_path / "x.npz")
    assert torch.equal(tensors["big"], tensors["little"])
    assert tensors["big"].tolist() == values.tolist()


NOT_NUMERIC = (np.array(["text"]), np.array([1j]), np.array([True]), np.array(["2020-01-01"], "M8"))


@pytest.mark.parametrize("array", NOT_NUMERIC)
def test_arrays_that_are_not_numeric_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(archive(x=array))
    with pytest.raises(ValueError, match=r"x.npz: x.npy contains"):
        read_tensors(tmp_path / "x.npz")


def test_names_with_parent_folders_are_only_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "parent.npz", "w") as parent:
        buffer = io.BytesIO()
        np.save(buffer, ARRAYS["a/b"])
        parent.writestr("../../outside.npy", buffer.getvalue())
    assert set(read_tensors(tmp_path / "parent.npz")) == {"../../outside"}
    assert not (tmp_path.parent.parent / "outside.npy").exists()


@pytest.mark.parametrize("content", [torch.zeros(2), {"epoch": 3}, [torch.zeros(2)], {"model": {"epoch": 3}}, 3])
def test_files_without_named_tensors_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "y.pth")
    with pytest.raises(ValueError, match="has no named tensors"):
        read_tensors(tmp_path / "y.pth")


def test_other_values_beside_the_tensors_are_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "x": torch.zeros(2)}, tmp_path / "x.pth")
    file = read_tensor_file(tmp_path / "x.pth")
    assert set(file.tensors) == {"x"}
    assert file.notes == ("left out, because they are not tensors: epoch",)


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "loop"):
        with pytest.raises(OSError, match=str(path)):
            read_tensors(path)


@settings(max_examples=150)
@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x10" + bytes(7) + b"{"]))
def test_any_bytes_give_a_one_line_error(content: bytes, start: bytes) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"vitral-fuzz-{os.getpid()}"
    path.write_bytes(start + content)
    try:
        with pytest.raises(ValueError, match=str(path)):
            read_tensors(path)
    finally:
        path.unlink()


# Corrupted files of a known format


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("cls", np.full((1, 1, 12), np.nan, np.float32), "cls_token contains NaN or infinity"),
        ("head/bias", np.zeros(4, np.float32), "head.bias has shape (4,), but the model expects (3,)"),
        ("embedding/kernel", np.zeros((3, 12), np.float32), "looks like google"),
        ("Transformer/posembed_input/pos_embedding", np.zeros((1, 4, 12), np.float32), "not a square grid"),
        ("Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel", np.zeros(3, np.float32), "google"),
    ],
)
def test_corrupted_arrays_are_named(name: str, array: np.ndarray, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"google\.npz") as caught:
        load_upstream(google(tmp_path, **{name: array}))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_precision_is_converted_to_float32(tmp_path: Path) -> None:
    model, report = load_upstream(google(tmp_path, **{"head/bias": np.zeros(3, np.float16)}))
    assert model.head.bias.dtype == torch.float32
    assert report.notes == ("converted float16 to float32",)


def test_square_grids_with_and_without_a_class_token_are_distinguished(tmp_path: Path) -> None:
    """9 rows without a class token, and 10 rows with one, are both a 3x3 grid."""
    for pool, rows in (("gap", 9), ("cls", 10)):
        small = small_model(image_size=24, pool=pool)
        tensors, _ = upstream_state_dict(LINEAGES["timm"], small)
        assert tensors["pos_embed"].shape[1] == rows
        save_file(tensors, tmp_path / "x.safetensors")
        read, _ = load_upstream(tmp_path / "x.safetensors", num_heads=3, gelu="erf")
        assert (read.config.grid, read.config.pool) == ((3, 3), pool)
        assert torch.equal(read.pos_embed, small.pos_embed)
