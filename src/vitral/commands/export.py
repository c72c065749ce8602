"""`vitral export`: writes a model as one file, and compares the file with the model."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
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
from vitral.data.images.preprocess import Preprocessing
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.evals.relabel import relabel
from vitral.evals.splits import final_split
from vitral.export.exported import ExportedModel, is_exported
from vitral.export.html_file import plan_page
from vitral.export.images import ReferenceImages, from_files, photographs
from vitral.export.parity import ParityReport, compare
from vitral.export.registry import BACKENDS
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
        precision=options.precision or "float32",
        image_size=options.image_size,
        with_preprocessing=options.with_preprocessing,
        aot=options.aot,
        runtime=options.runtime,
    )
    if is_exported(options.model):
        raise UserError(f"{options.model} is an exported file: export the model that it was made from")
    adapted = {"image_size": options.pixels, "token_merging": options.token_merging}
    model = load_and_note(options.model, **adapted, **source_options(options))
    if options.to == "html":
        precision, size = plan_page(model, options.precision, options.runtime)
        chosen = replace(chosen, precision=precision)
        note(f"{options.destination} will have about {size / 1e6:.0f} MB, with weights in {precision}")
    options.precision = chosen.precision
    data = run_data(Path(options.model))
    images = reference_images(options, model, data)
    reports: list[ParityReport] = []

    def verify(exported: ExportedModel) -> str:
        tolerance = None if options.tolerance is None else options.tolerance / 100
        reports.append(compare(model, exported, images, tolerance=tolerance))
        return "" if reports[0].passed else reports[0].verdict

    calibration = calibration_images(options, model, data) if options.precision == "int8" else None
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


def calibration_images(options: argparse.Namespace, model: Model, data: DataConfig | None) -> Iterator[Tensor] | None:
    """Batches of what the file takes, from the run's training images or, for OpenVINO, those of `--images`.

    None if there are none: ONNX Runtime then takes the ranges of activations at each call.
    """
    if model.card is None:
        return None  # which is refused later
    if options.to == "onnx" and options.with_preprocessing:
        return None  # its calibration would quantise the resize too
    images = training_images(data) if data is not None else None
    if images is None and options.to == "openvino" and options.images is not None:
        files = image_files([str(options.images)], image_suffixes(channels_of(model)))
        images = from_files(files, title=f"those of {options.images}", classes=(), most=NUM_CALIBRATION)
    if images is None:
        return None
    return batches(images, model.card.preprocessing, whole=options.with_preprocessing)


def batches(images: ReferenceImages, preprocessing: Preprocessing, *, whole: bool) -> Iterator[Tensor]:
    """Normalised images, or whole ones, one by one; says which they are once they are needed."""
    note(f"the ranges of int8 are those of {len(images.indices)} images: {images.title}")
    for part, _ in images.batches(preprocessing, CALIBRATION_BATCH):
        if whole:
            yield from (image[None] for image in part.whole)
        else:
            yield preprocessing.normalise(part.pixels)


def training_images(data: DataConfig) -> ReferenceImages | None:
    """The run's training images; None if they cannot be read any more."""
    try:
        return ReferenceImages.of("the run's training images", open_data(data)["train"], most=NUM_CALIBRATION)
    except (UserError, OSError):
        return None  # the reason was printed for the test images


def written_bytes(options: argparse.Namespace) -> int:
    """Size of the file, and of what belongs beside it."""
    suffixes = (options.destination.suffix, *BACKENDS[options.to].beside)
    return sum(options.destination.with_suffix(suffix).stat().st_size for suffix in suffixes)


def as_json(options: argparse.Namespace, report: ParityReport, model: Model) -> dict[str, Any]:
    """All facts of the report; fractions, not percentages."""
    return {
        "model": str(options.model),
        "file": str(options.destination),
        "backend": options.to,
        "precision": options.precision,
        "image_size": options.image_size,
        "token_merging": options.token_merging,
        "with_preprocessing": options.with_preprocessing,
        "aot": options.aot,
        "bytes": written_bytes(options),
        "classes": len(model.card.classes) if model.card else 0,
        **asdict(report),
        "agreement": report.agreement,
        "passed": report.passed,
        "verdict": report.verdict,
    }


def print_report(options: argparse.Namespace, report: ParityReport, beside: Path) -> None:
    """Prints the comparison and its verdict."""
    megabytes = written_bytes(options) / 1e6
    title = f"{options.destination}: {megabytes:.1f} MB, {options.precision}, compared on {report.images}"
    rows = [["size", "batch", "images", "equal", "largest diff", "mean diff", "largest output"]]
    for row in report.comparisons:
        equal = f"{row.equal / row.num_images:.2%}"
        numbers = (f"{row.largest:.1e}", f"{row.mean:.1e}", f"{row.scale:.3g}")
        rows.append([f"{row.size[0]}x{row.size[1]}", str(row.batch), f"{row.num_images:,}", equal, *numbers])
    print_table(title, rows)
    if report.labelled:
        known = report.labelled
        rows = [["metric", "model", "file"]]
        rows.append(["top-1 accuracy", *(f"{value:.2%}" for value in known.accuracy)])
        rows.append(["calibration error (ECE)", *(f"{value:.2%}" for value in known.ece)])
        print_table(f"{known.num_images:,} images with a known class", rows)
    print(f"{report.verdict}\nreport: {beside}")
