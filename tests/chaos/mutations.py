"""Damages files where their formats are sensitive: parts are changed, lost, repeated and swapped, and the checksums and
lengths around them made right again, so that the damage reaches the code behind the first check.
"""

import io
import json
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

__all__ = ["Edit", "Format", "damaged", "edits", "formats"]

Edit = tuple[int, int, int]
"""Kind of an edit, its place and its value, each a number that is taken modulo the choices there are."""

MOST_EDITS = 4
NUMBERS = (0, 1, -1, 7, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
"""Numbers at which code goes wrong, written over the bytes of a file."""
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 10**4, 10**9, 2**31, 2**63, 2**64, 10**400),
    *(0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf")),
    *("", "a", "../../outside", "=cmd|' /C calc'!A0", "\x1b[31m\x1b]0;title\x07", "\ud800", "a" * 100_000),
    *([], {}, [1_000_000], [0], [1, 2], ["a", None], {"a": 1}, [[]]),
)
"""Values that a configuration should not have."""


def edits() -> st.SearchStrategy[list[Edit]]:
    """A few edits."""
    number = st.integers(0, 2**31)
    return st.lists(st.tuples(st.integers(0, 7), number, number), min_size=1, max_size=MOST_EDITS)


@dataclass(frozen=True, kw_only=True)
class Format:
    """How files of a kind fall into parts."""

    split: Callable[[bytes], list[bytes]]
    join: Callable[[Sequence[bytes]], bytes]
    """From parts to a file whose lengths and checksums are right."""
    inside: Callable[[bytes, Edit], bytes]
    """Changes one part."""


