"""Reads images of any number of channels from TIFF and NumPy files, with the values that the file holds.

A satellite's 13 bands, a microscope's stains or a 16-bit depth map are no pictures: nothing is rescaled to 8 bits, and
no channel is taken for transparency.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import BufferedReader, BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Num, UInt8
from PIL import Image

from vitral.data.extra import optional
from vitral.data.images.decode import IMAGE_SUFFIXES, UnreadableImage, decoding, is_machine_error, max_pixels
from vitral.data.images.memory import Reservation, reserve
from vitral.data.notes import note_once

__all__ = ["BAND_SUFFIXES", "MAX_CHANNELS", "BandImage", "image_suffixes", "read_bands", "to_picture"]

BAND_SUFFIXES = frozenset({".npy", ".tif", ".tiff"})
"""Lower-case suffixes of files that may have any number of channels."""

MAX_CHANNELS = 16

NUMPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of files; those of TIFF with 32-bit and with 64-bit offsets."""

ORIENTATION, GDAL_NODATA = 274, 42113
"""Numbers of TIFF's tags."""

WHITE_IS_ZERO, PALETTE = 0, 3
"""Values of TIFF's tag PhotometricInterpretation."""

STRETCH = (2, 98)
"""Percentiles that become black and white in a picture."""

_NOTING = Lock()
"""Held while something is noted, or threads that read at once would note it several times."""

# as for Pillow in decode.py: a damaged file is no reason to print another library's words
logging.getLogger("tifffile").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module="tifffile")

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""For each orientation, what makes an image upright."""

Stored = Path | bytes | BytesIO | BufferedReader | Image.Image | np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class BandImage:
    """An image of several channels. It is resized by Pillow, channel by channel, in float32."""

    values: Num[np.ndarray, "h w c"]
    """In the file's own units and type."""
    missing: Bool[np.ndarray, "h w c"] | None = None
    """Values that are NaN or the file's nodata value; None: there are none."""
    memory: Reservation | None = None
    """What reading it takes, as long as it exists."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def width(self) -> int:
        """In pixels."""
        return self.values.shape[1]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.values.shape[0]

    def filled(self, means: Sequence[float]) -> "BandImage":
        """In float32, with the mean of the channel (one number, or one per channel) in place of missing values."""
        values = self.values.astype(np.float32)
        if self.missing is not None:
            np.copyto(values, np.array(means, np.float32), where=self.missing)
        return BandImage(values=values, memory=self.memory)

    def resize(
        self, size: tuple[int, int], resample: Any, box: tuple[float, float, float, float] | None = None
    ) -> "BandImage":
        """As Pillow's `resize`: the part inside `box` (left, top, right, bottom), at a width and height."""
        planes = np.moveaxis(np.asarray(self.values, np.float32), 2, 0)
        resized = [np.asarray(Image.fromarray(plane).resize(size, resample, box)) for plane in planes]
        return BandImage(values=np.stack(resized, axis=2))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.values, dtype, copy=copy)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """What a file says that it holds, before its values are read."""

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]
    axes: str | None = None
    """A letter for each axis, as tifffile names them; None: not known."""
    chunk: tuple[int, ...] = ()
    """Shape of what is decoded at once, which may be larger than the image."""
    nodata: str | None = None
    orientation: int = 1
    refused: str | None = None
    """Why the file is not read."""


class _Refused(Exception):
    """The reader rejects an image; the message is the reason."""


def image_suffixes(channels: int | None) -> frozenset[str]:
    """Lower-case suffixes of the files that are read as images.

    Args:
        channels: of images of any number of channels; None: pictures.
    """
    return IMAGE_SUFFIXES if channels is None else BAND_SUFFIXES


