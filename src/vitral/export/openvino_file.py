"""OpenVINO's intermediate representation: a graph (.xml) with its weights beside it (.bin), computed on the CPU."""

import io
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor

from vitral.data.extra import optional
from vitral.errors import UserError
from vitral.export.metadata import ExportMetadata, Precision
from vitral.export.quiet import quiet

__all__ = [
    "check_openvino",
    "import_quietly",
    "openvino_graph",
    "openvino_int8",
    "openvino_model",
    "openvino_weights",
    "read_openvino",
]

NAMESPACE = "vitral"
"""Entry of the file's `rt_info` that holds the metadata."""


def import_quietly(name: str, purpose: str) -> ModuleType:
    """Imports OpenVINO or NNCF without `openvino_telemetry`, which would report each import and call to its makers.

    Args:
        name: of the package.
        purpose: what needs it, for the error's sentence.

    Raises:
        UserError: it is not installed.
    """
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = cast(ModuleType, None)  # importing it is an ImportError
    try:
        with quiet(), redirect_stdout(io.StringIO()):
            return optional(name, purpose=purpose, extra="openvino")
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]


def check_openvino(precision: Precision, batches: Iterable[Tensor] | None) -> None:
    """Checks that there is what a precision needs.

    Raises:
        UserError: OpenVINO or NNCF is not installed, or there are no images for int8.
    """
    _openvino("--to openvino")
    if precision != "int8":
        return
    _nncf()
    if batches is None:
        raise UserError(
            "--to openvino --precision int8 takes the ranges of activations from images: export a run whose training "
            "images can be read, name a folder of images with --images, or choose --to onnx"
        )


def openvino_model(proto: Any) -> Any:
    """An `openvino.Model` of an ONNX model."""
    return _openvino("--to openvino").Core().read_model(proto.SerializeToString())


def openvino_int8(model: Any, batches: Iterable[Tensor]) -> Any:
    """The model with int8 weights and activations, whose ranges are those of the images in `batches`.

    Weights use seven bits (the overflow fix): the file is right on CPUs with VNNI and without. A resize inside the
    graph computes in float64, and stays as it is.
    """
    library = _nncf()
    with quiet(), redirect_stdout(io.StringIO()):  # for its progress bars
        images = [batch.numpy() for batch in batches]
        return library.quantize(
            model,
            library.Dataset(images),
            subset_size=len(images),
            model_type=library.ModelType.TRANSFORMER,
            ignored_scope=library.IgnoredScope(names=_in_float64(model), validate=False),
            advanced_parameters=library.AdvancedQuantizationParameters(
                overflow_fix=library.OverflowFix.ENABLE,
                # smoothing scales weights and activations of layers that outliers dominate, which harmed: on
                # Fashion-MNIST logits differed by 7.1 with it and by 0.4 without
                smooth_quant_alphas=library.AdvancedSmoothQuantParameters(matmul=-1),
            ),
        )


def openvino_graph(model: Any, metadata: ExportMetadata) -> bytes:
    """The content of the .xml file."""
    for name, text in metadata.to_strings().items():
        model.set_rt_info(text, [NAMESPACE, name])
    return _saved(model, metadata, ".xml")


def openvino_weights(model: Any, metadata: ExportMetadata) -> bytes:
    """The content of the .bin file."""
    return _saved(model, metadata, ".bin")


def read_openvino(path: Path) -> tuple[Callable[[Tensor], Tensor], ExportMetadata]:
    """The function that an .xml file and the .bin file beside it compute, on the CPU, and its metadata.

    Raises:
        UserError: a file is damaged, missing or not Vitral's, or OpenVINO is not installed.
    """
    library = _openvino(str(path))
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise UserError(f"{path} has its weights in {weights.name}, which is not beside it: copy both files")
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # otherwise it computes in bfloat16 where the CPU can
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    try:
        core = library.Core()
        model = core.read_model(path)
        strings = {
            name: model.get_rt_info([NAMESPACE, name]).value
            for name in ExportMetadata.names()
            if model.has_rt_info([NAMESPACE, name])
        }
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise UserError(f"{path} cannot be read by OpenVINO: {_reason(error)}") from error
    metadata = ExportMetadata.from_strings(strings, origin=str(path))

    def compute(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled.infer_new_request(images.numpy())[0])  # as threads may call it at once

    return compute, metadata


def _openvino(purpose: str) -> ModuleType:
    return import_quietly("openvino", purpose)


def _nncf() -> ModuleType:
    return import_quietly("nncf", "--to openvino --precision int8")


def _in_float64(model: Any) -> list[str]:
    """Names of the operations that compute in float64."""
    return [
        operation.get_friendly_name()
        for operation in model.get_ops()
        if operation.get_type_name() not in ("Constant", "Parameter", "Result")
        and operation.get_output_element_type(0).get_type_name() == "f64"
    ]


def _saved(model: Any, metadata: ExportMetadata, suffix: str) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        try:
            _openvino("--to openvino").save_model(model, path, compress_to_fp16=metadata.precision == "float16")
        except RuntimeError as error:
            raise UserError(
                f"OpenVINO cannot write into {gettempdir()} ({_reason(error)}): free some space there, or set TMPDIR "
                "to another folder"
            ) from error
        return path.with_suffix(suffix).read_bytes()


def _reason(error: RuntimeError) -> str:
    """The last line of OpenVINO's message: above it are the places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
