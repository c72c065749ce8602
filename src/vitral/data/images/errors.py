"""Why an image is not read: errors of the file, in one sentence, and errors of the machine."""

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

from PIL import Image, UnidentifiedImageError

from vitral.errors import UserError

__all__ = ["NotRead", "TooLarge", "UnreadableImage", "decoding", "is_machine_error"]

_MACHINE_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        # open files, memory, disk, network
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EIO", "EAGAIN", "EBUSY", "EINTR", "ENODEV", "ENXIO"),
        *("ESTALE", "ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ENOTCONN", "EREMOTEIO", "ESHUTDOWN"),
    )
    if hasattr(errno, name)
)

UNSUPPORTED = ("unsupported", "not supported", "cannot handle")
"""What Pillow says of files that are whole."""


class NotRead(Exception):
    """The reader itself refuses an image; the message is the reason. `decoding` turns it into an `UnreadableImage`."""


class TooLarge(NotRead):
    """The image has more pixels, or takes more memory, than allowed."""


class UnreadableImage(UserError):
    """A file cannot be read as an image. The message is one sentence with the file's name and the reason."""


def is_machine_error(error: BaseException) -> bool:
    """Whether an error comes from the machine (memory, open files, disk, network) and not from the file's bytes."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _MACHINE_ERRORS)


@contextmanager
def decoding(name: str, *, kind: str, formats: str) -> Iterator[None]:
    """Turns every error about the file's bytes into an `UnreadableImage`; errors of the machine pass through.

    Args:
        name: the image's name in errors.
        kind: what it is read as, such as `an image`.
        formats: names of the formats that are allowed, such as `JPEG or PNG`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata is no reason to print a line of Pillow's source
            yield
        return
    # a damaged file can make Pillow's parsers raise almost anything
    except Exception as error:
        failure = error
    cause = None
    try:  # raised out here, so that a cause does not become its own context
        cause = next(filter(is_machine_error, _causes(failure)), None)
        if cause is not None:
            if isinstance(cause, OSError) and cause.filename is None:  # an open file does not know its name
                cause.filename = name
            raise cause
        raise UnreadableImage(f"{name} cannot be read as {kind}: {_reason(failure, formats)}") from failure
    finally:  # the frames of an error hold the pixels, and this frame the error: until a garbage collection
        _clear_frames(failure)
        del failure, cause


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it, as Pillow raises its own errors for those of reading the file."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _clear_frames(failure: Exception) -> None:
    """Forgets what the functions knew that an error has left."""
    for error in _causes(failure):
        clear_frames(error.__traceback__)


def _reason(error: Exception, formats: str) -> str:
    text = " ".join(str(error).split()).partition(". Please")[0]  # JPEG XL's decoder tells how to build it
    match error:
        case NotRead() | UserError():
            return text
        case FileNotFoundError():
            return "there is no such file"
        case UnidentifiedImageError():
            return f"it is not a {formats} file, or its header is damaged"
        case Image.DecompressionBombError():
            return "it has more pixels than allowed: VITRAL_MAX_PIXELS in the environment allows more"
        case OSError(strerror=str(system)):
            return system.lower()
        case OSError() | SyntaxError() | ValueError() | NotImplementedError() if _is_unsupported(text):
            return f"it is of a kind that is not read ({text}): save it as JPEG or PNG"
        case _:
            return f"it is damaged or truncated ({text or type(error).__name__})"


def _is_unsupported(text: str) -> bool:
    return any(words in text.lower() for words in UNSUPPORTED)
