"""Files of weights, and files that are none: each ends in arrays or in one sentence, and nothing is run."""

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
from vitral.weights.arrays import read_arrays
from vitral.weights.foreign import LINEAGES, read_foreign, written_as

ARRAYS = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.zeros((), np.float32)}


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def google(tmp_path: Path, **changes: np.ndarray) -> Path:
    """A good file of Google's, with some arrays changed."""
    arrays, _ = written_as(LINEAGES["google"], small_model(image_size=16))
    named = {name: array.numpy() for name, array in arrays.items()}
    (tmp_path / "google.npz").write_bytes(archive(**{**named, **changes}))
    return tmp_path / "google.npz"


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("name", ["x.npz", "x.safetensors", "x.pth", "x"])
def test_kinds_are_told_by_content_not_by_name(name: str, tmp_path: Path) -> None:
    tensors = {key: torch.from_numpy(array.copy()) for key, array in ARRAYS.items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}}, buffer)
    legacy = io.BytesIO()
    torch.save(tensors, legacy, _use_new_zipfile_serialization=False)
    for content in (archive(**ARRAYS), save(tensors), buffer.getvalue(), legacy.getvalue()):
        (tmp_path / name).write_bytes(content)
        found = read_arrays(tmp_path / name)
        assert set(found) == set(tensors)
        assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


def test_bfloat16_of_an_archive_is_understood(tmp_path: Path) -> None:
    exact = torch.tensor([1.5, -2.0, 0.25]).bfloat16()
    raw = exact.view(torch.int16).numpy().view(np.dtype("V2"))
    (tmp_path / "x.npz").write_bytes(archive(x=raw))
    assert torch.equal(read_arrays(tmp_path / "x.npz")["x"], exact)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"x": Evil(trace)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil(trace)))
    np.savez(tmp_path / "evil.npz", x=np.array([Evil(trace)], dtype=object))
    np.save(tmp_path / "evil.npy", np.array([Evil(trace)], dtype=object))
    for name in ("evil.pth", "evil.pkl", "evil.npz", "evil.npy"):
        with pytest.raises(ValueError, match=name):
            read_arrays(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["npz", "safetensors", "torch"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_one_sentence(kind: str, share: float, tmp_path: Path) -> None:
    big = {"x": np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32), **ARRAYS}
    tensors = {key: torch.from_numpy(array.copy()) for key, array in big.items()}
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    whole = {"npz": archive(**big), "safetensors": save(tensors), "torch": buffer.getvalue()}[kind]
    path = tmp_path / "cut"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut (is|:|holds)") as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    bomb = zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED)
    with bomb, bomb.open("x.npy", "w", force_zip64=True) as member:
        for _ in range(1100):
            member.write(bytes(2**20))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**22
    with pytest.raises(ValueError, match="would unpack to 1,153,433,600 bytes"):
        read_arrays(tmp_path / "bomb.npz")


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "liar.npz", "w") as liar:
        liar.writestr("x.npy", header.getvalue() + bytes(64))
    with pytest.raises(ValueError, match=r"liar.npz: x.npy"):
        read_arrays(tmp_path / "liar.npz")


NO_NUMBERS = (np.array(["text"]), np.array([1j]), np.array([True]), np.array(["2020-01-01"], "M8"))


@pytest.mark.parametrize("array", NO_NUMBERS)
def test_what_is_no_number_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(archive(x=array))
    with pytest.raises(ValueError, match=r"x.npz: x.npy holds"):
        read_arrays(tmp_path / "x.npz")


def test_names_that_climb_are_only_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "climb.npz", "w") as climb:
        buffer = io.BytesIO()
        np.save(buffer, ARRAYS["a/b"])
        climb.writestr("../../outside.npy", buffer.getvalue())
    assert set(read_arrays(tmp_path / "climb.npz")) == {"../../outside"}
    assert not (tmp_path.parent.parent / "outside.npy").exists()


def test_other_things_than_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "x": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="holds other things than named tensors"):
        read_arrays(tmp_path / "x.pth")
    torch.save(torch.zeros(2), tmp_path / "y.pth")
    with pytest.raises(ValueError, match="holds other things than named tensors"):
        read_arrays(tmp_path / "y.pth")


def test_what_cannot_be_opened_is_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for place in (tmp_path, tmp_path / "nothing", tmp_path / "loop"):
        with pytest.raises(OSError, match=str(place)):
            read_arrays(place)


@settings(max_examples=150)
@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x10" + bytes(7) + b"{"]))
def test_any_bytes_end_in_one_sentence(content: bytes, start: bytes) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"vitral-fuzz-{os.getpid()}"
    path.write_bytes(start + content)
    try:
        with pytest.raises(ValueError, match=str(path)):
            read_arrays(path)
    finally:
        path.unlink()


# Files of a known format, spoilt


@pytest.mark.parametrize(
    ("name", "array", "sentence"),
    [
        ("cls", np.full((1, 1, 12), np.nan, np.float32), "cls_token holds numbers that are not finite"),
        ("head/bias", np.zeros(4, np.float32), "head.bias has shape (4,), where the model has (3,)"),
        ("embedding/kernel", np.zeros((3, 12), np.float32), "looks like google, but cannot be read"),
        ("Transformer/posembed_input/pos_embedding", np.zeros((1, 4, 12), np.float32), "make no square grid"),
        ("Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel", np.zeros(3, np.float32), "google"),
    ],
)
def test_spoilt_arrays_are_named(name: str, array: np.ndarray, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"google\.npz") as caught:
        read_foreign(google(tmp_path, **{name: array}))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_integers_and_half_precision_are_turned_into_float32(tmp_path: Path) -> None:
    model, report = read_foreign(google(tmp_path, **{"head/bias": np.zeros(3, np.float16)}))
    assert model.head.bias.dtype == torch.float32
    assert report.notes == ("float16 turned into float32",)


def test_square_positions_are_not_taken_for_a_class_tokens_row(tmp_path: Path) -> None:
    """9 rows without a class token are a 3x3 grid, 10 with one are too."""
    for pool, rows in (("gap", 9), ("cls", 10)):
        small = small_model(image_size=24, pool=pool)
        arrays, _ = written_as(LINEAGES["timm"], small)
        assert arrays["pos_embed"].shape[1] == rows
        save_file(arrays, tmp_path / "x.safetensors")
        again, _ = read_foreign(tmp_path / "x.safetensors", num_heads=3)
        assert (again.config.grid, again.config.pool) == ((3, 3), pool)
        assert torch.equal(again.pos_embed, small.pos_embed)
