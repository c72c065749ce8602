"""An application with a small model, and images to send to it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from models import small_model
from vitral.serve import ServeConfig, create_app

__all__ = ["client_of", "image_file", "picture", "wait_until_ready"]

SECONDS = 300


def picture(seed: int = 0) -> Image.Image:
    """A picture of noise, another one for each seed."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8))


def image_file(seed: int = 0, form: str = "PNG") -> bytes:
    """The file of `picture`."""
    stream = BytesIO()
    picture(seed).save(stream, form)
    return stream.getvalue()


def wait_until_ready(client: Any) -> None:
    """Waits until `/readyz` answers 200."""
    end = time.monotonic() + SECONDS
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def client_of(models: Any = None, **limits: Any) -> Iterator[TestClient]:
    """A client of an application in this process, once it is ready."""
    app = create_app(small_model() if models is None else models, config=ServeConfig(**limits))
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client
