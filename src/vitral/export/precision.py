"""ONNX models in half precision and in eight bits, for ONNX Runtime."""

import platform
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from vitral.data.extra import optional
from vitral.export.quiet import quiet

__all__ = ["calibrated_int8", "has_int8_instructions", "to_float16", "weights_int8"]

QUANTISED = ["MatMul", "Gemm"]
"""Layers that int8 computes in: dense ones. Norms, softmax and the patch embedding of a hybrid stay in float32."""


def to_float16(proto: Any) -> Any:
    """Weights and arithmetic in float16; images and logits stay in float32."""
    converter = optional("onnxruntime.transformers.float16", purpose="--precision float16", extra="export")
    with quiet():
        return converter.convert_float_to_float16(proto, keep_io_types=True)


def weights_int8(proto: Any) -> Any:
    """Weights in int8, one scale for each output channel; activations are quantised as they come, per tensor."""
    library = optional("onnxruntime.quantization", purpose="--precision int8", extra="export")
    with TemporaryDirectory() as folder, quiet():
        source, target = _prepared(proto, Path(folder))
        library.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=not has_int8_instructions(),
            weight_type=library.QuantType.QInt8,
        )
        return _loaded(target)


def calibrated_int8(proto: Any, batches: Iterable[Float32[Tensor, "b c h w"]]) -> Any:
    """As `weights_int8`, but the range of each activation is that of the images in `batches`."""
    library = optional("onnxruntime.quantization", purpose="--precision int8", extra="export")
    name = proto.graph.input[0].name

    class Reader(library.CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs: Iterator[dict[str, np.ndarray]] = ({name: batch.numpy()} for batch in batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    with TemporaryDirectory() as folder, quiet():
        source, target = _prepared(proto, Path(folder))
        library.quantize_static(
            source,
            target,
            Reader(),
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=not has_int8_instructions(),
            weight_type=library.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return _loaded(target)


@cache
def has_int8_instructions() -> bool:
    """Whether this CPU adds products of eight bits without overflow: VNNI on x86, always on ARM.

    Without it, weights use seven bits: sums of two products of eight bits overflow 16.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return True
    flags = Path("/proc/cpuinfo")
    return flags.is_file() and "vnni" in flags.read_text()


def _prepared(proto: Any, folder: Path) -> tuple[Path, Path]:
    """The model after ONNX Runtime's own preparation, which quantisation needs, and where its result goes."""
    library = optional("onnxruntime.quantization.shape_inference", purpose="--precision int8", extra="export")
    whole, prepared = folder / "whole.onnx", folder / "prepared.onnx"
    whole.write_bytes(proto.SerializeToString())
    # PyTorch has written the shapes; to infer them symbolically fails at the norms of a hybrid's stem
    library.quant_pre_process(whole, prepared, skip_symbolic_shape=True)
    return prepared, folder / "quantised.onnx"


def _loaded(path: Path) -> Any:
    return optional("onnx", purpose="--precision int8", extra="export").load(path)
