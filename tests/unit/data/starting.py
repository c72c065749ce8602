"""Run as a process of its own: starts an epoch over a source of so many images; prints what that takes, as JSON.

python starting.py IMAGES REPEATS WORKERS
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch.multiprocessing
from PIL import Image

from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import TrainingBatches, load
from vitral.data.images.preprocess import Preprocessing
from vitral.runs.fingerprint import fingerprint


class Endless:
    """A source of one pixel, over and over."""

    classes = ("one", "other")

    def __init__(self, size: int) -> None:
        self.labels = np.arange(size) % 2

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> Image.Image:
        return Image.new("L", (1, 1), index % 256)

    def name(self, index: int) -> str:
        return f"endless[{index}]"


def held_bytes(field: str) -> int:
    """Memory of this process: what it holds (VmRSS), or the most it held since that was forgotten (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def own_bytes(pid: int) -> int:
    """Private memory of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def first_batch(source: Endless, repeats: int, workers: int) -> dict[str, float]:
    """Seconds to the first batch of an epoch, and bytes of the reading processes."""
    started = time.perf_counter()
    batches = TrainingBatches(
        source=source,
        preprocessing=Preprocessing(image_size=(5, 4), channels=1),
        augment=AugmentConfig(flip=True, repeats=repeats),
        batch_size=32,
        seed=3,
    )
    loaded = load(batches, range(len(source) // 32), workers=workers, pin=False)
    assert len(next(loaded).labels) == 32
    seconds = time.perf_counter() - started
    readers = torch.multiprocessing.active_children()
    assert len(readers) == workers
    found = {"seconds": seconds, "reading": float(sum(own_bytes(reader.pid or 0) for reader in readers))}
    loaded.close()
    return found


def quickest_start(source: Endless, repeats: int, workers: int) -> dict[str, float]:
    """The figures of one start of three, as other processes of the machine may slow any."""
    return min((first_batch(source, repeats, workers) for _ in range(3)), key=lambda found: found["seconds"])


if __name__ == "__main__":
    images, repeats, workers = map(int, sys.argv[1:])
    few, many = Endless(1000), Endless(images)
    first_batch(few, repeats, workers)  # whatever is imported or allocated once
    common = quickest_start(few, repeats, workers)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = held_bytes("VmRSS")
    found = quickest_start(many, repeats, workers)
    fingerprint(many)
    added = {name: found[name] - common[name] for name in found}
    print(json.dumps(added | {"bytes": held_bytes("VmHWM") - before, "labels": many.labels.nbytes}))
