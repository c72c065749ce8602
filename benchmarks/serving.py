"""How much of a model's speed is left over HTTP, and how long do requests take?

    python benchmarks/serving.py --models ViT-S/16 ViT-Ti/16

Starts `vitral serve` in a process of its own, and measures by turns, several times: the bare model on batches in
memory at its best size, `Predictor.predict` on files in memory, and the service at full load and at half of it. Every
answer is checked against the SHA-256 of the image that was sent. Prints a Markdown table of medians.

On a machine that does other work too, CPU time an image says more than images a second. It is read from /proc, so this
needs Linux.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vitral
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.serve.predictor import Predictor
from vitral.weights.folder import save_model

BATCHES = (1, 2, 4, 8, 16, 32)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-S/16"], help="names as in vitral.create")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--clients", type=int, default=64, help="connections at full load (default: 64)")
    parser.add_argument("--max-batch", type=int, default=32, help="of vitral serve (default: 32)")
    options = parser.parse_args()
    print("| model | bare | predict | service | of bare | p50, p99 full load | p50, p99 half load |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        print(measure(name, options), flush=True)


def measure(name: str, options: argparse.Namespace) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    model = vitral.create(name, num_classes=1000, image_size=options.image_size)
    preprocessing = Preprocessing(image_size=(options.image_size,) * 2, channels=3)
    model.card = ModelCard(preprocessing=preprocessing, classes=tuple(map(str, range(1000))))
    files = [photograph(seed, options.image_size) for seed in range(64)]
    bare, predicted, full, half = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), model, model.card)
        predictor = Predictor(folder, batch_size=options.max_batch)
        with service(folder, options.max_batch) as (port, process):
            batches = [batch for batch in BATCHES if batch <= options.max_batch]
            best = max(batches, key=lambda batch: bare_speed(predictor, batch, options.seconds / 4).speed)
            for _ in range(options.rounds):
                bare.append(bare_speed(predictor, best, options.seconds))
                predicted.append(predict_speed(predictor, files, options.seconds))
                full.append(asyncio.run(load(port, process, files, options.seconds, options.clients)))
                rate = full[-1].speed / 2
                half.append(asyncio.run(load(port, process, files, options.seconds, options.clients, rate)))
    cells = [
        *(
            f"{median(speeds, 'speed'):.1f} images/s, {median(speeds, 'cpu'):.1f} ms"
            for speeds in (bare, predicted, full)
        ),
        f"{ratio(full, bare, 'speed'):.0%}, {ratio(bare, full, 'cpu'):.0%} by CPU time",
        *(f"{quantile(speeds, 0.5):.0f}, {quantile(speeds, 0.99):.0f} ms" for speeds in (full, half)),
    ]
    return f"| {name}, batches of {best} | {' | '.join(cells)} |"


@dataclass
class Speed:
    """A measurement."""

    images: int
    seconds: float
    cpu_seconds: float
    times: list[float] = field(default_factory=list)
    """Seconds of each request."""

    @property
    def speed(self) -> float:
        """Images a second."""
        return self.images / self.seconds

    @property
    def cpu(self) -> float:
        """Milliseconds of CPU time an image."""
        return 1000 * self.cpu_seconds / self.images


def median(speeds: list[Speed], figure: str) -> float:
    """The median over rounds."""
    return statistics.median(getattr(speed, figure) for speed in speeds)


def ratio(ones: list[Speed], others: list[Speed], figure: str) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(
        getattr(one, figure) / getattr(other, figure) for one, other in zip(ones, others, strict=True)
    )


def quantile(speeds: list[Speed], fraction: float) -> float:
    """The median over rounds of a quantile of the requests' times, in milliseconds."""
    return statistics.median(1000 * float(np.quantile(speed.times, fraction)) for speed in speeds)


def photograph(seed: int, size: int) -> bytes:
    """A JPEG as smooth as a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (14, 14, 3), np.uint8)
    stream = BytesIO()
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def bare_speed(predictor: Predictor, batch: int, seconds: float) -> Speed:
    """The model on batches in memory."""
    images = torch.randint(0, 256, (batch, *predictor.card.preprocessing.image_size, 3), dtype=torch.uint8)
    predictor.logits(images).cpu()
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        predictor.logits(images).cpu()
        count += batch
    return Speed(count, time.perf_counter() - start, time.process_time() - cpu)


def predict_speed(predictor: Predictor, files: list[bytes], seconds: float) -> Speed:
    """`Predictor.predict` on files in memory."""
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        count += sum(1 for _ in predictor.predict(files[: predictor.batch_size]))
    return Speed(count, time.perf_counter() - start, time.process_time() - cpu)


@contextmanager
def service(folder: str, max_batch: int) -> Iterator[tuple[int, int]]:
    """A running service: its port and its process."""
    command = [sys.executable, "-m", "vitral", "serve", folder, "--port", "0", "--max-batch", str(max_batch)]
    process = subprocess.Popen([*command, "--timeout", "10m"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    match = next(filter(None, (re.search(r"http://\S+:(\d+)$", line.rstrip()) for line in process.stderr)))
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    try:
        yield int(match[1]), process.pid
    finally:
        process.terminate()
        assert process.wait() == 0
        drain.wait()


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def load(
    port: int, process: int, files: list[bytes], seconds: float, clients: int, rate: float | None = None
) -> Speed:
    """The service, asked by many connections for a time: at `rate` requests a second, or as fast as it answers."""
    start, cpu, times = time.perf_counter(), cpu_seconds(process), []
    jobs = (client(port, files, number, clients, start + seconds, times, rate) for number in range(clients))
    await asyncio.gather(*jobs)
    return Speed(len(times), time.perf_counter() - start, cpu_seconds(process) - cpu, times)


async def client(
    port: int, files: list[bytes], number: int, clients: int, end: float, times: list[float], rate: float | None
) -> None:
    """One connection that sends requests one after another."""
    reader, writer = await connect(port)
    turn = number
    due = time.perf_counter() + number / rate if rate else 0.0
    while max(time.perf_counter(), due) < end:
        if rate:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
        content = files[turn % len(files)]
        start = due if rate else time.perf_counter()
        answer = await ask(reader, writer, content)
        times.append(time.perf_counter() - start)
        assert answer["images"][0]["sha256"] == hashlib.sha256(content).hexdigest(), "an answer for another image"
        turn += clients
        due += clients / rate if rate else 0
    writer.close()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection, once the service listens."""
    while True:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.1)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> dict:
    """The answer to one image; asks again while the model is not ready."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
    while True:
        writer.write(head.encode() + content)
        answered = await reader.readuntil(b"\r\n\r\n")
        match = re.search(rb"content-length: (\d+)", answered)
        assert match, answered
        body = await reader.readexactly(int(match[1]))
        if answered.startswith(b"HTTP/1.1 200"):
            return json.loads(body)
        assert b"503" in answered[:20], answered
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    main()
