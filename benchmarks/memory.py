"""Does memory grow with the steps of a training, or with the images of a prediction?

    python benchmarks/memory.py --steps 2000 --images 50000

Trains on digits in a process of its own, classifies PNG files through `Predictor`, and the same through `vitral serve`
in requests of 20 images, with and without `--isolate`. Prints a Markdown table of resident memory (RSS): after a tenth
of the work, when everything is warm, at the end, and the most between. Linux only.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from vitral.serve.predictor import Predictor

PER_REQUEST = 20
SAMPLES = 50
"""Times that memory is measured."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="of training, after a tenth as many to warm up")
    parser.add_argument("--images", type=int, default=50_000, help="images, after a tenth as many to warm up")
    options = parser.parse_args()
    print("| what | warm, MiB | end, MiB | most, MiB | end / warm |")
    print("|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row(f"train, {options.steps:,} steps", list(train(folder, options.steps)))
        model = folder / "run"
        row(f"Predictor, {options.images:,} images", list(predict(model, options.images)))
        for flags in ((), ("--isolate",)):
            what = " ".join(("vitral serve", *flags))
            row(f"{what}, {options.images:,} images", list(serve(model, options.images, flags)))


def train(folder: Path, steps: int) -> Iterator[int]:
    """RSS at every line that the training logs, in bytes; when it is warm it has evaluated and saved a checkpoint."""
    total = steps + steps // 10
    command = [sys.executable, "-m", "vitral", "train", "digits", "--out", str(folder / "run")]
    settings = [
        "--train.steps",
        str(total),
        "--train.log",
        f"{total // SAMPLES}steps",
        "--train.evaluate",
        f"{steps // 10}steps",
        "--checkpoint.every",
        f"{steps // 20}steps",
    ]
    with subprocess.Popen(
        [*command, *settings], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step "):
                yield resident(process.pid)


def predict(model: Path, count: int) -> Iterator[int]:
    """RSS of this process."""
    predictor, files = Predictor(model, device="cpu"), pngs()
    each = (count + count // 10) // SAMPLES
    for _ in range(SAMPLES):
        for _ in predictor.predict([files[number % len(files)] for number in range(each)]):
            pass
        yield resident(os.getpid())


def serve(model: Path, count: int, flags: tuple[str, ...]) -> Iterator[int]:
    """RSS of the service."""
    command = [sys.executable, "-m", "vitral", "serve", str(model), "--port", "0", "--queue", "64", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(r"(http://\S+:\d+)$", line.rstrip()):
                break
        else:
            raise RuntimeError("the service did not start")
        files = [("image", (f"{number}.png", content, "image/png")) for number, content in enumerate(pngs())]
        with httpx.Client(base_url=match[1], transport=httpx.HTTPTransport(retries=30), timeout=120) as client:
            while client.get("/readyz").status_code != 200:
                pass
            each = (count + count // 10) // SAMPLES // PER_REQUEST
            for _ in range(SAMPLES):
                for _ in range(each):
                    client.post("/v1/predict", files=files).raise_for_status()
                yield resident(process.pid)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def pngs() -> list[bytes]:
    """Small pictures, as files."""
    prng, contents = np.random.default_rng(0), []
    for _ in range(PER_REQUEST):
        stream = BytesIO()
        Image.fromarray(prng.integers(0, 256, (32, 32, 3), np.uint8)).save(stream, "PNG")
        contents.append(stream.getvalue())
    return contents


def resident(pid: int) -> int:
    """RSS of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def row(what: str, sizes: list[int]) -> None:
    """Prints a line of the table."""
    warm = sizes[len(sizes) // 11 :]
    first, last, most = (size / 2**20 for size in (warm[0], warm[-1], max(warm)))
    print(f"| {what} | {first:,.1f} | {last:,.1f} | {most:,.1f} | {last / first:.4f} |", flush=True)


if __name__ == "__main__":
    main()
