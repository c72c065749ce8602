"""How much of a model's speed is left over HTTP, how long do requests take, and does the service last under overload?

    python benchmarks/serving.py --models ViT-S/16 ViT-Ti/16 --soak 600

Starts `vitral serve` in a process of its own, and LitServe with the same model if `pip install litserve` was run. By
turns, several times: the bare model on batches in memory at its best size, the services at full load, and the services
at half of the load that `vitral serve` takes. Then `vitral serve` gets twice the requests that it can answer, for
`--soak` seconds. Every answer is compared with the SHA-256 and the most probable class of the image that was sent.

Takes about 20 minutes a model as it stands, on a machine that must do nothing else. CPU time is read from /proc, so
this needs Linux.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from serving_load import Load, Picture, closed_loop, open_loop
from serving_process import Process, litserve, vitral_serve

import vitral
from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.serve.predictor import Predictor
from vitral.weights.folder import save_model

BATCHES = (1, 2, 4, 8, 16, 32)

MAX_WAIT = 0.005
"""Seconds, as `vitral serve --max-wait` is by default."""

SOAK_TIMEOUT = 10.0
"""Seconds after which a request of the soak wants 504."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-S/16"], help="names as in vitral.create")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement (default: 12)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--soak", type=float, default=600.0, help="seconds at twice the capacity (default: 600)")
    parser.add_argument("--clients", type=int, default=64, help="connections at full load (default: 64)")
    parser.add_argument("--max-batch", type=int, default=32, help="of the services (default: 32)")
    options = parser.parse_args()
    for name in options.models:
        measure(name, options)


def measure(name: str, options: argparse.Namespace) -> None:
    """Prints the tables of a model."""
    with tempfile.TemporaryDirectory() as folder:
        predictor, pictures = prepare(name, Path(folder), options)
        batches = [batch for batch in BATCHES if batch <= options.max_batch]
        best = max(batches, key=lambda batch: bare_speed(predictor, batch, options.seconds / 4).speed)
        starts = {"vitral serve": vitral_serve, "vitral serve --workers 1": partial(vitral_serve, workers=1)}
        starts |= {"LitServe": litserve} if find_spec("litserve") else {}
        print(f"## {name} at {options.image_size} pixels, batches of {best}\n")
        bare, full, half = [], {service: [] for service in starts}, {service: [] for service in starts}
        for _ in range(options.rounds):
            bare.append(bare_speed(predictor, best, options.seconds))
            for service, start in starts.items():  # one at a time: the other one's threads would take part
                with start(folder, max_batch=best) as process:
                    at_full_load(process, pictures, options, seconds=options.seconds / 4)  # warms it up
                    full[service].append(at_full_load(process, pictures, options, seconds=options.seconds))
                    rate = full["vitral serve"][-1].speed / 2
                    half[service].append(at_rate(process, pictures, options, rate))
        print_speeds(bare, full, half, batch=best)
        if options.soak:
            with vitral_serve(folder, max_batch=best) as process:
                capacity = statistics.median(load.speed for load in full["vitral serve"])
                print_soak(*soak(process, pictures, capacity, options), capacity=capacity, bare=median_speed(bare))


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


