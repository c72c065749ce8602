"""Formats of image files: those that are read, with which package, and the names of those that are not."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from PIL import features

from vitral.data.images.jpeg_header import unread_kind

__all__ = [
    "HEADER_BYTES",
    "IMAGE_SUFFIXES",
    "INSTALLABLE_SUFFIXES",
    "MAGIC_BYTES",
    "foreign_format",
    "format_names",
    "readable_formats",
]

MAGIC_BYTES = 16
"""Bytes that say which plugin a file needs."""

HEADER_BYTES = 2**18
"""Bytes that say what a file is that is not read: a JPEG's metadata come before its kind."""

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "HEIF": (".heic", ".heif", ".hif", ".heics", ".heifs"),
    "JXL": (".jxl",),
}
"""Lower-case suffixes by Pillow's name of the format. Pillow knows more, but runs other programs for some of them."""

NAMES = {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "HEIF": "HEIC", "JXL": "JPEG XL"}
"""Names of formats as people write them, where Pillow's differ."""

PLUGINS = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}
"""Packages that read a format, of the extra `images`."""

CODECS = {"AVIF": "avif", "JPEG2000": "jpg_2000"}
"""Codecs that some builds of Pillow lack."""


@cache
def _installed() -> tuple[str, ...]:
    """Pillow's names of the formats that can be read here; no plugin is imported yet."""
    lacking = {name for name, codec in CODECS.items() if not features.check(codec)}
    lacking |= {name for name, package in PLUGINS.items() if find_spec(package) is None}
    return tuple(name for name in SUFFIXES if name not in lacking)


IMAGE_SUFFIXES = frozenset(suffix for name in _installed() for suffix in SUFFIXES[name])
"""Lower-case suffixes of image files that can be read here; others in a folder are left out, and a note counts them."""

INSTALLABLE_SUFFIXES = frozenset(suffix for name in PLUGINS for suffix in SUFFIXES[name]) - IMAGE_SUFFIXES
"""Those that could be read here if the extra `images` were installed."""

MAGIC = (
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JXL"),
    (0, b"\xff\x0a", "JXL"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"SIMPLE  =", "a FITS file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"v/1\x01", "an OpenEXR image"),
    (0, b"#?RADIANCE", "a Radiance HDR image"),
    (0, b"qoif", "a QOI image"),
    (0, b"II\xbc\x01", "a JPEG XR image"),
    (0, b"\x00\x00\x01\x00", "a Windows icon"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
    (8, b"CR\x02\x00", "a RAW photograph"),
    (0, b"FUJIFILMCCD-RAW", "a RAW photograph"),
    (0, b"FOVb", "a RAW photograph"),
    (0, b"IIRO\x08\x00", "a RAW photograph"),
    (0, b"IIRS\x08\x00", "a RAW photograph"),
    (0, b"IIU\x00", "a RAW photograph"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
    (0, b"\x00\x00\x01\xba", "a video"),
    (0, b"\x30\x26\xb2\x75", "a video"),
    (0, b"FLV\x01", "a video"),
    (8, b"AVI ", "a video"),
    (128, b"DICM", "a DICOM file"),
)
"""Offset, bytes at it, and what the file is: a name in words, or Pillow's name of a format that may be read."""

HEIC, AVIF = "HEIF", "AVIF"
BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIC),
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    b"crx ": "a RAW photograph",
}
"""The same for files in the container of MPEG-4, by their brand; any other brand is a video."""

PHRASES = {
    "AVIF": "an AVIF image",
    "HEIF": "a HEIC photograph",
    "JPEG2000": "a JPEG 2000 image",
    "JXL": "a JPEG XL image",
}

FIXES = {
    "a Git LFS pointer": "fetch the image itself with git lfs pull",
    "a web page": "download the image itself",
    "a video": "save its frames as JPEG or PNG",
    "a ZIP archive": "unpack it",
    "a gzip archive": "unpack it",
}
"""What to do with files that are no images; others are saved as JPEG or PNG."""


def readable_formats(head: bytes) -> tuple[str, ...]:
    """Pillow's names of the formats that can be read here; imports the plugin that reads a file.

    Args:
        head: the file's first `MAGIC_BYTES`.
    """
    kind = _by_content(head) if head[4:8] in (b"ftyp", b"JXL ") or head.startswith(b"\xff\x0a") else None
    if kind not in PLUGINS or kind not in _installed():
        return _by_pillow()
    _register(kind)
    return (*_by_pillow(), kind)


@cache
def _by_pillow() -> tuple[str, ...]:
    return tuple(name for name in _installed() if name not in PLUGINS)


@cache
def _register(name: str) -> None:
    plugin = import_module(PLUGINS[name])
    if name == "HEIF":
        plugin.register_heif_opener()
    else:
        import_module("pillow_jxl.JpegXLImagePlugin")


def format_names(formats: tuple[str, ...] | None = None, *, conjunction: str = "and") -> str:
    """`JPEG, PNG and WebP`.

    Args:
        formats: Pillow's names; None: all that can be read here.
        conjunction: before the last of them.
    """
    names = [NAMES.get(name, name) for name in formats or _installed()]
    return f" {conjunction} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def foreign_format(head: bytes) -> str | None:
    """What a file that Pillow cannot open is, with the fix, such as `a PDF document, which ...`; None: unknown.

    Args:
        head: the file's first `HEADER_BYTES`.
    """
    kind = unread_kind(head) or _by_content(head)
    if kind is None:
        return None
    if kind in _installed():
        return f"{PHRASES[kind]} whose header is damaged or truncated"
    if kind in PLUGINS:
        return f"{PHRASES[kind]}: pip install 'vitral[images]' reads it, or save it as JPEG or PNG"
    return f"{PHRASES.get(kind, kind)}, which Vitral does not read: {FIXES.get(kind, 'save it as JPEG or PNG')}"


def _by_content(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], "a video")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "an SVG drawing" if b"<svg" in start else "an XML file"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return next((name for start, magic, name in MAGIC if head[start : start + len(magic)] == magic), None)
