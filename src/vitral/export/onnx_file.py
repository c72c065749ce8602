"""ONNX files: written through `torch.onnx`, computed by ONNX Runtime on the CPU."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from vitral.data.extra import optional
from vitral.errors import UserError
from vitral.export.metadata import ExportMetadata
from vitral.export.quiet import quiet

__all__ = ["check_size", "read_onnx", "set_metadata", "to_onnx", "write_onnx"]

MAX_BYTES = 2**31 - 2**20
"""The largest file that ONNX's format can hold, less some room for the graph."""


def check_size(num_parameters: int) -> None:
    """Checks that a model fits into one file.

    Raises:
        UserError: it does not.
    """
    if 4 * num_parameters > MAX_BYTES:
        raise UserError(
            f"an ONNX file holds 2 GB, and this model has {4 * num_parameters / 1e9:.1f} GB of weights in float32: "
            "choose --to torch"
        )


def to_onnx(program: ExportedProgram, *, outputs: Sequence[str]) -> Any:
    """An `onnx.ModelProto` of a graph, whose outputs get these names.

    Raises:
        UserError: ONNX has no form for the model.
    """
    assert program.example_inputs is not None
    (example,) = program.example_inputs[0]
    _copy_before_reshapes(program)
    source = next(node for node in program.graph.nodes if node.op == "placeholder" and _is_input(program, node))
    name = "images" if example.is_floating_point() else "pixels"
    try:
        with quiet():
            exported = torch.onnx.export(
                program, (example,), dynamo=True, verbose=False, input_names=[name], output_names=list(outputs)
            )
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).strip().splitlines()[0][:200]
        raise UserError(f"ONNX has no form for this model: {reason}; choose --to torch") from error
    assert exported is not None
    proto = exported.model_proto
    _name_lengths(
        proto,
        source.meta["val"],
    )
    return proto


def write_onnx(proto: Any, metadata: ExportMetadata) -> bytes:
    """The content of an ONNX file."""
    set_metadata(proto, metadata)
    return proto.SerializeToString()


def set_metadata(proto: Any, metadata: ExportMetadata) -> None:
    """Writes the metadata into an `onnx.ModelProto`, instead of what it holds."""
    del proto.metadata_props[:]
    for name, text in metadata.to_strings().items():
        proto.metadata_props.add(key=name, value=text)
    proto.producer_name, proto.producer_version = "vitral", metadata.vitral


def read_onnx(file: Path | bytes, *, origin: str | None = None) -> tuple[Callable[[Tensor], Tensor], ExportMetadata]:
    """The function that an ONNX file computes, on the CPU, and its metadata.

    Args:
        file: its path or its content.
        origin: its name in errors; None: its path.

    Raises:
        UserError: the file is damaged or not Vitral's, or ONNX Runtime is not installed.
    """
    origin = origin or str(file)
    ort = optional("onnxruntime", purpose=origin, extra="export")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        content = file if isinstance(file, bytes) else str(file)
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{origin} cannot be read by ONNX Runtime: {_first_line(error)}") from error
    metadata = ExportMetadata.from_strings(session.get_modelmeta().custom_metadata_map, origin=origin)
    source = session.get_inputs()[0].name

    def compute(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {source: images.numpy()})[0])

    return compute, metadata


def _copy_before_reshapes(program: ExportedProgram) -> None:
    """Lets every reshape have a copy: decomposing attention changes strides, for which a reshape may be no view.

    In ONNX, where tensors have no strides, nothing is left of the copies.
    """
    graph = program.graph
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.reshape.default:
            source = node.args[0]
            with graph.inserting_before(node):
                copy = graph.call_function(
                    torch.ops.aten.clone.default, (source,), {"memory_format": torch.contiguous_format}
                )
            copy.meta["val"] = source.meta["val"].contiguous()
            node.replace_input_with(source, copy)
    program.graph_module.recompile()


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.rpartition(" : ")[2][:200]  # before it are the runtime's name and numbers


def _is_input(program: ExportedProgram, node: torch.fx.Node) -> bool:
    return node.name in program.graph_signature.user_inputs


def _name_lengths(proto: Any, example: Tensor) -> None:
    """Gives symbolic lengths names, where PyTorch has s34: `batch`, then `8*rows` or `height`."""
    symbols = [str(length) for length in example.shape if isinstance(length, torch.SymInt)]
    axes = ("batch", *(("rows", "columns") if any("*" in text for text in symbols) else ("height", "width")))
    names = dict(zip((re.sub(r".*?(s\d+)", r"\1", text) for text in symbols), axes, strict=False))

    def named(text: str) -> str:
        return re.sub(r"\bs\d+\b", lambda match: names.get(match[0], match[0]), text)

    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for length in value.type.tensor_type.shape.dim:
            if length.dim_param:
                length.dim_param = named(length.dim_param)
