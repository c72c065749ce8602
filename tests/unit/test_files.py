"""A file is whole or as it was, whatever happens while it is written."""

import csv
import errno
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.files import (
    add_file_name,
    as_csv,
    cache_folder,
    locked,
    markdown_text,
    printable,
    with_formula,
    without_formula,
    write_atomically,
    write_json,
)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replaces_the_content(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"first", b"the second is longer", b""):
        write_atomically(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert entries(tmp_path) == ["a.bin"]


def test_readers_see_the_old_content_while_it_is_written(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    seen = []

    def write(file):
        file.write(b"new, ")
        file.flush()
        seen.append(path.read_bytes())
        file.write(b"and whole")

    write_atomically(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"new, and whole"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("x"), KeyboardInterrupt()]
)
def test_a_crash_in_the_middle_leaves_the_old_content(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of the ne")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_bytes() == b"old"
    assert entries(tmp_path) == ["a.bin"]


def test_a_full_disk_is_named_after_the_file():
    full = Path("/dev/full")
    with (
        pytest.raises(OSError, match="No space left on device: '/dev/full'"),
        add_file_name(full),
        full.open("wb") as file,
    ):
        file.write(b"x")


def test_errors_name_the_file_and_not_its_temporary_one(tmp_path):
    path = tmp_path / "nowhere" / "a.bin"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(path, lambda file: file.write(b"x"))
    assert caught.value.filename == str(path)


def test_json_is_readable_and_strict(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2.5, None], "b": "é"})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None], "b": "é"}
    assert path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text())["b"] == "é"


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("VITRAL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / ".cache" / "vitral"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert cache_folder() == tmp_path / "other" / "vitral"
    monkeypatch.setenv("VITRAL_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0

    def enter(_: int) -> None:
        nonlocal inside, most
        with locked(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(enter, range(8)))
    assert most == 1


def test_terminals_get_no_escape_sequences() -> None:
    evil = "\x1b[31mred\x1b]0;title\x07 \x9b1m \u202egnp.exe a\rb \udc80"
    shown = printable(evil)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert shown == "\ufffd[31mred\ufffd]0;title\ufffd \ufffd1m \ufffdgnp.exe a\ufffdb \ufffd"
    assert printable("two\nlines\tand naïve 日本語 שלום") == "two\nlines\tand naïve 日本語 שלום"


@given(st.text(st.sampled_from("=+-@'\t\r0.a\n,e\""), max_size=6))
def test_no_cell_is_a_formula_and_reading_undoes_it(text: str) -> None:
    cell = without_formula(text)
    assert with_formula(cell) == text
    assert not re.match(r"[=+\-@\t\r]", cell) or len(cell) == 1 or float(cell) == float(text)
    ((read, other),) = csv.reader(as_csv([[text, "x"]]).splitlines(keepends=True), strict=True)
    assert (with_formula(read), other) == (text, "x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("-0.5", "-0.5"),
        ("+1e-5", "+1e-5"),
        ("-5 apples", "'-5 apples"),
        ("'=quoted", "''=quoted"),
        ("it's", "it's"),
    ],
)
def test_cells(text: str, shown: str) -> None:
    assert without_formula(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", r"\<img src=x onerror=alert(1)\>"),
        ("[click](https://evil.example)", r"\[click\](https\://evil.example)"),
        ("www.evil.example, a@b.example", r"www\.evil.example, a\@b.example"),
        ("a|b `c` *d* _e_ &lt;", r"a\|b \`c\` \*d\* \_e\_ \&lt;"),
        ("num_heads: 3, 97.5%, test/top1", "num_heads: 3, 97.5%, test/top1"),
        ("two\nlines\x1b[31m", "two lines\ufffd\\[31m"),
    ],
)
def test_markdown_shows_text_as_it_is(text: str, shown: str) -> None:
    assert markdown_text(text) == shown
