"""Request bodies with random damage: images of several forms, multipart and JSON."""

import base64
import json
from collections.abc import Iterator

import numpy as np

from serve.client import image_file

__all__ = ["mutations"]

FORMS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "TIFF": "image/tiff"}


def mutations(count: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """Content types and bodies."""
    rng, wholes = np.random.default_rng(seed), _wholes()
    for _ in range(count):
        kind, body = wholes[rng.integers(len(wholes))]
        for _ in range(rng.integers(1, 4)):
            body = _mutated(body, rng)
        yield kind, body


def _wholes() -> list[tuple[str, bytes]]:
    """Bodies without damage."""
    images = [(kind, image_file(form=form)) for form, kind in FORMS.items()]
    head = '--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    parts = b"\r\n".join(head.encode() + content for _, content in images)
    items = [{"name": kind, "data": base64.b64encode(content[:300]).decode()} for kind, content in images]
    multipart = ("multipart/form-data; boundary=b", parts + b"\r\n--b--\r\n")
    text = ("application/json", json.dumps({"images": items}).encode())
    return [*images, *[multipart, text] * 2]


def _mutated(body: bytes, rng: np.random.Generator) -> bytes:
    """A body with bytes changed, cut out, doubled or put in; mostly near the start, where headers are."""
    where = int(len(body) * rng.random() ** 3)
    length = int(rng.integers(1, 64))
    rest = body[where + length :]
    return (
        body[:where]
        + [
            rng.integers(0, 256, length, np.uint8).tobytes() + rest,
            rest,
            body[where : where + length] * 2 + rest,
            rng.integers(0, 256, length, np.uint8).tobytes() + body[where:],
            b"",
            rng.choice([b"\0", b"\xff", b"\r\n", b'"', b"9" * 12]) * int(rng.integers(1, 9)) + rest,
        ][rng.integers(6)]
    )
