"""What `vitral bench` found, as JSON, as tables and as sentences."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from vitral.commands.bench.contenders import Contender, Settings
from vitral.commands.bench.measure import Measurement, Row
from vitral.device import device_name
from vitral.export.precision import has_int8_instructions
from vitral.models import Architecture

__all__ = ["as_json", "as_rows", "best_rows", "groups", "label", "machine", "notes_of", "rounded", "table", "title"]

PACKAGES = ("vitral", "torch", "onnxruntime", "openvino", "timm", "transformers", "torchvision")

Cells = list[list[str]]


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of the same architecture together, as only these can be compared; in each, batch by batch."""
    found: list[tuple[Architecture, list[Row]]] = []
    for row in rows:
        group = next((each for architecture, each in found if architecture == row.contender.architecture), None)
        if group is None:
            found.append((row.contender.architecture, group := []))
        group.append(row)
    return [group for _, group in found]


def label(contender: Contender, group: Sequence[Row]) -> str:
    """The contender's name in its table, with the model's where the table has several of this name."""
    same = {row.contender.model for row in group if row.contender.by == contender.by}
    return contender.by if len(same) == 1 else f"{contender.model}: {contender.by}"


def title(group: Sequence[Row], settings: Settings) -> str:
    """Model, size and arithmetic of a table."""
    first = group[0].contender
    height, width = first.architecture.image_hw
    what = "training steps" if settings.train else "inference"
    model = f"{first.model}, {height}x{width} pixels"
    return f"{model}: {what} in {first.precision} on {machine(settings.device)}"


def table(group: Sequence[Row], *, wide: bool = True) -> Cells:
    """One line for each batch and contender; the first line is the header.

    Args:
        group: rows of one architecture.
        wide: whether to show the spread of the speeds and the number of calls too.
    """
    cells = [["batch", "contender", "img/s", "p50", "p95", "p99", "speed", "memory MB"]]
    if wide:
        cells[0][-1:] = ["middle half", "memory MB", "calls"]
    for row in group:
        time, ratio = row.latency, row.ratio
        memory = "-" if row.memory is None else rounded(row.memory / 1e6)
        spread = "" if row.contender is group[0].contender else f"{ratio.low:.2f} to {ratio.high:.2f}"
        cells.append(
            [
                str(row.batch_size),
                label(row.contender, group),
                rounded(row.images_per_second),
                *(rounded(1000 * seconds) for seconds in (time.p50, time.p95, time.p99)),
                f"{ratio.median:.2f}",
                *((spread, memory, f"{time.calls:,}") if wide else (memory,)),
            ]
        )
    return cells


def best_rows(group: Sequence[Row]) -> list[Row]:
    """The batch of each contender with the most images per second, fastest contender first."""
    best: dict[int, Row] = {}
    for row in group:
        known = best.get(id(row.contender))
        if known is None or row.images_per_second > known.images_per_second:
            best[id(row.contender)] = row
    return sorted(best.values(), key=lambda row: -row.images_per_second)


def machine(device: torch.device) -> str:
    """The name of the GPU; or of the CPU, with the threads."""
    if device.type != "cpu":
        return device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name()}, {threads} thread{'' if threads == 1 else 's'}"


def cpu_name() -> str:
    """The processor as the system names it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def notes_of(measurement: Measurement) -> list[str]:
    """All that a reader of the figures must know."""
    contenders = [row.contender for row in measurement.rows]
    notes = list(measurement.notes)
    if any(each.precision == "int8" for each in contenders) and not has_int8_instructions():
        notes.append(
            "this CPU has no VNNI, the instructions for products of int8, so int8 is hardly faster than float32"
        )
    if any(each.device.type == "cpu" for each in contenders) and any(each.device.type != "cpu" for each in contenders):
        notes.append("exported files computed on the CPU, PyTorch's models on the GPU")
    return notes + (measurement.disturbances.sentences() if measurement.disturbances else [])


def versions() -> dict[str, str]:
    """Versions of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def as_json(measurement: Measurement, settings: Settings) -> dict[str, Any]:
    """All facts; seconds and bytes."""
    return {
        "device": machine(settings.device),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "mode": "train" if settings.train else "inference",
        "versions": versions(),
        "results": [
            {
                "model": row.contender.model,
                "contender": row.contender.by,
                "precision": row.contender.precision,
                "device": row.contender.device.type,
                "image_size": list(row.contender.architecture.image_hw),
                "batch_size": row.batch_size,
                "images_per_second": row.images_per_second,
                "latency_seconds": asdict(row.latency),
                "relative_speed": asdict(row.ratio),
                "memory_bytes": row.memory,
                "fastest": row in best_rows([each for each in measurement.rows if each.contender is row.contender]),
            }
            for row in measurement.rows
        ],
        "disturbances": asdict(measurement.disturbances) if measurement.disturbances else None,
        "notes": notes_of(measurement),
    }


def as_rows(measurement: Measurement) -> list[list[Any]]:
    """One line for each result as numbers, for a CSV file."""
    head = ["model", "contender", "precision", "device", "batch_size", "images_per_second"]
    rows: list[list[Any]] = [
        [*head, "calls", "p50_s", "p95_s", "p99_s", "relative_speed", "relative_low", "relative_high", "memory_bytes"]
    ]
    for row in measurement.rows:
        each, time, ratio = row.contender, row.latency, row.ratio
        rows.append(
            [
                *(each.model, each.by, each.precision, each.device.type, row.batch_size, row.images_per_second),
                *(time.calls, time.p50, time.p95, time.p99, ratio.median, ratio.low, ratio.high),
                "" if row.memory is None else row.memory,
            ]
        )
    return rows


def rounded(number: float) -> str:
    """Three significant digits, or an integer from 100 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
