"""Files behind URLs, read by ranges through fsspec: HTTP(S), S3, Google Cloud Storage, the Hub and others."""

import errno
import io
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vitral.data.extra import optional
from vitral.errors import UserError

__all__ = [
    "RemoteFile",
    "RemoteStream",
    "as_typed",
    "as_url",
    "filesystem",
    "has_ranges",
    "list_urls",
    "read_if_there",
    "read_ranges",
    "retried",
    "stat_files",
]

CONNECTIONS = 32
"""Requests at the same time, of each process."""

PATIENCE = "VITRAL_RETRY_SECONDS"
"""Environment variable with the seconds for which a failing request is tried again."""

RETRY_SECONDS = 30.0
"""The same, if the variable is not set."""

FIRST_RETRY_SECONDS = 1.5
"""The same while the data is opened, when little is lost and a mistyped URL is likely."""

FIRST_WAIT, LONGEST_WAIT = 0.05, 20.0
"""Seconds between two tries: at first, as a connection may just be stale, and at most."""

MAX_GAP = 1 << 16
"""Bytes between two ranges that are read in vain, as they cost less than another request."""

MAX_RANGE = 1 << 23
"""Bytes of the largest request that two ranges are merged into."""

BLOCK = 1 << 22
"""Bytes of a block of a stream."""

VERSIONS = ("ETag", "etag", "Content-MD5", "md5Hash", "Last-Modified", "LastModified", "last_modified", "mtime")
"""Keys of fsspec's information about a file that change with its content, the most reliable first."""

PASSING = (408, 425, 429)
"""HTTP statuses below 500 that may pass."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file behind a URL."""

    url: str
    size: int
    """In bytes."""
    version: str
    """What changes with the content, such as `ETag: "5e1"`; empty: the server gives nothing like it."""

    def __str__(self) -> str:
        return self.url


class RemoteStream(io.RawIOBase):
    """A remote file to seek in; it is read in blocks, of which it keeps two."""

    def __init__(self, file: RemoteFile) -> None:
        self.file, self.position = file, 0
        self.blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase`."""
        self.position = (0, self.position, self.file.size)[whence] + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        if self.position >= self.file.size:
            return 0
        number, start = divmod(self.position, BLOCK)
        part = self._block(number)[start : start + len(buffer)]
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)

    def _block(self, number: int) -> bytes:
        if number not in self.blocks:
            start = number * BLOCK
            content = read_ranges([(self.file, start, min(BLOCK, self.file.size - start))])[0]
            # two, as a reader goes back from the next header to what it has skipped
            last_block = dict(list(self.blocks.items())[-1:])
            self.blocks = {**last_block, number: content}
        return self.blocks[number]


def as_typed(path: Path) -> str:
    """A path as text, with the `//` of URLs, of which a path keeps one `/`."""
    return re.sub(r"\b([a-z][a-z0-9+.-]+):/+(?=[^/])", r"\1://", str(path))


def as_url(path: Path) -> str | None:
    """The URL that a path was typed as; None for a file of this machine."""
    text = as_typed(path)
    return text if re.match(r"[a-z][a-z0-9+.-]+:(:|//)", text) and not text.startswith("file:") else None


def filesystem(url: str) -> Any:
    """The fsspec file system of a URL, one in each process.

    Raises:
        UserError: fsspec or the package of the URL's scheme is not installed, or there is no such scheme.
    """
    fsspec = optional("fsspec", purpose="reading URLs")
    options: dict[str, Any] = {}
    scheme = url.split("://", 1)[0]
    if scheme in ("http", "https"):
        aiohttp = optional("aiohttp", purpose="reading URLs")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
        options = {"client_kwargs": {"timeout": timeout, "trust_env": True}}
    try:
        return fsspec.url_to_fs(url, **options)[0]
    except ImportError as error:
        raise UserError(f"{url} cannot be read without another package: {str(error).rstrip('.')}") from None
    except ValueError as error:
        raise UserError(f"{url} cannot be read: {error}: use https, s3, gs or another scheme of fsspec") from None


def stat_files(urls: Sequence[str]) -> list[RemoteFile]:
    """Size and version of files.

    Raises:
        UserError: one cannot be reached, or has no size.
    """

    def stat(url: str) -> RemoteFile:
        information = retried(url, lambda: filesystem(url).info(url), seconds=FIRST_RETRY_SECONDS)
        if information.get("size") is None:
            raise UserError(f"{url} has no size, so it cannot be read by ranges: give another server")
        key = next((key for key in VERSIONS if information.get(key)), None)
        return RemoteFile(
            url=url, size=int(information["size"]), version="" if key is None else f"{key}: {information[key]}"
        )

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            return list(pool.map(stat, urls))
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            raise UserError(f"{error}; check the URL and the network") from None


def list_urls(pattern: str) -> list[str]:
    """URLs that match a pattern with `*`, or all files of a folder, sorted.

    Raises:
        UserError: the server cannot be reached, or lists no files, as those of HTTP.
    """
    if pattern.startswith("http"):
        raise UserError(f"{pattern}: HTTP servers do not list their files: name them, such as train-{{000..146}}.tar")
    system, folder = filesystem(pattern), pattern.partition("*")[0].rpartition("/")[0] if "*" in pattern else pattern
    listed = system.glob if "*" in pattern else system.find
    try:
        paths = retried(pattern, lambda: listed(pattern), seconds=FIRST_RETRY_SECONDS)
    except OSError as error:
        raise UserError(f"{error}; check the URL and the network") from None
    inside = system._strip_protocol(folder)
    return sorted(f"{folder}/{path.removeprefix(inside).lstrip('/')}" for path in paths)


