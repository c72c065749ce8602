"""Runs commands with little memory, few open files or a full disk."""

import os
import subprocess
import sys
from pathlib import Path

from processes import SECONDS, SOURCES

__all__ = ["LIMITS", "run_limited"]

DISK = "a disk of 300 KB"
LIMITS = {
    "20 open files": "ulimit -n 20",
    "28 open files": "ulimit -n 28",
    "64 open files": "ulimit -n 64",
    "files of 100 KB": "ulimit -f 100",
    "memory of 2 GB": "ulimit -v 2000000",
    "memory of 4 GB": "ulimit -v 4000000",
    DISK: "mkdir disk; mount -t tmpfs -o size=300k tmpfs disk; cd disk",
}
"""What a shell does first."""
TRAIN = ("train", "digits", "--train.steps", "20", "--checkpoint.every", "5steps", "--data.workers", "2")


def run_limited(name: str, folder: Path) -> list[str]:
    """Trains under a limit; what should not have happened.

    Args:
        name: one of `LIMITS`.
        folder: an empty folder.
    """
    own_mounts = ("unshare", "--mount", "--map-root-user") if name == DISK else ()
    shell = ("bash", "-c", f'set -e; {LIMITS[name]}; exec "$@"', "bash")
    command = (sys.executable, "-m", "vitral", *TRAIN, "--out", "run")
    environment = os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*own_mounts, *shell, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [f"{name}: hang"]
    if "Traceback" in done.stderr:
        return [f"{name}: traceback: {done.stderr.strip().splitlines()[-1][:200]}"]
    return [] if done.returncode in (0, 2) else [f"{name}: exit status {done.returncode}: {done.stderr[-200:]}"]
