"""Exports a model: traces it, converts it, and writes the file once it was compared with the model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from vitral import __version__
from vitral.data.extra import optional
from vitral.errors import UserError
from vitral.export.aot_file import check_compiler, this_machine
from vitral.export.exported import ExportedModel, load_exported
from vitral.export.graph import FeatureModel, check_dynamic, trace, trace_pixels
from vitral.export.html_file import Page
from vitral.export.html_runtime import load_runtime
from vitral.export.metadata import ExportMetadata, Precision, Sizes
from vitral.export.onnx_file import check_size
from vitral.export.preprocessing import WithPreprocessing
from vitral.export.registry import BACKENDS, Backend
from vitral.files import add_file_name, write_atomically
from vitral.models import Model

__all__ = ["ExportOptions", "export_model"]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is written.

    Raises:
        UserError: the choices exclude each other.
    """

    to: str
    """A name in `BACKENDS`."""
    precision: Precision = "float32"
    image_size: Sizes = "fixed"
    with_preprocessing: bool = False
    """Whether the file takes uint8 pixels of any size, and resizes and normalises them itself."""
    aot: bool = False
    """Whether a .pt2 file holds machine code for this machine's kind of CPU, by AOTInductor, instead of a graph."""
    runtime: Path | None = None
    """For a page: the folder with the browser's runtime; None: the cache folder, or npm."""

    def __post_init__(self) -> None:
        known = BACKENDS[self.to].precisions
        if self.precision not in known:
            raise UserError(
                f"--to {self.to} writes {', '.join(known)}, not {self.precision}: choose --to onnx or openvino"
            )
        if self.to == "html" and (self.with_preprocessing or self.image_size == "dynamic"):
            raise UserError(
                "a page resizes every picture to the model's size: leave out --with-preprocessing and --image-size "
                "dynamic"
            )
        if self.runtime is not None and self.to != "html":
            raise UserError(f"--runtime is for --to html, not for --to {self.to}: leave it out")
        if self.aot and self.to != "torch":
            raise UserError(f"--aot is for --to torch, not for --to {self.to}: leave it out")
        if self.with_preprocessing and self.image_size == "dynamic":
            raise UserError(
                "--with-preprocessing resizes every image to the model's size: leave out --image-size dynamic"
            )


def export_model(
    model: Model,
    destination: Path,
    options: ExportOptions,
    *,
    calibration: Iterable[Tensor] | None = None,
    verify: Callable[[ExportedModel], str],
) -> None:
    """Writes a model into a file, which appears at once and whole.

    Args:
        model: with its card, on the CPU.
        destination: the file.
        options: what is written.
        calibration: batches of normalised training images (b c h w), for int8; None: its ranges are found at each call.
        verify: compares the file with the model, and returns a warning that the file's metadata keep; empty for none.

    Raises:
        UserError: the model cannot be exported so, or a package is missing.
        OSError: the file cannot be written.
    """
    if model.card is None:
        raise UserError("the model has no card with preprocessing, which an exported file needs: train it with Vitral")
    if options.with_preprocessing and model.card.preprocessing.bands:
        raise UserError("--with-preprocessing is for pictures: images of other channels are prepared outside the file")
    model.card.preprocessing.check_one_size("an exported file")
    backend = BACKENDS[options.to]
    network = _network(model, backend)
    for package in backend.requires:
        optional(package, purpose=f"--to {options.to}", extra=backend.extra)
    backend.check(options.precision, calibration)
    if options.aot:
        check_compiler()
    runtime = load_runtime(options.runtime) if options.to == "html" else None
    if options.to != "torch":  # the others are made from an ONNX model
        check_size(sum(parameter.numel() for parameter in model.parameters()))
    if options.image_size == "dynamic":
        check_dynamic(model)
    metadata = ExportMetadata(
        vitral=__version__,
        architecture=model.config,
        card=model.card,
        output="features" if isinstance(network, FeatureModel) else "logits",
        image_size=options.image_size,
        precision=options.precision,
        with_preprocessing=options.with_preprocessing,
        compiled_for=this_machine() if options.aot else None,
    )
    artefact = backend.convert(_trace(network, model, options), metadata, calibration)
    if runtime is not None:
        artefact = Page(proto=artefact, runtime=runtime)
    with TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
        draft = Path(folder) / f"draft{backend.suffix}"
        with add_file_name(destination):
            draft.write_bytes(backend.write(artefact, metadata))
            for suffix, content in backend.beside.items():
                draft.with_suffix(suffix).write_bytes(content(artefact, metadata))
        warning = verify(load_exported(draft))
    _write(destination, artefact, replace(metadata, warning=warning), backend)


def _write(destination: Path, artefact: Any, metadata: ExportMetadata, backend: Backend) -> None:
    """Writes the file last, so that what belongs beside it is there once it is."""
    contents = {destination.with_suffix(suffix): content for suffix, content in backend.beside.items()}
    written: list[Path] = []
    try:
        for path, content in {**contents, destination: backend.write}.items():
            whole = content(artefact, metadata)
            write_atomically(path, lambda file, whole=whole: file.write(whole))
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink()
        raise


def _network(model: Model, backend: Backend) -> nn.Module:
    """What is traced."""
    if backend.network is not None:
        return backend.network(model)
    assert model.card is not None
    trained = bool(model.card.classes) or bool(model.head.weight.any())
    return model if trained else FeatureModel(model)


def _trace(network: nn.Module, model: Model, options: ExportOptions) -> ExportedProgram:
    """The graph of a network, with preprocessing inside if wished."""
    if not options.with_preprocessing:
        return trace(network, model, dynamic=options.image_size == "dynamic")
    assert model.card is not None
    network = WithPreprocessing(network, model.card.preprocessing)
    return trace_pixels(network, channels=model.config.channels, image_hw=model.config.image_hw)
