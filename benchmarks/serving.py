"""How much of a model's speed is left over HTTP, how long do requests take, and does the service last under overload?

    python benchmarks/serving.py --models ViT-S/16

Starts `vitral serve` in a process of its own, and LitServe with the same model if it can be imported (`pip install
litserve`) with the settings that are fastest here. By turns, several times: the bare model on batches in memory at its
best size, the services at full load, and the services at half of the load that `vitral serve` takes. Then `vitral
serve` gets twice the requests that it can answer, for `--soak` seconds. Every answer is compared with the SHA-256 and
the most probable class of the image that was sent.

Takes about 18 minutes a model as it stands, on a machine that must do nothing else. Each figure is appended to
`--results` as soon as it is measured, and the tables at the end. Memory and CPU time are read from /proc, so this needs
Linux.
"""

import argparse
import asyncio
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

# as the command line sets them, for the bare model and LitServe too; before torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
from PIL import Image
from service.load import Load, Picture, closed_loop, open_loop
from service.processes import LITSERVE, Process, litserve, vitral_serve
from service.tables import Bare, Soak, Speeds

import vitral
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.serve.config import ServeConfig
from vitral.serve.predictor import Predictor
from vitral.weights.folder import save_model

BATCHES = (1, 2, 4, 8, 16, 32)

EQUAL = 0.95
"""The services compute batches of the largest size that reaches this fraction of the highest speed: where all are as
fast, a service that computes one image at a time would only queue longer."""

SOAK_TIMEOUT = 10.0
"""Seconds after which a request of the soak wants 504."""

SOAK_CONNECTIONS = 1024
"""Requests of the soak that are open at a time, at most: more than the service's queue takes."""