@dataclass
class Bare:
    """The model on batches in memory."""

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def speed(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def bare_speed(predictor: Predictor, batch: int, seconds: float) -> Bare:
    """The model on batches in memory."""
    images = torch.randint(0, 256, (batch, *predictor.card.preprocessing.image_size, 3), dtype=torch.uint8)
    predictor.logits(images).cpu()
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        predictor.logits(images).cpu()
        count += batch
    return Bare(count, time.perf_counter() - start, time.process_time() - cpu)


def median_speed(measured: list[Bare] | list[Load]) -> float:
    """Images per second."""
    return statistics.median(one.speed for one in measured)


def at_full_load(process: Process, pictures: list[Picture], options: argparse.Namespace, *, seconds: float) -> Load:
    """As many requests as connections allow."""
    cpu = process.cpu_seconds()
    load = asyncio.run(closed_loop(process.port, pictures, seconds=seconds, clients=options.clients))
    load.cpu_seconds = process.cpu_seconds() - cpu
    return load


def at_rate(process: Process, pictures: list[Picture], options: argparse.Namespace, rate: float) -> Load:
    """So many requests per second."""
    return asyncio.run(open_loop(process.port, pictures, seconds=options.seconds, rate=rate))


def soak(
    process: Process, pictures: list[Picture], capacity: float, options: argparse.Namespace
) -> tuple[Load, list[float], float]:
    """Twice the capacity for long: the load, the resident MB at each second, and the longest queue."""
    memory, queue = [], [0.0]

    async def watch() -> None:
        while True:
            await asyncio.sleep(1)
            memory.append(process.resident_megabytes())
            queue.append(await process.queue())

    async def run() -> Load:
        watcher = asyncio.ensure_future(watch())
        load = await open_loop(
            process.port, pictures, seconds=options.soak, rate=2 * capacity, timeout=SOAK_TIMEOUT, most=1024
        )
        watcher.cancel()
        return load

    return asyncio.run(run()), memory, max(queue)


def print_speeds(bare: list[Bare], full: dict[str, list[Load]], half: dict[str, list[Load]], *, batch: int) -> None:
    """A table of medians over rounds."""
    limit = 2 * batch / median_speed(bare) + MAX_WAIT
    print("| | images/s | of bare | CPU ms an image | p50, p99 full load | p50, p99 half load |")
    print("|---|---|---|---|---|---|")
    cpu = statistics.median(1000 * one.cpu_seconds / one.images for one in bare)
    print(f"| bare | {median_speed(bare):.1f} | | {cpu:.1f} | | |")
    for service, loads in full.items():
        ratio = statistics.median(load.speed / one.speed for load, one in zip(loads, bare, strict=True))
        cpu = statistics.median(1000 * load.cpu_seconds / max(len(load.times), 1) for load in loads)
        times = [
            ", ".join(f"{statistics.median(load.quantile(q) for load in some):.0f}" for q in (0.5, 0.99))
            for some in (loads, half[service])
        ]
        print(f"| {service} | {median_speed(loads):.1f} | {ratio:.0%} | {cpu:.1f} | {times[0]} ms | {times[1]} ms |")
    wrong = sum(load.wrong for loads in (*full.values(), *half.values()) for load in loads)
    print(f"\nTwice the time of a batch and the wait: {1000 * limit:.0f} ms. Wrong answers: {wrong}.\n", flush=True)


def print_soak(load: Load, memory: list[float], queue: float, *, capacity: float, bare: float) -> None:
    """What became of the requests."""
    early, late = (statistics.median(part) for part in (memory[len(memory) // 5 :][:30], memory[-30:]))
    print(f"At {2 * capacity:.1f} requests per second, twice the capacity, for {load.seconds:.0f} s:\n")
    print("| | |\n|---|---|")
    for status, count in sorted(load.statuses.items()):
        print(f"| answered {status} | {count} |")
    for label, value in {
        "lost": load.lost,
        "answered for another image": load.wrong,
        f"answered 200 after {SOAK_TIMEOUT:g} s": sum(seconds > SOAK_TIMEOUT for seconds in load.times),
        "images per second": f"{load.speed:.1f}, {load.speed / bare:.0%} of bare",
        "longest queue": f"{queue:.0f} images",
        "memory, from the first fifth to the end": f"{early:.0f} to {late:.0f} MB, {late / early - 1:+.1%}",
        "p50, p99 of answers": f"{load.quantile(0.5):.0f}, {load.quantile(0.99):.0f} ms",
    }.items():
        print(f"| {label} | {value} |")
    print(flush=True)


if __name__ == "__main__":
    main()
