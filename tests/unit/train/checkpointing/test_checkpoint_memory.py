"""Memory that writing a checkpoint frees goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

SAVE = """
import sys
from pathlib import Path
import torch
from vitral.device import share_heap
from vitral.train.checkpointing.checkpoint import Checkpoints

share_heap()
tensors = {str(number): torch.ones(200, 200) for number in range(60)}
checkpoints = Checkpoints(Path(sys.argv[1]), keep=1)
for step in range(5):
    checkpoints.save(tensors, {}, step=step)
    checkpoints.wait()
    lines = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmRSS")))
"""

STATE = 60 * 200 * 200 * 4
"""Bytes of the tensors; before, the second to fourth checkpoint took four times as much for good."""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the settings")
def test_checkpoints_take_no_more_memory_than_the_first(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SAVE, str(tmp_path)], capture_output=True, text=True, check=True)
    first, *others = (1024 * int(line) for line in done.stdout.split())
    assert max(others) - first < STATE
