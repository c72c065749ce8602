"""Reads many damaged files in one process, and counts what becomes of them.

Run by `python -m chaos` as `python -m chaos.attack KIND SEED COUNT`.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from chaos.inputs import KINDS, Target, targets
from chaos.mutations import damaged, edits, formats
from vitral.cli import sentence
from vitral.errors import UserError

__all__ = ["Report", "attack"]

SECONDS = 10
"""What one file may take of a processor; waiting for anything, as on a busy machine, may take ten times as long."""
STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn", "socket.connect")
"""What no file may make Python do."""
PEAK_MIB = 1_200
"""What a process that reads one file after another may take in all, its libraries included."""
FINDINGS = 20


class Hang(BaseException):
    """A file took too long."""


@dataclass
class Report:
    """What became of the files of one kind."""

    kind: str
    seed: int
    tried: int = 0
    read: int = 0
    refused: int = 0
    tracebacks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)
    """What libraries wrote on standard error."""
    memory: list[str] = field(default_factory=list)
    """Files that took too much memory."""
    seconds: float = 0.0
    slowest: float = 0.0
    peak_mib: int = 0

    @property
    def num_findings(self) -> int:
        """Broken promises."""
        return len(self.tracebacks) + len(self.hangs) + len(self.executed) + len(self.noise) + len(self.memory)


def attack(kind: str, *, first_seed: int, count: int, folder: Path, keep: Path | None = None) -> Report:
    """Damages and reads `count` files.

    Args:
        kind: one of `KINDS`.
        first_seed: of the damage.
        count: of files.
        folder: an empty folder.
        keep: where files are kept that broke a promise.
    """
    report = Report(kind=kind, seed=first_seed)
    sources, known = targets(kind, folder), formats()
    started = time.monotonic()
    sys.addaudithook(lambda event, _: report.executed.append(event) if event.startswith(STARTS) else None)

    @seed(first_seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(sources) - 1), edits())
    def one(number: int, changes: list[tuple[int, int, int]]) -> None:
        target = sources[number]
        content = damaged(target.content, changes, known.get(target.form or ""))
        finding = try_one(target, content, folder, report)
        if finding and keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{target.name.replace('/', '_')}-{first_seed}-{report.tried}").write_bytes(content)

    one()
    report.seconds = time.monotonic() - started
    return report


def try_one(target: Target, content: bytes, folder: Path, report: Report) -> bool:
    """Reads one file; whether it broke a promise."""
    report.tried += 1
    started = time.monotonic()
    before = report.num_findings
    try:
        with alarm(SECONDS), noise(report.noise):
            target.read(content, folder)
        report.read += 1
    except UserError as error:
        report.refused += 1
        if not sentence(error):
            note(report.tracebacks, f"{target.name}: an error without a word")
    except Hang:
        note(report.hangs, target.name)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in where if "/vitral/" in frame.filename] or where
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        note(report.tracebacks, f"{target.name}: {type(error).__name__} at {place}: {str(error)[:200]}")
    report.slowest = max(report.slowest, time.monotonic() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if peak > max(report.peak_mib, PEAK_MIB):
        note(report.memory, f"{target.name}: {peak:,} MiB")
    report.peak_mib = peak
    return report.num_findings > before


def note(findings: list[str], text: str) -> None:
    """Adds a finding, but not thousands."""
    if len(findings) < FINDINGS or text not in findings:
        findings.append(text)


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raises `Hang` inside after some seconds of processor time, or ten times as many of any."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise Hang

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    previous = {signum: signal.signal(signum, ring) for signum in timers.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for timer, signum in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(signum, previous[signum])


@contextlib.contextmanager
def noise(lines: list[str]) -> Iterator[None]:
    """Collects what libraries write on standard error, in C too, and their warnings; Vitral's notes are no noise."""
    logging.getLogger("vitral").setLevel(logging.ERROR)
    sys.stderr.flush()
    written, before = os.memfd_create("stderr"), os.dup(2)
    os.dup2(written, 2)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(os.fdopen(os.dup(2), "w")) as stream, stream:
            warnings.simplefilter("always")
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        with os.fdopen(written, "rb") as file:
            file.seek(0)
            if text := file.read().decode(errors="replace").strip():
                note(lines, text[:300])


def main(arguments: list[str]) -> None:
    kind, first_seed, count = arguments[0], int(arguments[1]), int(arguments[2])
    assert kind in KINDS, kind
    keep = Path(os.environ["CHAOS_KEEP"]) if "CHAOS_KEEP" in os.environ else None
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        report = attack(kind, first_seed=first_seed, count=count, folder=Path(folder), keep=keep)
    values: dict[str, Any] = asdict(report)
    print(json.dumps(values))


if __name__ == "__main__":
    main(sys.argv[1:])