def damaged(content: bytes, changes: Sequence[Edit], form: Format | None) -> bytes:
    """A file after some edits: of its bytes, and of its parts if it has any."""
    for edit in changes:
        kind, place, value = edit
        try:
            parts = form.split(content) if form is not None and kind % 2 else []
        except Exception:  # an earlier edit broke the file
            parts = []
        if not parts or form is None:
            content = damaged_bytes(content, edit)
            continue
        at = place % len(parts)
        other = value % len(parts)
        match kind // 2:
            case 0:
                parts[at] = form.inside(parts[at], (value, place // len(parts), value // 7))
            case 1:
                parts[at] = damaged_bytes(parts[at], (value, place // len(parts), value // 7))
            case 2:
                parts[at], parts[other] = parts[other], parts[at]
            case _:
                parts[at : at + 1] = [] if value % 2 else [parts[at]] * (2 + value % 3)
        content = form.join(parts)
    return content


def damaged_bytes(content: bytes, edit: Edit) -> bytes:
    """One edit of bytes: a flipped bit, a number written over them, an end cut off, a piece lost or repeated."""
    kind, place, value = edit
    if not content:
        return bytes([value % 256])
    at = place % len(content)
    match kind % 5:
        case 0:
            return content[:at] + bytes([content[at] ^ (1 << value % 8)]) + content[at + 1 :]
        case 1:
            number = NUMBERS[value % len(NUMBERS)]
            size = (1, 2, 4, 8)[value // 11 % 4]
            packed = (number % 2 ** (8 * size)).to_bytes(size, ("little", "big")[value // 44 % 2])
            return content[:at] + packed + content[at + size :]
        case 2:
            return content[:at]
        case 3:
            return content[:at] + content[at + 1 + value % 64 :]
        case _:
            return content[:at] + content[at : at + 1 + value % 64] * 2 + content[at:]


def damaged_json(content: bytes, edit: Edit) -> bytes:
    """One edit of a JSON document: a value replaced, lost, nested deeply, or given under another key."""
    kind, place, value = edit
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return damaged_bytes(content, edit)
    places: list[tuple[Any, Any]] = []
    waiting = [document] if isinstance(document, list | dict) else []
    while waiting:
        parent = waiting.pop()
        keys = list(parent) if isinstance(parent, dict) else range(len(parent))
        places += [(parent, key) for key in keys]
        waiting += [parent[key] for key in keys if isinstance(parent[key], list | dict)]
    if not places:  # also of a document that is a single value
        return json.dumps(VALUES[value % len(VALUES)]).encode()
    parent, key = places[place % len(places)]
    if kind % 6 == 0:
        del parent[key]
    elif kind % 6 == 1 and isinstance(parent, dict):
        parent[("", "a", f"{key}_", "architecture", "__class__")[value % 5]] = parent.pop(key)
    elif kind % 6 == 2:
        depth = (5, 200, 3000, 100_000)[value % 4]
        parent[key] = "DEEP"
        return json.dumps(document).replace('"DEEP"', "[" * depth + "]" * depth).encode()
    else:
        parent[key] = VALUES[value % len(VALUES)]
    return json.dumps(document).encode()


def split_png(content: bytes) -> list[bytes]:
    parts, at = [], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        parts.append(content[at + 4 : at + 8 + size])
        at += 12 + size
    return parts


def join_png(parts: Sequence[bytes]) -> bytes:
    chunks = (struct.pack(">I", max(len(part) - 4, 0)) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def split_jpeg(content: bytes) -> list[bytes]:
    """The segments up to the first scan, and the rest."""
    parts, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", content, at + 2)
        parts.append(content[at + 1 : at + 2] + content[at + 4 : at + 2 + size])
        at += 2 + size
    return [*parts, content[at:]]


def join_jpeg(parts: Sequence[bytes]) -> bytes:
    *segments, rest = parts or (b"",)
    heads = (b"\xff" + part[:1] + struct.pack(">H", (len(part) + 1) % 2**16) + part[1:] for part in segments)
    return b"\xff\xd8" + b"".join(heads) + rest


def split_zip(content: bytes) -> list[bytes]:
    """The members, each with its name and whether it is compressed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [
            f"{member.filename}\0{member.compress_type}\0".encode() + archive.read(member)
            for member in archive.infolist()
        ]


def join_zip(parts: Sequence[bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for part in parts:
            name, _, rest = part.partition(b"\0")
            kind, _, data = rest.partition(b"\0")
            method = zipfile.ZIP_DEFLATED if kind == b"8" else zipfile.ZIP_STORED
            archive.writestr(name.decode(errors="replace") or "x", data, method)
    return stream.getvalue()


def split_safetensors(content: bytes) -> list[bytes]:
    size = int.from_bytes(content[:8], "little")
    return [content[8 : 8 + size], content[8 + size :]]


def join_safetensors(parts: Sequence[bytes]) -> bytes:
    return len(b"".join(parts[:1])).to_bytes(8, "little") + b"".join(parts)


def split_tar(content: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [
            member.name.encode() + b"\0" + (file.read() if (file := archive.extractfile(member)) else b"")
            for member in archive
        ]


def join_tar(parts: Sequence[bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for part in parts:
            name, _, data = part.partition(b"\0")
            member = tarfile.TarInfo(name.decode(errors="replace") or "x")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def split_lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")


def in_a_header(part: bytes, edit: Edit) -> bytes:
    """Changes the header of an array, whose words are Python, or bytes elsewhere."""
    start, brace = part.find(b"{"), part.find(b"}")
    if start < 0 or brace < start or brace > start + 4096 or edit[0] % 4 == 3:
        return damaged_bytes(part, edit)
    words = (b"(" * 500, b"{", b"9" * 5000, b"-1", b"'O'", b"'<f9'", b"\\", b"lambda: 0", b"1e400", b"'<f4',")
    at = start + edit[1] % (brace - start)
    changed = part[start:at] + words[edit[2] % len(words)] + part[at + 1 : brace]
    return part[:start] + changed[: brace - start].ljust(brace - start) + part[brace:]


def formats() -> dict[str, Format]:
    """The formats by name."""
    return {
        "png": Format(split=split_png, join=join_png, inside=damaged_bytes),
        "jpeg": Format(split=split_jpeg, join=join_jpeg, inside=damaged_bytes),
        "zip": Format(split=split_zip, join=join_zip, inside=in_a_header),
        "npy": Format(split=lambda content: [content], join=b"".join, inside=in_a_header),
        "safetensors": Format(split=split_safetensors, join=join_safetensors, inside=damaged_json),
        "tar": Format(split=split_tar, join=join_tar, inside=damaged_json),
        "json": Format(split=lambda content: [content], join=b"".join, inside=damaged_json),
        "lines": Format(split=split_lines, join=b"\n".join, inside=damaged_bytes),
    }
