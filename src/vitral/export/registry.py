"""Backends by the name that `--to` takes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from vitral.export.html_file import half_weights, page_network, read_page, write_page
from vitral.export.metadata import PRECISIONS, ExportMetadata, Precision
from vitral.export.onnx_file import read_onnx, to_onnx, write_onnx
from vitral.export.openvino_file import (
    check_openvino,
    openvino_graph,
    openvino_int8,
    openvino_model,
    openvino_weights,
    read_openvino,
)
from vitral.export.precision import calibrated_int8, to_float16, weights_int8
from vitral.export.torch_file import convert_torch, read_torch, write_torch
from vitral.models import Model

__all__ = ["BACKENDS", "Backend"]

Calibration = Iterable[Tensor] | None
"""Batches of training images, normalised, from which int8 takes the ranges of activations; None if there are none."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One kind of file."""

    suffix: str
    """Ending of the file's name."""
    requires: tuple[str, ...] = ()
    """Packages that it needs."""
    extra: str = "export"
    """The group of Vitral's optional packages that they are in."""
    check: Callable[[Precision, Calibration], None] = lambda *_: None
    """Raises UserError, before anything is computed, if it cannot write this precision from these images."""
    precisions: tuple[Precision, ...]
    """What `--precision` may be."""
    convert: Callable[[ExportedProgram, ExportMetadata, Calibration], Any]
    """From a graph to what the backend writes."""
    write: Callable[[Any, ExportMetadata], bytes]
    """The content of the file."""
    beside: Mapping[str, Callable[[Any, ExportMetadata], bytes]] = field(default_factory=dict)
    """The content of each file that belongs to it and has the same name, by its ending."""
    read: Callable[[Path], tuple[Callable[[Tensor], Tensor], ExportMetadata]]
    """The function that a file computes, on the CPU, and its metadata; raises UserError if it is damaged."""
    network: Callable[[Model], nn.Module] | None = None
    """What is traced; None: the model, or its features if the head was never trained."""


def _convert_onnx(program: ExportedProgram, metadata: ExportMetadata, calibration: Calibration) -> Any:
    proto = to_onnx(program, outputs=[metadata.output])
    if metadata.precision == "int8":
        return weights_int8(proto) if calibration is None else calibrated_int8(proto, calibration)
    return to_float16(proto) if metadata.precision == "float16" else proto


def _convert_openvino(program: ExportedProgram, metadata: ExportMetadata, calibration: Calibration) -> Any:
    model = openvino_model(to_onnx(program, outputs=[metadata.output]))
    return model if calibration is None else openvino_int8(model, calibration)


def _convert_page(program: ExportedProgram, metadata: ExportMetadata, calibration: Calibration) -> Any:
    count = len(program.graph_signature.user_outputs)
    proto = to_onnx(program, outputs=["logits", "attention"][:count])
    if metadata.precision == "int8":
        return weights_int8(proto) if calibration is None else calibrated_int8(proto, calibration)
    return half_weights(proto) if metadata.precision == "float16" else proto


BACKENDS: dict[str, Backend] = {
    "onnx": Backend(
        suffix=".onnx",
        requires=("onnx", "onnxscript", "onnxruntime"),
        precisions=PRECISIONS,
        convert=_convert_onnx,
        write=write_onnx,
        read=read_onnx,
    ),
    "torch": Backend(
        suffix=".pt2",
        precisions=("float32",),
        convert=convert_torch,
        write=write_torch,
        read=read_torch,
    ),
    "openvino": Backend(
        suffix=".xml",
        requires=("onnx", "onnxscript"),
        extra="openvino",
        check=check_openvino,
        precisions=PRECISIONS,
        convert=_convert_openvino,
        write=openvino_graph,
        beside={".bin": openvino_weights},
        read=read_openvino,
    ),
    "html": Backend(
        suffix=".html",
        requires=("onnx", "onnxscript", "onnxruntime"),
        precisions=PRECISIONS,
        convert=_convert_page,
        write=write_page,
        read=read_page,
        network=page_network,
    ),
}
