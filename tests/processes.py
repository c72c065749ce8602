"""The command line as people run it: real processes, each with one thread."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["last_record", "records", "start", "steps_taken", "vitral", "wait_until", "wrong_use"]

SOURCES = Path(__file__).parents[1] / "src"

TIMED = {"images_per_second", "data_wait", "memory_bytes", "mfu"}
"""Figures of a run's record that no two runs share."""

SECONDS = 300
"""Far beyond what any command of a test takes, however busy the machine: a hanging one fails instead."""


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Starts `vitral ARGUMENTS` in a process group of its own."""
    environment = os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    return subprocess.Popen(
        [sys.executable, "-m", "vitral", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def vitral(*arguments: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs `vitral ARGUMENTS` to its end, which must come with exit status `code` and without a traceback."""
    process = start(*arguments, cwd=cwd)
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == code, f"exit status {process.returncode}, not {code}:\n{errors}"
    assert "Traceback" not in errors, errors
    return subprocess.CompletedProcess(process.args, code, output, errors)


def wrong_use(*arguments: str | Path, cwd: Path) -> str:
    """What `vitral ARGUMENTS` says of itself when it refuses: its last line, or the box of the argument parser."""
    errors = vitral(*arguments, cwd=cwd, code=2).stderr.strip()
    lines = errors.splitlines()
    if "╭" not in errors:
        assert lines[-1].startswith("vitral: "), errors
        return lines[-1].removeprefix("vitral: ")
    return " ".join(" ".join(line.strip("│╭╰─╮╯ ") for line in lines).split())


def records(run: Path, *, timed: bool = False) -> list[dict[str, Any]]:
    """The lines of a run's record that are whole, without the speed, which no two runs share, unless `timed`."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{key: value for key, value in line.items() if timed or key not in TIMED} for line in lines]


def last_record(run: Path) -> dict[str, Any]:
    """The last whole line of a run's record; it is asked for every two milliseconds, so only the end is read."""
    try:
        with (run / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return {}
    return json.loads(lines[-2]) if len(lines) > 1 else {}


def steps_taken(run: Path) -> int:
    """Steps in a run's record so far."""
    return last_record(run).get("step", 0)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Waits for something that a running process brings about, or for its end."""
    end = time.monotonic() + SECONDS
    while process.poll() is None and not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)
