"""Names of formats that are not read, by the first bytes of a file."""

__all__ = ["HEAD_BYTES", "foreign_format"]

HEAD_BYTES = 132
"""Bytes that decide."""

MAGIC = (
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
    (128, b"DICM", "a DICOM file"),
)
"""Offset, bytes at it, and what the file is."""

BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "a HEIC photograph"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF image"),
    b"crx ": "a RAW photograph",
}
"""What a file in the container of MPEG-4 is, by its brand; any other brand is a video."""


def foreign_format(head: bytes) -> str | None:
    """What a file is, such as `a HEIC photograph`; None if its first `HEAD_BYTES` do not say."""
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "a video")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<svg", b"<?xml")):
        return "an SVG drawing" if b"<svg" in head.lower() else "an XML file"
    return next((name for start, magic, name in MAGIC if head[start : start + len(magic)] == magic), None)