def read_bands(file: Stored, *, channels: int, name: str | None = None) -> BandImage:
    """Reads one image of a known number of channels; a TIFF's orientation is applied.

    An array may have its channels first or last. Of a TIFF with several images, the first is read.

    Args:
        file: a path, the bytes of a file, an open binary file (stays open), a PIL image, or an array.
        channels: of the image, 1 to `MAX_CHANNELS`.
        name: the image's name in errors; None: its path, or "the image".

    Raises:
        UnreadableImage: the file is missing, damaged, of another format, of another number of channels, or too large;
            its values are neither integers nor floats, some are infinite, or all are missing.
        UserError: a package that the file needs is not installed.
        OSError, MemoryError: as `read_image`.
    """
    if name is None:
        name = str(file) if isinstance(file, Path) else "the image"
    kind = f"an image of {channels} channel{'' if channels == 1 else 's'}"
    try:
        if isinstance(file, Image.Image | np.ndarray):
            values = np.asarray(file)
            layout = _Layout(shape=values.shape, dtype=values.dtype, load=lambda: values)
            return _image(values, layout, _channel_axis(layout, channels))
        if isinstance(file, Path) and file.exists() and not (file.is_file() or file.is_dir()):
            raise _Refused("it is not a regular file")  # reading a pipe could block for ever
        with ExitStack() as files:
            with decoding(name, kind=kind), _one_line():
                stream = files.enter_context(_opened(file))
                start = stream.read(len(NUMPY))
                stream.seek(-len(start), 1)
            read_layout = _reader(start)
            with decoding(name, kind=kind), _one_line():
                layout = files.enter_context(read_layout(stream))
            axis = _channel_axis(layout, channels)
            with decoding(name, kind=kind), _one_line():
                memory = reserve(_cost(layout))
                values = layout.load()
                if values.shape != layout.shape:
                    raise ValueError(f"its values have the shape {values.shape}, not {layout.shape}")
        return replace(_image(values, layout, axis), memory=memory)
    except _Refused as refusal:
        raise UnreadableImage(f"{name} cannot be read as {kind}: {refusal}") from None


