"""Memory that decoding images takes: one budget for all that read at the same time."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from picture_files import png_chunk, png_file
from vitral.data.config import DataConfig
from vitral.data.images import memory
from vitral.data.images.costs import decoding_cost
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.images.errors import NotRead
from vitral.data.images.limits import check_size
from vitral.datasets.opening import open_stored
from vitral.errors import UserError

SIDE = 4000

PEAK = """
import os, sys
from pathlib import Path
from PIL import Image
from vitral.data.images.decode import read_image

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name)))

def read(file):
    return read_image(Path(file), channels=3).resize((32, 32))

read(sys.argv[1])
for file in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    read(file)
    print(status("VmHWM") - before)
"""

READERS = (
    PEAK.partition("read(sys.argv[1])")[0]
    + """
from concurrent.futures import ThreadPoolExecutor

read(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
with ThreadPoolExecutor(4) as readers:
    list(readers.map(read, sys.argv[1:]))
print(status("VmHWM") - before)
"""
)

MOST = 6
"""Bytes a pixel."""

ROOM = 2**26
"""Bytes that four threads take besides: files, rows that are changed, what the allocator keeps."""


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("VITRAL_MEMORY", "64MB")
    return 2**26


def test_sizes() -> None:
    assert memory.parse_size("2GiB", name="x") == memory.parse_size("2048 mb", name="x") == 2**31
    assert memory.parse_size("1000", name="x") == 1000
    for text in ("", "much", "-1GB", "0", "1e9", "1PB"):
        with pytest.raises(UserError, match=r"--data\.memory must be a size"):
            memory.parse_size(text, name="--data.memory")


def test_an_image_above_the_limit(limit: int) -> None:
    memory.reserve(limit).release()
    with pytest.raises(NotRead, match=r"65 MiB .* the 64 MiB allowed: --data\.memory, or VITRAL_MEMORY"):
        memory.reserve(limit + 2**20)
    large = png_file([bytes(3 * SIDE)] * SIDE, SIDE, depth=8, kind=2)
    with pytest.raises(UnreadableImage, match=r"--data\.memory"):
        read_image(large, channels=3)


@pytest.mark.parametrize("depth", [np.uint8, np.int16])
def test_a_huge_tile_of_a_small_image_counts(limit: int, depth: type) -> None:
    content = BytesIO()
    tile = (4800, 4800)
    tifffile.imwrite(content, np.zeros((8, 8, 3), depth), photometric="rgb", tile=tile, compression="zlib")
    with pytest.raises(UnreadableImage, match=r"--data\.memory"):
        read_image(content.getvalue(), channels=3)


def test_sizes_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unequal sizes do not look equal."""
    for limit, size, words in (
        ("1KB", 200_000, "takes 195 KiB of memory, more than the 1,024 bytes"),
        ("2GiB", 20 * 2**30, "takes 20 GiB of memory, more than the 2,048 MiB"),
    ):
        monkeypatch.setenv("VITRAL_MEMORY", limit)
        with pytest.raises(NotRead, match=words):
            memory.reserve(size)


def test_a_flag_sets_the_limit(limit: int) -> None:
    memory.limit_memory(None, name="--memory")
    assert memory.max_memory() == limit
    memory.limit_memory("1MB", name="--memory")
    assert memory.max_memory() == 2**20
    with pytest.raises(UserError, match=r"^--memory must be a size such as 500MB or 2GiB, not 'lots'"):
        memory.limit_memory("lots", name="--memory")
    assert memory.max_memory() == 2**20


@pytest.mark.parametrize("variable", ["VITRAL_MEMORY", "VITRAL_MAX_PIXELS"])
def test_a_wrong_environment_is_no_fault_of_the_images(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "lots")
    with pytest.raises(UserError, match=rf"^{variable} must be"):
        open_stored(DataConfig(source="digits"))


@pytest.mark.parametrize("form", ["JPEG", "HEIF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_largest_photographs_of_phones_are_read(form: str, orientation: int) -> None:
    """108 megapixels keep to the limits that hold unless others are set."""
    image = Image.new("RGB", (1, 1))
    image._size, image.format = (12_000, 9_000), form
    image.getexif()[ExifTags.Base.Orientation] = orientation
    check_size(*image.size)
    coefficients = 6 * 108_000_000 if form == "JPEG" else 0
    assert decoding_cost(image, coefficients=coefficients) < memory.max_memory()


def test_readers_wait_for_each_other(limit: int) -> None:
    taken, most = [0], [0]
    lock = threading.Lock()

    def read(number: int) -> None:
        for turn in range(20):
            size = limit * (1 + (number + turn) % 10) // 10
            reservation = memory.reserve(size)
            with lock:
                taken[0] += size
                most[0] = max(most[0], taken[0])
            time.sleep(0.0005)
            with lock:
                taken[0] -= size
            reservation.release()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert limit // 2 < most[0] <= limit


def test_memory_is_free_again_with_the_image(limit: int) -> None:
    done = threading.Event()

    def read() -> None:
        memory.reserve(limit)
        done.set()

    image = read_image(png_file([bytes(24)] * 8, 8, depth=8, kind=2), channels=3)
    thread = threading.Thread(target=read)
    thread.start()
    assert not done.wait(0.1)
    del image
    assert done.wait(10)
    thread.join()


def test_a_thread_never_waits_for_itself(limit: int) -> None:
    kept = [memory.hold(Image.new("L", (1, 1)), memory.reserve(limit)) for _ in range(3)]
    assert len(kept) == 3


def take(file: str, size: int, log: str) -> None:
    memory.start_sharing(file)
    for _ in range(10):
        reservation = memory.reserve(size)
        with Path(log).open("a") as stream:
            stream.write(f"{size}\n")
        time.sleep(0.001)
        with Path(log).open("a") as stream:
            stream.write(f"{-size}\n")
        reservation.release()


def die(file: str, size: int) -> None:
    memory.start_sharing(file)
    memory.reserve(size)
    os._exit(9)


def test_processes_share(limit: int, tmp_path: Path) -> None:
    """Also with one that was killed while it held memory."""
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    with memory.shared(3) as file:
        assert file is not None
        killed = context.Process(target=die, args=(file, limit))
        killed.start()
        killed.join(20)
        sizes = (limit, limit // 3, limit // 4)
        processes = [context.Process(target=take, args=(file, size, str(log))) for size in sizes]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    steps = [int(line) for line in log.read_text().split()]
    assert len(steps) == 60
    totals = [sum(steps[: end + 1]) for end in range(len(steps))]
    assert max(totals) <= limit
    assert totals[-1] == 0


def test_one_process_shares_with_nobody() -> None:
    with memory.shared(1) as file:
        assert file is None


def hostile(folder: Path) -> list[Path]:
    """Small files of many pixels."""

    def png(depth: int, kind: int, size: int) -> bytes:
        return png_file([bytes(SIDE * size)] * SIDE, SIDE, depth=depth, kind=kind)

    contents = {"grey16.png": png(16, 0, 2), "rgb.png": png(8, 2, 3), "rgba.png": png(8, 6, 4), "la.png": png(8, 4, 2)}
    contents["rgba16.png"] = png(16, 6, 8)
    for name, chunk in (("sbit.png", png_chunk(b"sBIT", bytes((12,) * 3))), ("key.png", png_chunk(b"tRNS", bytes(6)))):
        contents[name] = png_file([bytes(6 * SIDE)] * SIDE, SIDE, depth=16, kind=2, chunks=chunk)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    square = (SIDE, SIDE)
    tifffile.imwrite(folder / "float.tif", np.zeros(square, np.float32), compression="zlib")
    tifffile.imwrite(folder / "rgb16.tif", np.zeros((*square, 3), np.uint16), compression="zlib", photometric="rgb")
    for name, bands, kind in (("rgb", 3, "rgb"), ("rgba", 4, "rgb"), ("cmyk", 4, "separated")):
        values = np.zeros((bands, *square), np.uint16)
        tifffile.imwrite(folder / f"{name}-planes.tif", values, photometric=kind, compression="zlib", rowsperstrip=64)
    Image.new("P", square).save(folder / "palette.gif", transparency=0)
    Image.new("CMYK", square).save(folder / "cmyk.jpg")
    quarter = Image.Exif()
    quarter[ExifTags.Base.Orientation] = 6
    for mode in ("RGB", "CMYK"):
        Image.new(mode, square).save(folder / f"turned-{mode}.jpg", exif=quarter)
    for mode in ("RGB", "RGBA"):
        Image.new(mode, square).save(folder / f"turned-{mode}.png", exif=quarter)
        Image.new(mode, square).save(
            folder / f"turned-{mode}.tif", exif=quarter, compression="tiff_lzw", tiffinfo={278: 16}
        )
    return sorted(folder.iterdir())


def test_bytes_a_pixel(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    files = hostile(tmp_path / "large")
    assert all(file.stat().st_size < 2**20 for file in files)
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    arguments = [sys.executable, "-c", PEAK, str(small), *map(str, files)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120)
    peaks = {file.name: int(line) / SIDE**2 for file, line in zip(files, done.stdout.split(), strict=True)}
    assert {name: peak for name, peak in peaks.items() if peak >= MOST} == {}


@pytest.mark.slow
def test_four_readers_keep_to_the_limit(tmp_path: Path) -> None:
    """As `vitral predict` reads."""
    files = [file for file in hostile(tmp_path) if file.suffix == ".png"]
    done = subprocess.run(
        [sys.executable, "-c", READERS, *map(str, files * 2)],
        env=os.environ | {"VITRAL_MEMORY": "160MB"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(done.stdout) < 160 * 2**20 + ROOM
