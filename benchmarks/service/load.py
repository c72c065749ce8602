"""A client for benchmarks/serving.py: many requests over kept connections, every answer checked."""

import asyncio
import hashlib
import json
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Load", "Picture", "closed_loop", "open_loop"]

BOUNDARY = "benchmark"


class Picture:
    """A request with one image, and what must be answered."""

    def __init__(self, content: bytes, top_class: str) -> None:
        self.sha256, self.top_class = hashlib.sha256(content).hexdigest(), top_class
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        self.body = f"{part}Content-Type: image/jpeg\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()

    def request(self, timeout: float | None) -> bytes:
        """The bytes of the request."""
        query = f"?timeout={timeout:g}" if timeout else ""
        head = f"POST /v1/predict{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(self.body)}\r\n"
        return f"{head}Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode() + self.body

    def fits(self, body: bytes) -> bool:
        """Whether an answer is about this image."""
        (image,) = json.loads(body)["images"]
        return image["sha256"] == self.sha256 and image["classes"][0]["class"] == self.top_class


@dataclass
class Load:
    """What became of the requests."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    """Seconds until each answer with status 200 from when its request was due."""
    since_sent: list[float] = field(default_factory=list)
    """The same from when the request was sent."""
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    """Answers about another image."""
    lost: int = 0
    """Requests without an answer."""
    lag: float = 0.0
    """Seconds that this client noticed an event too late, at most: so much is missing from a service's own time."""

    @property
    def speed(self) -> float:
        """Images per second."""
        return len(self.times) / self.seconds

    def quantile(self, fraction: float) -> float:
        """Of the times, in milliseconds."""
        return 1000 * float(np.quantile(self.times, fraction)) if self.times else 0.0


async def closed_loop(port: int, pictures: list[Picture], *, seconds: float, clients: int) -> Load:
    """Clients that each send a request when the one before is answered."""
    load, start = Load(), time.perf_counter()

    async def client(number: int) -> None:
        connections: deque = deque()
        turn = number
        while time.perf_counter() - start < seconds:
            await _ask(port, connections, pictures[turn % len(pictures)], load, begin=time.perf_counter())
            turn += clients
        _close(connections)

    await asyncio.gather(*(client(number) for number in range(clients)))
    load.seconds = time.perf_counter() - start
    return load


async def open_loop(
    port: int,
    pictures: list[Picture],
    *,
    seconds: float,
    rate: float,
    timeout: float | None = None,
    most: int = 256,
    load: Load | None = None,
) -> Load:
    """Requests that come at random times, so many per second on average, whether or not those before are answered.

    A time counts from when the request was due. At most `most` are open at a time; a later one waits for its turn.
    `load` is filled while they run.
    """
    load, rng = load or Load(), np.random.default_rng(0)
    connections, open_requests, tasks = deque(), asyncio.Semaphore(most), set()
    start = due = time.perf_counter()
    turn = 0
    lag = asyncio.ensure_future(_watch_lag(load))
    while (due := due + rng.exponential(1 / rate)) - start < seconds:
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        await open_requests.acquire()
        picture, turn = pictures[turn % len(pictures)], turn + 1
        task = asyncio.ensure_future(_ask(port, connections, picture, load, begin=due, timeout=timeout))
        tasks.add(task)
        task.add_done_callback(lambda task: (tasks.discard(task), open_requests.release()))
    await asyncio.gather(*tasks)
    lag.cancel()
    load.seconds = time.perf_counter() - start
    _close(connections)
    return load


async def _ask(
    port: int, connections: deque, picture: Picture, load: Load, *, begin: float, timeout: float | None = None
) -> None:
    try:
        reader, writer = _idle(connections) or await asyncio.open_connection("127.0.0.1", port)
        sent = time.perf_counter()
        writer.write(picture.request(timeout))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        assert length, head
        body = await reader.readexactly(int(length[1]))
    except (OSError, asyncio.IncompleteReadError):
        load.lost += 1
        return
    status = int(head.split(b" ", 2)[1])
    load.statuses[status] += 1
    if status == 200:
        load.times.append(time.perf_counter() - begin)
        load.since_sent.append(time.perf_counter() - sent)
        load.wrong += not picture.fits(body)
    connections.append((reader, writer))


async def _watch_lag(load: Load, step: float = 0.005) -> None:
    while True:
        due = time.perf_counter() + step
        await asyncio.sleep(step)
        load.lag = max(load.lag, time.perf_counter() - due)


def _idle(connections: deque) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """An open connection, without those that the service closed because they were idle for long."""
    while connections:
        reader, writer = connections.pop()
        if not reader.at_eof():
            return reader, writer
        writer.close()
    return None


def _close(connections: deque) -> None:
    for _, writer in connections:
        writer.close()
