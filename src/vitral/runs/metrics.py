"""The record of a run: one JSON object a line."""

import json
import os
from pathlib import Path
from typing import Any

from vitral.files import naming, write_atomically

__all__ = ["MetricLog", "read_metrics", "training_seconds"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a run so far; a damaged line, such as one cut short by a crash, ends them."""
    records = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            break
        records.append(record)
    return records


def training_seconds(records: list[dict[str, Any]], *, batch_size: int) -> float:
    """What all steps of a record took, by their images a second; evaluations and pauses between them do not count."""
    steps = [record for record in records if "train/loss" in record]
    before = [0, *(record["step"] for record in steps)]
    times = (
        (record["step"] - earlier) * batch_size / record["images_per_second"]
        for earlier, record in zip(before, steps, strict=False)
        if record.get("images_per_second")
    )
    return sum(times, start=0.0)


class MetricLog:
    """Writes the record of a run, each figure with the step it belongs to."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Opens the record to go on after `step` steps; what a crashed run wrote beyond them is dropped.

        Raises:
            OSError: the disk is full; the record so far stays.
        """
        self.path = folder / "metrics.jsonl"
        kept = [record for record in read_metrics(self.path) if record["step"] <= step]
        self.known = {tuple(record) for record in kept if record["step"] == step}
        self.resumed_at = step
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self.path, lambda file: file.write(lines.encode()))
        self.file = self.path.open("a")

    def write(self, step: int, figures: dict[str, float]) -> bool:
        """Adds one record: figures such as `train/loss`, `test/top1` after `step` steps.

        A run that crashed after its last checkpoint measures that step again when resumed: once is enough.

        Returns:
            Whether it was new.

        Raises:
            OSError: the disk is full; the error names the file.
        """
        if step == self.resumed_at and ("step", *figures) in self.known:
            return False
        with naming(self.path):
            self.file.write(json.dumps({"step": step, **figures}) + "\n")
            self.file.flush()
        return True

    def close(self) -> None:
        """Makes the record safe on disk."""
        with naming(self.path), self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
