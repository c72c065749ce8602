"""The metrics of a run: `metrics.jsonl`, one JSON object per line, and `speed.json`."""

import json
import os
from pathlib import Path
from typing import Any

from vitral.config import parse_json, read_json
from vitral.errors import UserError
from vitral.files import add_file_name, write_atomically

__all__ = ["MetricLog", "read_metrics", "read_speed", "training_seconds"]

OLD_SPEED_KEYS = {"bound": "bottleneck", "diagnosis": "advice"}
"""Keys of `speed.json` up to version 0.1, and what they are called now."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads the records of a run up to the first damaged line, such as one that a crash cut short."""
    records = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            record = parse_json(line, origin=str(path))
        except UserError:
            break
        if not isinstance(record, dict) or type(record.get("step")) is not int:
            break
        records.append(record)
    return records


def training_seconds(records: list[dict[str, Any]], *, batch_size: int) -> float:
    """Seconds spent in training steps, from the logged images per second. Evaluations and pauses do not count."""
    steps = [record for record in records if "train/loss" in record]
    before = [0, *(record["step"] for record in steps)]
    times = (
        (record["step"] - earlier) * batch_size / record["images_per_second"]
        for earlier, record in zip(before, steps, strict=False)
        if record.get("images_per_second")
    )
    return sum(times, start=0.0)


def read_speed(path: Path) -> dict[str, Any] | None:
    """Reads `speed.json`; None if it is missing, or the run was too short to measure its speed.

    Raises:
        UserError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        speed: Any = read_json(path)
    except UserError:
        speed = {}
    if speed is None:
        return None
    if not isinstance(speed, dict) or "images_per_second" not in speed:
        raise UserError(f"{path} is damaged: remove it, and the report is written without it")
    return {OLD_SPEED_KEYS.get(str(key), str(key)): value for key, value in speed.items()}


class MetricLog:
    """Appends metrics to `metrics.jsonl`."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Opens the file to continue after `step` steps; records of later steps, from before a crash, are removed.

        Raises:
            OSError: the disk is full; the file is unchanged.
        """
        self.path = folder / "metrics.jsonl"
        records = [record for record in read_metrics(self.path) if record["step"] <= step]
        self.written = {tuple(record) for record in records if record["step"] == step}
        self.resumed_at = step
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(self.path, lambda file: file.write(lines.encode()))
        self.file = self.path.open("a")

    def write(self, step: int, metrics: dict[str, float]) -> bool:
        """Appends one record: metrics such as `train/loss` or `test/top1` after `step` steps.

        A resumed run may evaluate the step of its checkpoint again; that record is not repeated.

        Returns:
            Whether the record was new.

        Raises:
            OSError: the disk is full; the error names the file.
        """
        if step == self.resumed_at and ("step", *metrics) in self.written:
            return False
        with add_file_name(self.path):
            self.file.write(json.dumps({"step": step, **metrics}) + "\n")
            self.file.flush()
        return True

    def close(self) -> None:
        """Flushes the file to disk and closes it."""
        with add_file_name(self.path), self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
