"""Memory does not grow over two thousand steps."""

import os
import signal
from pathlib import Path

import pytest

from forks import start
from processes import steps_taken

STEPS = 10_000
"""Far more than are taken: the run is stopped once its memory is measured."""

SETTINGS = (
    "--model.depth",
    "1",
    "--model.width",
    "32",
    "--model.num-heads",
    "1",
    "--model.mlp-dim",
    "32",
    "--train.batch-size",
    "4",
    "--train.track",
    "none",
    "--train.evaluate",
    "5000steps",
)


def resident(pid: int) -> int:
    """Kilobytes of a process and of those that it started."""
    own, children = 0, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            facts = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if int(facts["Pid"]) == pid:
            own = int(facts.get("VmRSS", "0").split()[0])  # a process that has ended has none
        elif int(facts["PPid"]) == pid:
            children.append(int(facts["Pid"]))
    assert own > 0, "the run is over"
    return own + sum(map(resident, children))


@pytest.mark.slow
def test_a_run_and_its_reading_process_do_not_grow(tmp_path: Path) -> None:
    command = ("train", "digits", *SETTINGS, "--data.workers", "1", "--train.steps")
    process = start(*command, str(STEPS), "--out", "run", cwd=tmp_path)
    seen = []
    for step in (160, 2160):
        process.wait_until(lambda step=step: steps_taken(tmp_path / "run") >= step)
        seen.append(resident(process.pid))
    os.kill(process.pid, signal.SIGTERM)
    assert "stopped by SIGTERM" in process.ended()
    assert process.returncode == 143
    assert seen[1] < 1.02 * seen[0]
    short = start(*command, "20", "--out", "short", cwd=tmp_path)
    short.ended()
    assert "model, metrics and report are in short" in short.output.read_text()
