"""The record of a run: one JSON object a line, and TensorBoard where it is installed."""

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["MetricLog", "read_metrics"]


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a run so far; a last line cut short by a crash is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


class MetricLog:
    """Writes the record of a run, each figure with the step it belongs to."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Opens the record to go on after `step` steps; what a crashed run wrote beyond them is dropped."""
        path = folder / "metrics.jsonl"
        kept = [record for record in read_metrics(path) if record["step"] <= step]
        self.file = path.open("w")
        self.board = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        for record in kept:
            self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Adds one record: figures such as `train/loss`, `test/top1` after `step` steps."""
        self.file.write(json.dumps({"step": step, **figures}) + "\n")
        self.file.flush()
        for name, value in figures.items() if self.board else ():
            self.board.add_scalar(name, value, step)

    def close(self) -> None:
        """Makes the record safe on disk."""
        os.fsync(self.file.fileno())
        self.file.close()
        if self.board:
            self.board.close()
