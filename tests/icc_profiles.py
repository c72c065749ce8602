"""Small ICC profiles, byte by byte."""

import struct

import numpy as np

__all__ = ["adobe_rgb", "cmyk", "linear_grey", "srgb", "swapped"]

RED, GREEN, BLUE = (
    (0.4360747, 0.2225045, 0.0139322),
    (0.3850649, 0.7168786, 0.0971045),
    (0.1430804, 0.0606169, 0.7141733),
)
"""sRGB's primaries, adapted to D50."""
D50 = (0.9642, 1.0, 0.8249)
SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + b"".join(
    struct.pack(">i", round(value * 65536)) for value in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
)


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(value * 256))


def text(words: str) -> bytes:
    return (
        b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2 * len(words), 28) + words.encode("utf-16-be")
    )


def profile(space: bytes, tags: dict[bytes, bytes], *, kind: bytes = b"mntr", connection: bytes = b"XYZ ") -> bytes:
    """A profile of version 4."""
    start, table, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04200000, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + xyz(D50)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def coloured(name: str, primaries: tuple[tuple[float, ...], ...], curve: bytes) -> bytes:
    tags = {b"desc": text(name), b"wtpt": xyz(D50)}
    for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags |= {letter + b"XYZ": xyz(primary), letter + b"TRC": curve}
    return profile(b"RGB ", tags)


def srgb() -> bytes:
    return coloured("Somebody's sRGB", (RED, GREEN, BLUE), SRGB_CURVE)


def swapped() -> bytes:
    """Of pixels whose first channel is green and whose second is red."""
    return coloured("Swapped", (GREEN, RED, BLUE), SRGB_CURVE)


def adobe_rgb() -> bytes:
    primaries = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
    return coloured("Adobe RGB (1998)", primaries, gamma(2.19921875))


def linear_grey() -> bytes:
    return profile(b"GRAY", {b"desc": text("Linear"), b"wtpt": xyz(D50), b"kTRC": gamma(1.0)})


def cmyk() -> bytes:
    """Of inks of which only black shows, and only as a grey of half the lightness."""
    ramp = bytes(range(256))
    corners = np.array([[128 if number & 1 else 255, 128, 128] for number in range(16)], np.uint8)
    identity = b"".join(struct.pack(">i", 65536 * (number % 4 == 0)) for number in range(9))
    table = b"mft1\0\0\0\0\4\3\2\0" + identity + 4 * ramp + corners.tobytes() + 3 * ramp
    return profile(
        b"CMYK", {b"desc": text("Inks"), b"wtpt": xyz(D50), b"A2B0": table}, kind=b"prtr", connection=b"Lab "
    )
