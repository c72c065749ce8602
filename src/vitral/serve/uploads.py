"""Images in the body of a request: multipart, raw bytes, or base64 in JSON."""

import asyncio
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from vitral.serve.config import ServeConfig
from vitral.serve.problems import Problem

__all__ = ["REQUEST_BODY", "ClientGone", "Upload", "Uploads"]

HELD_BODIES = 8
"""Bodies of the largest size that may be in memory at a time."""

SMALL = 2**20
"""Bytes of a body that is parsed in a millisecond."""

REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "description": "One image as raw bytes, several as multipart files or as base64 in JSON.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                },
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["data"],
                            "properties": {
                                "data": {"type": "string", "contentEncoding": "base64"},
                                "name": {"type": "string"},
                            },
                        },
                    }
                },
            }
        },
    },
}
"""The body of a request in the OpenAPI document."""


class ClientGone(Exception):
    """The client closed the connection before the answer."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An image as a client sent it."""

    name: str
    """The file's name, or its position such as `images[3]`."""
    content: bytes
    """The file."""


class Uploads:
    """Reads bodies within limits, and bounds the memory of all bodies together."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[list[Upload]]:
        """The images of a request, which count as held in memory until the context ends.

        Raises:
            Problem: the body is too large, late, damaged, or no image.
            ClientGone: the client closed the connection.
        """
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        parse = _parser(kind.decode("latin-1").lower())
        body = bytearray()
        try:
            await self._receive(request, body)
            # a large body would hold up all other requests
            arguments = bytes(body), options, self.config.max_files
            uploads = parse(*arguments) if len(body) < SMALL else await run_in_threadpool(parse, *arguments)
            if not uploads:
                raise Problem(400, "the request has no image: send at least one")
            if len(uploads) > self.config.max_files:
                raise _too_many(self.config.max_files)
            yield uploads
        finally:
            self._held -= len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        """Appends the whole body to `body`."""
        limit, declared = self.config.max_body, request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self.config.body_timeout):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > limit:
                        raise _too_large(limit)
                    if self._held + len(chunk) > HELD_BODIES * limit:
                        raise Problem(429, "the service holds too many images in memory: try again", retry_after=1)
                    body += chunk
                    self._held += len(chunk)
        except TimeoutError:
            raise Problem(408, f"the body did not arrive within {self.config.body_timeout:g} seconds") from None
        except ClientDisconnect:
            raise ClientGone from None


def _parser(kind: str) -> Any:
    if kind == "multipart/form-data":
        return _parse_multipart
    if kind == "application/json":
        return _parse_json
    if kind.startswith("image/") or kind == "application/octet-stream":
        return _parse_raw
    given = kind or "none"
    raise Problem(
        415,
        f"the content type is {given}: send multipart/form-data (curl -F image=@FILE), "
        "an image with its own type such as image/jpeg, or application/json",
    )


def _parse_raw(body: bytes, options: dict[bytes, bytes], max_files: int) -> list[Upload]:
    return [Upload(name="images[0]", content=body)] if body else []


def _parse_json(body: bytes, options: dict[bytes, bytes], max_files: int) -> list[Upload]:
    form = 'send {"images": [{"data": "BASE64"}]}'
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Problem(400, f"the body is no valid JSON: {form}") from None
    items = value.get("images") if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise Problem(422, f"the JSON has no list of images: {form}")
    if len(items) > max_files:
        raise _too_many(max_files)
    uploads = []
    for number, item in enumerate(items):
        where = f"images[{number}]"
        data, name = (item.get("data"), item.get("name", where)) if isinstance(item, dict) else (None, where)
        if not isinstance(data, str) or not isinstance(name, str):
            raise Problem(422, f"{where} has no text in data, or a name that is no text: {form}")
        try:
            uploads.append(Upload(name=_storable(name), content=binascii.a2b_base64(data, strict_mode=True)))
        except ValueError:
            raise Problem(400, f"{where}.data is no valid base64") from None
    return uploads


def _storable(name: str) -> str:
    """A name that UTF-8 can hold: JSON may have halves of a character."""
    return name.encode(errors="replace").decode()


def _parse_multipart(body: bytes, options: dict[bytes, bytes], max_files: int) -> list[Upload]:
    if not (boundary := options.get(b"boundary")):
        raise Problem(400, "the multipart content type has no boundary")
    form = _Form(max_files)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
    except FormParserError:
        raise Problem(400, "the multipart body is damaged") from None
    if not form.ended:
        raise Problem(400, "the multipart body is truncated: its last boundary is missing")
    return form.uploads


class _Form:
    """Collects the files of a multipart body; other fields are ignored."""

    def __init__(self, max_files: int) -> None:
        self.max_files = max_files
        self.uploads: list[Upload] = []
        self.ended = False

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self.disposition, self.field, self.value, self.data = b"", bytearray(), bytearray(), bytearray()

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self.field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _end_header(self) -> None:
        if self.field.lower() == b"content-disposition":
            self.disposition = bytes(self.value)
        self.field, self.value = bytearray(), bytearray()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self.data += memoryview(data)[start:end]

    def _end_part(self) -> None:
        _, options = parse_options_header(self.disposition)
        if (filename := options.get(b"filename")) is None:
            return
        if len(self.uploads) == self.max_files:
            raise _too_many(self.max_files)
        name = filename.decode(errors="replace") or f"images[{len(self.uploads)}]"
        self.uploads.append(Upload(name=name, content=bytes(self.data)))

    def _end(self) -> None:
        self.ended = True


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body has more than the {limit} bytes allowed: send fewer or smaller images")


def _too_many(limit: int) -> Problem:
    return Problem(413, f"the request has more than the {limit} images allowed: send several requests")
