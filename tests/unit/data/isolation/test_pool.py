"""Decoders that crash, hang or attack cost their image, and nothing else."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import AvifImagePlugin

import hostile
from picture_files import picture_files
from vitral.data.images.errors import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.isolation import pool as pools
from vitral.data.isolation.pool import DecoderPool
from vitral.data.isolation.sandbox import Limits, has_filter
from vitral.data.isolation.worker import limit_threads
from vitral.errors import UserError
from vitral.serve.decoding import isolated_decoders, read_arrays

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")

HEALTHY = b"abcdef"


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    limits = Limits(memory=2**30, cpu_seconds=1)
    decoders = DecoderPool(hostile.read, shape=hostile.SHAPE, dtype=np.uint8, processes=2, limits=limits)
    yield decoders
    decoders.close()


def refusal(pool: DecoderPool, content: bytes) -> str:
    with pytest.raises(UnreadableImage) as refused:
        pool.decode(content, name="a.png")
    # every other image is answered
    assert pool.decode(HEALTHY, name="b.png").pixels.tobytes() == HEALTHY
    return str(refused.value)


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("crash", "SIGSEGV"),
        ("allocate", "memory limit of 1 GiB"),
        ("loop", "time limit of 1 s"),
        ("end", "status 3"),
        ("shape", "damaged"),
    ],
)
def test_a_decoder_that_fails_costs_its_image(pool: DecoderPool, way: str, reason: str) -> None:
    message = refusal(pool, way.encode())
    assert message.startswith("a.png: the decoder was stopped (")
    assert reason in message


@pytest.mark.skipif(not has_filter(), reason="needs the package pyseccomp, and libseccomp")
@pytest.mark.parametrize("way", ["open_file", "write_file", "connect", "fork", "execute", "kill"])
def test_a_decoder_that_attacks_is_not_permitted_to(pool: DecoderPool, way: str) -> None:
    assert "not permitted" in refusal(pool, way.encode()).lower()


def test_a_decoder_that_sleeps_is_stopped(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "PATIENCE", 0.2)
    with pytest.raises(UnreadableImage, match="time limit"):
        pool.decode(b"sleep", name="a.png")


def test_an_image_that_is_too_late_is_no_damaged_one(pool: DecoderPool) -> None:
    with pytest.raises(TimeoutError):
        pool.decode(b"sleep", name="a.png", end=time.monotonic() + 0.1)


def test_files_are_named_by_what_is_wrong_with_them(pool: DecoderPool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in {"missing.png": "no such file", ".": "directory", "pipe.png": "not a regular file"}.items():
        with pytest.raises(UnreadableImage, match=reason):
            pool.decode(tmp_path / name, name=name)
    (tmp_path / "a.png").write_bytes(HEALTHY)
    decoded = pool.decode(tmp_path / "a.png", name="a.png", drawn=True)
    assert decoded.pixels.tobytes() == HEALTHY
    assert decoded.picture is not None
    assert decoded.picture.shape == (4, 5, 3)


def test_threads_share_a_pool(pool: DecoderPool) -> None:
    wrong: list[bytes] = []

    def decode(number: int) -> None:
        content = f"image{number}".encode()
        if pool.decode(content, name="a.png").pixels.tobytes() != content:
            wrong.append(content)

    threads = [threading.Thread(target=decode, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_process_that_forks_is_replaced() -> None:
    decoders = DecoderPool(hostile.read, shape=hostile.SHAPE, dtype=np.uint8, processes=1)
    try:
        decoders.decode(HEALTHY, name="a.png")
        os.kill(decoders.starter.pid, signal.SIGKILL)
        with pytest.raises(UnreadableImage):
            decoders.decode(b"crash", name="a.png")
        assert decoders.decode(HEALTHY, name="a.png").pixels.tobytes() == HEALTHY
    finally:
        decoders.close()


def test_other_systems_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match="Linux"):
        DecoderPool(hostile.read, shape=hostile.SHAPE, dtype=np.uint8, processes=1)


def test_every_format_gives_the_same_pixels() -> None:
    preprocessing = Preprocessing(image_size=(32, 32), channels=3, resize="crop")
    decoders = isolated_decoders(preprocessing, processes=1)
    different = []
    try:
        for file in picture_files()[::7]:
            pixels, picture = read_arrays(preprocessing, BytesIO(file.content), file.name, True)
            decoded = decoders.decode(file.content, name=file.name, drawn=True)
            if not (np.array_equal(decoded.pixels, pixels) and np.array_equal(decoded.picture, picture)):
                different.append(file.name)
    finally:
        decoders.close()
    assert not different


def test_decoders_have_few_threads_on_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [
        (AvifImagePlugin, "DEFAULT_MAX_THREADS"),
        *((import_module(name), "DECODE_THREADS") for name in ("pillow_heif.options", "pillow_jxl.JpegXLImagePlugin")),
    ]
    for cores, threads in ((64, 4), (2, 2)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        for module, name in settings:
            monkeypatch.setattr(module, name, -1)
        limit_threads()
        assert [getattr(module, name) for module, name in settings] == [threads] * 3