def main() -> None:
    """Measures, prints, and appends to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-S/16"], help="names as in vitral.create")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement (default: 12)")
    parser.add_argument("--half-seconds", type=float, default=30.0, help="of each one at half load (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument(
        "--soak", type=float, default=600.0, help="seconds at twice the capacity; 0: none (default: 600)"
    )
    parser.add_argument("--clients", type=int, default=64, help="connections at full load (default: 64)")
    parser.add_argument("--max-batch", type=int, default=32, help="of the services (default: 32)")
    parser.add_argument("--workers", type=int, default=0, help="as vitral serve takes it (default: 0)")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/serving.md"), help="file to append to (default: runs/serving.md)"
    )
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the services end too
    for name in options.models:
        Benchmark(name, options).run()


@dataclass
class Benchmark:
    """The measurements of one model."""

    name: str
    options: argparse.Namespace
    started: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Measures all."""
        self.write(
            f"\n## {self.name} at {self.options.image_size} pixels, {time.strftime('%Y-%m-%d')}\n\n{machine()}\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            self.folder = folder
            self.predictor, self.pictures = prepare(self.name, Path(folder), self.options)
            self.fastest, self.batch = self.sizes()
            self.serve = partial(vitral_serve, folder, max_batch=self.batch, workers=self.options.workers)
            speeds = self.measure_speeds(self.services())
            self.write(f"\n{speeds.table()}\n")
            if self.options.soak:
                self.write(f"\n{self.soak(speeds).table()}\n")

    def write(self, text: str) -> None:
        """Prints and appends to the file of results."""
        print(text, flush=True)
        with self.options.results.open("a") as file:
            file.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Writes one figure, with the minutes since the start."""
        self.write(f"- {(time.monotonic() - self.started) / 60:.1f} min: {text}")

    def sizes(self) -> tuple[int, int]:
        """Images a batch at which the bare model is fastest, and that the services compute."""
        speeds = {}
        for batch in (size for size in BATCHES if size <= self.options.max_batch):
            speeds[batch] = self.bare(batch, self.options.seconds / 3).speed
            self.note(f"bare, batches of {batch}: {speeds[batch]:.1f} images/s")
        highest = max(speeds.values())
        equal = [batch for batch, speed in speeds.items() if speed >= EQUAL * highest]
        return next(batch for batch, speed in speeds.items() if speed == highest), max(equal)

    def services(self) -> dict[str, Callable]:
        """How to start each service; LitServe with the settings that answer most at full load."""
        starts = {"vitral serve": self.serve}
        if not find_spec("litserve"):
            self.note("LitServe is not installed, so it is not measured")
            return starts
        speeds = {}
        for label, settings in LITSERVE.items():
            with litserve(self.folder, max_batch=self.batch, **settings) as process:
                speeds[label] = self.full_load(process, self.options.seconds / 2).speed
            self.note(f"LitServe, {label}: {speeds[label]:.1f} images/s")
        best = max(speeds, key=lambda label: speeds[label])
        return starts | {f"LitServe, {best}": partial(litserve, self.folder, max_batch=self.batch, **LITSERVE[best])}

    def measure_speeds(self, services: dict[str, Callable]) -> Speeds:
        """The bare model and the services by turns, as other work on the machine changes with time."""
        speeds = Speeds(fastest=self.fastest, batch=self.batch, max_wait=ServeConfig.max_wait)
        for turn in range(1, self.options.rounds + 1):
            speeds.bare.append(self.bare(self.fastest, self.options.seconds))
            speeds.served.append(self.bare(self.batch, self.options.seconds))
            found = f"{speeds.bare[-1].speed:.1f} and {speeds.served[-1].speed:.1f} images/s"
            self.note(f"bare, round {turn}, batches of {self.fastest} and {self.batch}: {found}")
            for service, start in services.items():  # one at a time: the other one's threads would take part
                with start() as process:
                    full = self.full_load(process, self.options.seconds)
                    speeds.full[service].append(full)
                    rate = speeds.full["vitral serve"][-1].speed / 2
                    half = self.half_load(process, rate)
                    speeds.half[service].append(half)
                at_full = f"{full.speed:.1f} images/s, p99 {full.quantile(0.99):.0f} ms"
                at_half = f"p50 {half.quantile(0.5):.0f} ms, p99 {half.quantile(0.99):.0f} ms"
                self.note(f"{service}, round {turn}: {at_full}; at {rate:.1f} images/s {at_half}")
        return speeds

    def bare(self, batch: int, seconds: float) -> Bare:
        """The model on batches in memory."""
        images = torch.randint(0, 256, (batch, *self.predictor.card.preprocessing.image_size, 3), dtype=torch.uint8)
        self.predictor.logits(images).cpu()
        count, start, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            self.predictor.logits(images).cpu()
            count += batch
        return Bare(count, time.perf_counter() - start, time.process_time() - cpu)

    def full_load(self, process: Process, seconds: float) -> Load:
        """As many requests as connections allow, after a warm-up."""
        send = partial(closed_loop, process.port, self.pictures, clients=self.options.clients)
        asyncio.run(send(seconds=seconds / 4))
        cpu = process.cpu_seconds()
        load = asyncio.run(send(seconds=seconds))
        load.cpu_seconds = process.cpu_seconds() - cpu
        return load

    def half_load(self, process: Process, rate: float) -> Load:
        """So many requests per second, at random times."""
        return asyncio.run(open_loop(process.port, self.pictures, seconds=self.options.half_seconds, rate=rate))

    def soak(self, speeds: Speeds) -> Soak:
        """Twice the capacity for long."""
        capacity = statistics.median(load.speed for load in speeds.full["vitral serve"])
        before = statistics.median(one.speed for one in speeds.bare)
        soak = Soak(capacity=capacity, bare=before, timeout=SOAK_TIMEOUT, queue_limit=ServeConfig.queue)

        async def watch(process: Process) -> None:
            while True:
                await asyncio.sleep(1)
                soak.memory.append(process.resident_megabytes())
                soak.queue.append(await process.queue())
                if len(soak.memory) % 60 == 0:
                    self.note(f"soak, {len(soak.memory)} s: {soak.so_far()}")

        async def run(process: Process) -> None:
            watcher = asyncio.ensure_future(watch(process))
            await open_loop(
                process.port,
                self.pictures,
                seconds=self.options.soak,
                rate=2 * capacity,
                timeout=SOAK_TIMEOUT,
                most=SOAK_CONNECTIONS,
                load=soak.load,
            )
            watcher.cancel()

        with self.serve() as process:
            service, client = process.cpu_seconds(), time.process_time()
            asyncio.run(run(process))
            soak.load.cpu_seconds = process.cpu_seconds() - service
            soak.client_cpu_seconds = time.process_time() - client
        after = self.bare(self.fastest, self.options.seconds).speed
        self.note(f"bare, after the soak, batches of {self.fastest}: {after:.1f} images/s")
        soak.bare = statistics.fmean((before, after))
        return soak


def machine() -> str:
    """What the figures depend on."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(": ")[2]
    load = os.getloadavg()[0]
    return (
        f"{cpu}, {os.cpu_count()} cores, load average {load:.1f} at the start; Python {platform.python_version()}, "
        f"torch {torch.__version__}, float32, {torch.get_num_threads()} threads\n"
    )


def prepare(name: str, folder: Path, options: argparse.Namespace) -> tuple[Predictor, list[Picture]]:
    """A model in a folder, and pictures with what must be answered."""
    torch.manual_seed(0)
    model = vitral.create(name, num_classes=1000, image_size=options.image_size)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    preprocessing = Preprocessing(image_size=(options.image_size,) * 2, channels=3)
    model.card = ModelCard(preprocessing=preprocessing, classes=tuple(map(str, range(1000))))
    save_model(folder, model, model.card)
    predictor = Predictor(folder, batch_size=options.max_batch)
    contents = [photograph(seed, options.image_size) for seed in range(64)]
    predictions = predictor.predict(contents)
    pictures = [Picture(content, found.classes[0]) for content, found in zip(contents, predictions, strict=True)]
    return predictor, pictures


def photograph(seed: int, size: int) -> bytes:
    """A JPEG as smooth as a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (14, 14, 3), np.uint8)
    stream = BytesIO()
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


if __name__ == "__main__":
    main()