def read_if_there(url: str) -> bytes | None:
    """A small file; None if there is none, or a web page in its place.

    Raises:
        OSError: the server cannot be reached.
    """

    def read() -> bytes | None:
        try:
            return filesystem(url).cat_file(url)
        except (FileNotFoundError, PermissionError):
            return None
        except Exception as error:
            # storage whose files cannot be listed does not say that one is missing
            if getattr(error, "status", None) in (401, 403, 404, 410):
                return None
            raise

    content = retried(url, read, seconds=FIRST_RETRY_SECONDS)
    return None if content is None or content.lstrip().startswith(b"<") else content


def has_ranges(file: RemoteFile) -> bool:
    """Whether the server sends a part of a file when it is asked for one, not the whole."""
    if file.size < 2:
        return True
    return len(retried(file.url, lambda: _fetch(file, 0, 1), seconds=FIRST_RETRY_SECONDS)) == 1


def read_ranges(ranges: Sequence[tuple[RemoteFile, int, int]]) -> list[bytes]:
    """Reads byte ranges, many at a time; near ones in one request.

    Args:
        ranges: file, offset and size of each.

    Raises:
        OSError: a server cannot be reached, even after several tries, or a file has changed.
    """
    merge = optional("fsspec.utils", purpose="reading URLs").merge_offset_ranges
    if not ranges:
        return []
    files = {file.url: file for file, _, _ in ranges}
    wanted = [(file.url, start, start + size) for file, start, size in ranges]
    urls, starts, ends = ([part[field] for part in wanted] for field in range(3))
    merged = list(zip(*merge(urls, starts, ends, max_gap=MAX_GAP, max_block=MAX_RANGE), strict=True))
    with ThreadPoolExecutor(min(CONNECTIONS, len(merged))) as pool:
        contents = list(pool.map(lambda part: _read(files[part[0]], *part[1:]), merged))
    by_url: dict[str, list[tuple[int, int, bytes]]] = {}
    for (url, start, end), content in zip(merged, contents, strict=True):
        by_url.setdefault(url, []).append((start, end, content))
    found = []
    for url, start, end in wanted:
        first, _, content = next(part for part in by_url[url] if part[0] <= start and end <= part[1])
        found.append(content[start - first : end - first])
    return found


def _read(file: RemoteFile, start: int, end: int) -> bytes:
    if start == end:
        return b""

    def read() -> bytes:
        content = _fetch(file, start, end)
        if len(content) != end - start:
            raise OSError(f"{len(content)} bytes came of {end - start}")
        return content

    return retried(file.url, read)


def _fetch(file: RemoteFile, start: int, end: int) -> bytes:
    """One request, which fails if the file has changed and the server can say so."""
    system = filesystem(file.url)
    if not file.url.startswith("http"):
        return system.cat_file(file.url, start=start, end=end)
    headers = {"Accept-Encoding": "identity"}
    key, _, value = file.version.partition(": ")
    if key == "ETag" and not value.startswith("W/"):
        headers["If-Match"] = value
    elif key == "Last-Modified":
        headers["If-Unmodified-Since"] = value
    try:
        return system.cat_file(file.url, start=start, end=end, headers=headers)
    except Exception as error:
        if getattr(error, "status", None) not in (412, 416):
            raise
        if stat_files([file.url]) != [file]:
            raise _Failed(f"{file.url} has changed since it was opened: restore it, or start again") from None
        # some servers compare another version than the one that they state
        return system.cat_file(file.url, start=start, end=end, headers={"Accept-Encoding": "identity"})


class _Failed(OSError):
    """A file cannot be read, or has changed; another try does not help."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.errno = errno.EIO  # an error of the machine, for which no image is skipped


def _patience() -> float:
    text = os.environ.get(PATIENCE, str(RETRY_SECONDS))
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{PATIENCE} must be a number of seconds, such as 300, not {text!r}") from None


def retried(url: str, call: Callable[[], T], *, seconds: float | None = None) -> T:
    """Calls until it succeeds, with a wait after each failure that may pass, twice as long each time.

    Args:
        url: what is read, for errors.
        call: reads it; may be called again after any error.
        seconds: to wait in all; None: as VITRAL_RETRY_SECONDS says.

    Raises:
        OSError: it failed for good, or for too long. The message is a sentence with the URL and the cause.
    """
    wait, waited, seconds = FIRST_WAIT, 0.0, _patience() if seconds is None else seconds
    while True:
        try:
            return call()
        except (UserError, _Failed):
            raise
        # each of fsspec's file systems has errors of its own
        except Exception as error:
            cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            passing = _may_pass(cause)
            if not passing or waited + wait > seconds:
                tries = f", tried for {waited:.0f} seconds" if passing and waited > 1 else ""
                raise _Failed(f"{url} cannot be read: {_reason(cause)}{tries}") from None
        time.sleep(wait)
        wait, waited = min(2 * wait, LONGEST_WAIT), waited + wait


def _may_pass(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status >= 500 or status in PASSING
    lasting = FileNotFoundError | PermissionError | IsADirectoryError | ImportError | TypeError | NotImplementedError
    return not isinstance(error, lasting) and type(error).__name__ not in ("NoCredentialsError", "InvalidURL")


def _reason(error: BaseException) -> str:
    """The cause in a few words."""
    status = getattr(error, "status", None)
    number = getattr(error, "errno", None)
    if isinstance(error, FileNotFoundError) or status == 404:
        return "there is no such file"
    if isinstance(status, int):
        return f"HTTP status {status} {getattr(error, 'message', '')}".rstrip()
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    words = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return words[0] if words else type(error).__name__
