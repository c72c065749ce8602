"""Whatever a parser raises on damaged bytes becomes one sentence; errors of the machine stay what they are."""

import errno
import io
import json
import random
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError

import numpy as np
import pytest
import torch
from safetensors.torch import save

from vitral.data.images.bands import read_bands
from vitral.errors import UserError, one_line, shortened, translate_parser_errors
from vitral.weights.tensor_file import read_tensors

RAISED = (zlib.error("x"), TokenError("x"), TypeError("x"), OverflowError("x"), IndexError("x"), RecursionError("x"))
RAISED = (*RAISED, MemoryError(), EOFError(), AssertionError("x"), SyntaxError("x"), OSError("x"))
RAISED = (
    *RAISED,
    OSError(errno.EINVAL, "Invalid argument"),
    KeyError("x"),
    UnicodeDecodeError("utf-8", b"", 0, 1, "x"),
)


def describe(error: Exception) -> str:
    return f"it is damaged: {one_line(error)}"


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_parser_raises_is_a_sentence(error: Exception) -> None:
    with pytest.raises(UserError, match=r"^it is damaged") as caught, translate_parser_errors(describe):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), FileNotFoundError(2, "none"), UserError("mine")])
def test_errors_of_the_machine_and_sentences_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translate_parser_errors(describe):
        raise error
    assert caught.value is error


def test_a_gpu_without_memory_is_no_damage() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(torch.OutOfMemoryError), translate_parser_errors(describe):
        raise error


def test_parsers_warn_of_nothing() -> None:
    with translate_parser_errors(describe):
        warnings.warn("a line of noise", stacklevel=1)


def test_long_names_lose_their_middle() -> None:
    assert shortened("a" * 200) == "a" * 200
    cut = shortened("a" * 100_000 + "end")
    assert len(cut) == 200
    assert cut.startswith("aaa")
    assert cut.endswith("aend")
    assert "…" in cut


STATE = {"blocks.0.weight": torch.arange(600.0).reshape(20, 30), "head": torch.ones(3, dtype=torch.bfloat16)}


def archive(write: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    write(stream, **{name: tensor.float().numpy() for name, tensor in STATE.items()})
    return stream.getvalue()


def torch_file(*, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(STATE, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


FILES = {
    "compressed.npz": archive(np.savez_compressed),
    "stored.npz": archive(np.savez),
    "new.pt": torch_file(zipped=True),
    "old.pt": torch_file(zipped=False),
    "x.safetensors": save(STATE),
}


def damaged(content: bytes, prng: random.Random) -> bytes:
    """A few bytes changed; half of the time near the start, where headers are."""
    changed = bytearray(content)
    for _ in range(prng.randint(1, 4)):
        at = prng.randrange(len(changed) if prng.random() < 0.5 else min(len(changed), 400))
        changed[at] = prng.choice((changed[at] ^ 1 << prng.randrange(8), 0, 255, prng.randrange(256)))
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_damaged_weights_are_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    prng, refusals = random.Random(name), []
    for _ in range(300):
        (tmp_path / name).write_bytes(damaged(FILES[name], prng))
        try:
            read_tensors(tmp_path / name)
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 10
    assert all(str(tmp_path / name) in sentence for sentence in refusals)


def test_damaged_weights_make_parsers_raise_many_kinds_of_errors(tmp_path: Path) -> None:
    """What a list of exceptions would have to name, and more with each version of a library."""
    prng, kinds = random.Random(0), set()
    for _ in range(600):
        name = prng.choice(list(FILES))
        (tmp_path / name).write_bytes(damaged(FILES[name], prng))
        try:
            read_tensors(tmp_path / name)
        except UserError as error:
            kinds.add(type(error.__cause__).__name__)
    assert {"BadZipFile", "error", "SafetensorError", "ValueError"} <= kinds
    assert len(kinds) > 5, kinds


@pytest.mark.parametrize("word", ["(" * 50, "9" * 60, "-1", "'O'", "lambda: 0", "1e400"])
def test_a_damaged_header_of_an_array(word: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.ones((3, 5, 7), np.float32))
    content = stream.getvalue()
    start, end = content.index(b"{"), content.index(b"}")
    for at in range(start, end):
        changed = content[start:at] + word.encode() + content[at + 1 : end]
        with pytest.raises(UserError):
            read_bands(
                content[:start] + changed[: end - start].ljust(end - start) + content[end:], channels=9, name="x"
            )


def test_json_that_nests_deeply(tmp_path: Path) -> None:
    from vitral.config import parse_json, read_json

    for depth in (65, 3000, 100_000):
        (tmp_path / "a.json").write_text("[" * depth + "]" * depth)
        with pytest.raises(UserError, match=r"a\.json .*nested too deeply"):
            read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match="nested too deeply"):
        parse_json("[" * 100_000, origin="it")
    (tmp_path / "a.json").write_text(json.dumps([[[[1]]]]))
    assert read_json(tmp_path / "a.json") == [[[[1]]]]
