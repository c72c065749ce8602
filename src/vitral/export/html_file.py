"""A page: one HTML file that classifies pictures in a browser, without a server and without a network.

It contains the page of `vitral.page`, the model as ONNX, and ONNX Runtime for browsers. Data are gzipped and written in
base64, which takes a third more space than the bytes.
"""

import gzip
import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from vitral.config import to_dict
from vitral.errors import UserError
from vitral.export.html_graph import WithRollout, draws_attention
from vitral.export.html_runtime import Runtime, load_runtime, runtime_name
from vitral.export.metadata import ExportMetadata, Precision
from vitral.export.onnx_file import read_onnx, set_metadata
from vitral.models import Model
from vitral.page.assets import STATIC, bundle, render
from vitral.weights.readme import without_folder

__all__ = ["Page", "half_weights", "page_network", "plan_page", "read_page", "write_page"]

LARGE = 30_000_000
"""Bytes of float32 weights above which a page has weights in eight bits, unless another precision was chosen."""

BLOCK = 12_000_000
"""Bytes that one element of the page holds: browsers limit the length of a string."""

BYTES = {"float32": 4, "float16": 2, "int8": 1}
"""Of a weight."""

GENERATOR = b'<meta name="generator" content="Vitral'

ELEMENT = re.compile(rb'<script type="text/plain" data-block="model">([^<]*)</script>')


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page contains."""

    proto: Any
    """An `onnx.ModelProto`."""
    runtime: Runtime


def page_network(model: Model) -> nn.Module:
    """What is exported: logits, and the attention rollout where there is attention between all patches.

    Raises:
        UserError: the model names no classes, gives one prediction a patch, or does not take pictures.
    """
    card = model.card
    if card is None or not card.classes:
        raise UserError(
            "a page shows classes, and the model has no trained head: train one with vitral train finetune "
            "--model.weights, or choose --to onnx"
        )
    if card.preprocessing.bands:
        raise UserError("a page is for pictures, and the model takes images of other channels: choose --to onnx")
    if getattr(model.config, "pool", "") == "none":
        raise UserError("a page shows the classes of a picture, and the model predicts each patch: choose --to onnx")
    return WithRollout(model) if draws_attention(model) else model


def plan_page(model: Model, precision: Precision | None, folder: Path | None) -> tuple[Precision, int]:
    """The precision of a page, and about how many bytes it will have; weights hardly shrink when they are gzipped.

    Args:
        model: with its card.
        precision: what was chosen; None: float32, or int8 for a model whose page would be large.
        folder: as in `load_runtime`.

    Raises:
        UserError: as `page_network` and `load_runtime` do.
    """
    page_network(model)
    count = sum(parameter.numel() for parameter in model.parameters())
    if precision is None:
        precision = "int8" if 4 * count > LARGE else "float32"
    runtime = load_runtime(folder)
    return precision, (BYTES[precision] * count + len(gzip.compress(runtime.wasm, 1))) * 4 // 3


def half_weights(proto: Any) -> Any:
    """The model with large weights in float16. They become float32 when it is loaded: browsers compute in that."""
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    large = [tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1]
    casts = []
    for tensor in large:
        name = tensor.name
        values = numpy_helper.to_array(tensor)
        limit = np.finfo(np.float16).max
        half = numpy_helper.from_array(values.clip(-limit, limit).astype(np.float16), f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    return proto


def write_page(page: Page, metadata: ExportMetadata) -> bytes:
    """The content of an HTML file. It names no folders of this machine: a page is for others."""
    metadata = _without_folders(metadata)
    set_metadata(page.proto, metadata)
    blocks = {
        "worker": bundle("worker").encode(),
        "runtime": page.runtime.module,
        "wasm": page.runtime.wasm,
        "model": page.proto.SerializeToString(),
    }
    script, style = f"\n{bundle('file')}\n", f"\n{(STATIC / 'style.css').read_text(encoding='utf-8')}"
    marker = "DATA"
    html = render(
        service=False,
        version=metadata.vitral,
        policy=_policy(script, style),
        icon=f"data:image/svg+xml;base64,{b64encode((STATIC / 'icon.svg').read_bytes()).decode()}",
        style=style,
        script=script,
        card=_card(metadata),
        data=marker,
    )
    before, _, after = html.rpartition(marker)
    data = b"\n".join(element for name, content in blocks.items() for element in _elements(name, content))
    return before.encode() + data + after.encode()


def read_page(path: Path) -> tuple[Callable[[Tensor], Tensor], ExportMetadata]:
    """The function that a page computes, on the CPU, and its metadata.

    Raises:
        UserError: the file is damaged or not Vitral's, or ONNX Runtime is not installed.
    """
    content = path.read_bytes()
    parts = ELEMENT.findall(content)
    if GENERATOR not in content[:4096]:
        raise UserError(f"{path} was not written by vitral export --to html: it has no model in it")
    if not parts or not content.rstrip().endswith(b"</html>"):
        raise UserError(f"{path} is damaged: its end is missing")
    try:
        model = gzip.decompress(b"".join(map(b64decode, parts)))
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} is damaged: its model cannot be unpacked") from error
    return read_onnx(model, origin=str(path))


def _without_folders(metadata: ExportMetadata) -> ExportMetadata:
    provenance = {key: without_folder(str(value)) for key, value in metadata.card.provenance.items()}
    return replace(metadata, card=replace(metadata.card, provenance=provenance))


def _policy(script: str, style: str) -> str:
    """What a page may do: run its own scripts and show pictures, and reach no address."""
    own_script, own_style = (
        f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in (script, style)
    )
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {own_script} blob: 'wasm-unsafe-eval'",
            f"style-src {own_style}",
            "worker-src blob:",
            "img-src blob: data:",
            "connect-src 'none'",
            "form-action 'none'",
            "base-uri 'none'",
        )
    )


def _card(metadata: ExportMetadata) -> str:
    """The card as JSON for a script element, where `<` could end it."""
    metrics = {name: value for name, value in metadata.card.metrics.items() if math.isfinite(value)}  # JSON has no NaN
    values = {
        **to_dict(metadata.card),
        "metrics": metrics,
        **{name: getattr(metadata, name) for name in ("vitral", "precision", "warning")},
        "runtime": runtime_name(),
    }
    return json.dumps(values).replace("<", "\\u003c")


def _elements(name: str, content: bytes) -> list[bytes]:
    packed = gzip.compress(content, 6, mtime=0)
    parts = [packed[start : start + BLOCK] for start in range(0, len(packed), BLOCK)]
    return [
        b'<script type="text/plain" data-block="%s">%s</script>' % (name.encode(), b64encode(part)) for part in parts
    ]
