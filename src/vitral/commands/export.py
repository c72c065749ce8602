"""`vitral export`: writes a model as one file, and compares the file with the model."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from vitral.commands.arguments.weights import source_options
from vitral.commands.evaluate.command import run_data
from vitral.commands.loading import channels_of, load_and_note
from vitral.commands.output import finite, note, print_json, print_table
from vitral.commands.predict import image_files
from vitral.data.config import DataConfig
from vitral.data.images.bands import image_suffixes
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.evals.relabel import relabel
from vitral.evals.splits import final_split
from vitral.export.exported import ExportedModel, is_exported
from vitral.export.images import ReferenceImages, from_files, photographs
from vitral.export.parity import ParityReport, compare
from vitral.export.writing import ExportOptions, export_model
from vitral.files import write_json
from vitral.models import Model

__all__ = ["main"]

NUM_CALIBRATION, CALIBRATION_BATCH = 128, 16
"""Training images that the ranges of int8 are taken from, and how many at once."""


def main(options: argparse.Namespace) -> None:
    """Exports and compares; exits with code 1 if file and model differ too much. The file stays."""
    chosen = ExportOptions(
        to=options.to,
        precision=options.precision,
        image_size=options.image_size,
        with_preprocessing=options.with_preprocessing,
    )
    if is_exported(options.model):
        raise UserError(f"{options.model} is an exported file: export the model that it was made from")
    model = load_and_note(options.model, image_size=options.pixels, **source_options(options))
    data = run_data(Path(options.model))
    images = reference_images(options, model, data)
    reports: list[ParityReport] = []

    def verify(exported: ExportedModel) -> str:
        tolerance = None if options.tolerance is None else options.tolerance / 100
        reports.append(compare(model, exported, images, tolerance=tolerance))
        return "" if reports[0].passed else reports[0].verdict

    calibration = None
    if options.precision == "int8" and data is not None and not options.with_preprocessing:
        calibration = training_images(model, data)
    export_model(model, options.destination, chosen, calibration=calibration, verify=verify)
    (report,) = reports
    for reason in images.unreadable.values():
        note(f"skipped: {reason}")
    beside = options.destination.with_name(f"{options.destination.name}.parity.json")
    facts = as_json(options, report, model)
    write_json(beside, finite(facts))
    if options.json:
        print_json(facts)
    else:
        print_report(options, report, beside)
    if not report.passed:
        raise SystemExit(1)


def reference_images(options: argparse.Namespace, model: Model, data: DataConfig | None) -> ReferenceImages:
    """Images of the folder that was asked for, the run's test images, or photographs."""
    classes = model.card.classes if model.card else ()
    if options.images is not None:
        files = image_files([str(options.images)], image_suffixes(channels_of(model)))
        return from_files(files, title=str(options.images), classes=classes, most=options.max_images)
    if data is not None:
        try:
            splits = open_data(data)
            split = final_split(splits)
            source = relabel(splits[split], classes) if classes else splits[split]
            return ReferenceImages.of(f"the run's {split} images", source, most=options.max_images)
        except (UserError, OSError) as error:
            note(f"the run's images cannot be read, so photographs are compared: {error}")
    return photographs()


def training_images(model: Model, data: DataConfig) -> Iterator[Tensor] | None:
    """Batches of normalised training images; None if they cannot be read any more."""
    try:
        images = ReferenceImages.of("the run's training images", open_data(data)["train"], most=NUM_CALIBRATION)
    except (UserError, OSError):
        return None  # the reason was printed for the test images
    note(f"the ranges of int8 are those of {len(images.indices)} training images")
    assert model.card is not None
    preprocessing = model.card.preprocessing
    return (preprocessing.normalise(part.pixels) for part, _ in images.batches(preprocessing, CALIBRATION_BATCH))


def as_json(options: argparse.Namespace, report: ParityReport, model: Model) -> dict[str, Any]:
    """All facts of the report; fractions, not percentages."""
    return {
        "model": str(options.model),
        "file": str(options.destination),
        "backend": options.to,
        "precision": options.precision,
        "image_size": options.image_size,
        "with_preprocessing": options.with_preprocessing,
        "bytes": options.destination.stat().st_size,
        "classes": len(model.card.classes) if model.card else 0,
        **asdict(report),
        "agreement": report.agreement,
        "passed": report.passed,
        "verdict": report.verdict,
    }


def print_report(options: argparse.Namespace, report: ParityReport, beside: Path) -> None:
    """Prints the comparison and its verdict."""
    megabytes = options.destination.stat().st_size / 1e6
    title = f"{options.destination}: {megabytes:.1f} MB, {options.precision}, compared on {report.images}"
    rows = [["size", "batch", "images", "equal", "largest diff", "mean diff", "largest output"]]
    for row in report.comparisons:
        shares = f"{row.equal / row.num_images:.2%}"
        numbers = (f"{row.largest:.1e}", f"{row.mean:.1e}", f"{row.scale:.3g}")
        rows.append([f"{row.size[0]}x{row.size[1]}", str(row.batch), f"{row.num_images:,}", shares, *numbers])
    print_table(title, rows)
    if report.labelled:
        known = report.labelled
        rows = [["metric", "model", "file"]]
        rows.append(["top-1 accuracy", *(f"{value:.2%}" for value in known.accuracy)])
        rows.append(["calibration error (ECE)", *(f"{value:.2%}" for value in known.ece)])
        print_table(f"{known.num_images:,} images with a known class", rows)
    print(f"{report.verdict}\nreport: {beside}")