def to_picture(values: Float32[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w"]:
    """A grey picture for people: the mean of normalised channels, its 2nd to 98th percentile as black to white."""
    grey = values.mean(axis=2)
    low, high = np.percentile(grey, STRETCH)
    return np.rint(255 * np.clip((grey - low) / (high - low or 1), 0, 1)).astype(np.uint8)


@contextmanager
def _one_line() -> Iterator[None]:
    """Shortens errors of other libraries to their first line."""
    try:
        yield
    except Exception as error:
        if is_machine_error(error) or "\n" not in str(error):
            raise
        raise ValueError(str(error).partition("\n")[0]) from error


@contextmanager
def _opened(file: Path | bytes | BytesIO | BufferedReader) -> Iterator[BytesIO | BufferedReader]:
    if isinstance(file, Path):
        with file.open("rb") as stream:
            yield stream
    else:
        yield BytesIO(file) if isinstance(file, bytes) else file


def _reader(start: bytes) -> Callable[[BytesIO | BufferedReader], Any]:
    """What reads a file with these first bytes."""
    if not start:
        raise _Refused("it is empty")
    if start == NUMPY:
        return _numpy_layout
    if start[:4] not in TIFF:
        raise _Refused("it is neither a TIFF nor a NumPy file (.npy)")
    optional("tifffile", purpose="reading TIFF files of any number of channels", extra="images")
    return _tiff_layout


@contextmanager
def _numpy_layout(stream: BytesIO | BufferedReader) -> Iterator[_Layout]:
    shape, by_column, dtype = _numpy_header(stream)

    def load() -> np.ndarray:
        size = math.prod(shape) * dtype.itemsize
        content = stream.read(size)
        if len(content) < size:
            raise EOFError(f"{len(content):,} of {size:,} bytes")
        return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")

    yield _Layout(shape=shape, dtype=dtype, load=load)


def _numpy_header(stream: BytesIO | BufferedReader) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type."""

    def read() -> tuple[tuple[int, ...], bool, np.dtype]:
        if np.lib.format.read_magic(stream) == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        return np.lib.format.read_array_header_2_0(stream)

    start = stream.tell()
    try:
        return read()
    # NumPy has Python parse the header. In Python 3.11.7 and others before python/cpython#113035, threads share the
    # parser's counter of depth, and a header fails now and then while another thread parses
    except SystemError:
        stream.seek(start)
        return read()


@contextmanager
def _tiff_layout(stream: BytesIO | BufferedReader) -> Iterator[_Layout]:
    import tifffile  # an optional package, which `_reader` has checked

    with tifffile.TiffFile(stream) as file:
        places: set[int] = set()
        for page in file.pages:  # tifffile would follow a circle for ever
            if page.offset in places:
                raise ValueError("its pages form a circle")
            places.add(page.offset)
        if len(file.series) > 1:
            with _NOTING:
                note_once("a TIFF file has images of several sizes: of such files, only the first image is read")
        series, page = file.series[0], file.series[0].keyframe
        tags: dict[int, Any] = {code: page.tags.get(code) for code in (ORIENTATION, GDAL_NODATA)}
        refused = {
            WHITE_IS_ZERO: "white is zero in it, which is for pictures: save it with black as zero",
            PALETTE: "its values are the numbers of a palette's colours: save it without a palette",
        }.get(page.photometric)
        if page.compression not in tifffile.TIFF.DECOMPRESSORS:
            refused = f"its compression is {page.compression}, which this installation does not decode"
            if find_spec("imagecodecs") is None:
                refused += ": pip install 'vitral[images]'"
        yield _Layout(
            shape=tuple(int(side) for side in series.shape),  # damaged tags have several numbers
            dtype=np.dtype(series.dtype),
            load=lambda: series.asarray(maxworkers=1),
            axes=None if "Q" in series.axes else series.axes,  # Q: an array was saved as it was
            chunk=tuple(int(side) for side in page.chunks),
            nodata=None if tags[GDAL_NODATA] is None else str(tags[GDAL_NODATA].value),
            orientation=1 if tags[ORIENTATION] is None else int(tags[ORIENTATION].value),
            refused=refused,
        )


def _channel_axis(layout: _Layout, channels: int) -> int | None:
    """The axis of the channels; None: the array has rows and columns only.

    Raises:
        _Refused: there is none of this length, it is not clear which it is, or the file is not read for other reasons.
    """
    shape, limit = layout.shape, max_pixels()
    text = "x".join(map(str, shape))
    if layout.refused:
        raise _Refused(layout.refused)
    if layout.dtype.kind not in "biuf" or layout.dtype.itemsize > 8:
        raise _Refused(f"its values are of type {layout.dtype}, which is no integer or float of up to 64 bits")
    if math.prod(shape) <= 0:
        raise _Refused("it has no pixels")
    if len(shape) not in (2, 3):
        raise _Refused(f"its shape is {text}: save one image of height, width and channels")
    largest = max(math.prod(shape), math.prod(layout.chunk))
    if largest > limit:
        what = f"its {text} values" if largest == math.prod(shape) else "the values of one of its tiles"
        allow = f"VITRAL_MAX_PIXELS={largest} in the environment allows it"
        raise _Refused(f"{what} are more than the {limit} allowed: {allow}")
    if len(shape) == 2:
        if channels != 1:
            raise _Refused(f"it has 1 channel, not {channels}")
        return None
    if layout.axes is not None:
        axis = next((axis for axis, letter in enumerate(layout.axes) if letter not in "YX"), 0)
        if shape[axis] != channels:
            raise _Refused(f"it has {shape[axis]} channels, not {channels}")
        return axis
    candidates = [axis for axis in (0, 2) if shape[axis] == channels]
    if not candidates:
        raise _Refused(f"it has {min(shape[0], shape[2])} channels, not {channels} (its shape is {text})")
    if len(candidates) == 2:
        raise _Refused(f"its shape {text} does not say whether its channels come first or last: save it larger")
    return candidates[0]


def _cost(layout: _Layout) -> int:
    """Bytes for the values as they are decoded, in place, and as 32-bit floats, and for which of them are missing."""
    size = layout.dtype.itemsize
    decoded = math.prod(layout.shape) * (size + 4 + (4 if layout.dtype.kind == "f" else 1))
    return decoded + size * max(math.prod(layout.chunk), math.prod(layout.shape))


def _image(values: np.ndarray, layout: _Layout, axis: int | None) -> BandImage:
    """The upright image, in the machine's byte order, with channels last."""
    values = values[..., None] if axis is None else np.moveaxis(values, axis, 2)
    values = _UPRIGHT.get(layout.orientation, np.asarray)(values)
    values = values.astype(np.uint8 if values.dtype.kind == "b" else values.dtype.newbyteorder("="), copy=False)
    missing = np.zeros(values.shape, bool)
    if layout.nodata is not None and (nodata := _cast(layout.nodata, values.dtype)) is not None:
        missing = values == nodata
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32, copy=False))
        if not finite.all():
            missing |= np.isnan(values)
            if not (finite | missing).all():
                raise _Refused("some of its values are infinite, or too large for a 32-bit float")
    if not missing.any():
        return BandImage(values=values)
    if missing.all():
        raise _Refused("all of its values are missing (NaN or the file's nodata value)")
    with _NOTING:
        note_once("missing values (NaN, or the nodata value of a TIFF) become the mean of their channel")
    return BandImage(values=values, missing=missing)


def _cast(text: str, dtype: np.dtype) -> Any:
    """GDAL's nodata value in the type of the pixels; None if no pixel can have it."""
    try:
        number = float(text.strip("\0 "))
    except ValueError:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(number)
    limits = np.iinfo(dtype)
    return dtype.type(int(number)) if number.is_integer() and limits.min <= number <= limits.max else None
