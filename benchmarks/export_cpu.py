"""Is Vitral's ONNX file as fast as timm's on a CPU, and how much faster is int8?

Each model in PyTorch; as ONNX in float32 and in int8, with the ranges of photographs (`static`) or of each call
(`dynamic`), and for OpenVINO in float32 and in int8, as `vitral export` writes them; and timm's model of the same shape
as timm's own `onnx_export` writes it, with timm's GELU (erf) and with Vitral's (tanh). All take turns in one process,
from uint8 images in memory to logits.

    python benchmarks/export_cpu.py --out benchmarks/export_cpu_HARDWARE_DATE.md

writes Markdown tables, and what disturbed them.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # waiting threads must not spin on a core that others need

import onnxruntime
import timm
import torch
from timm.utils.onnx import onnx_export
from torch import Tensor, nn

from vitral.card import ModelCard
from vitral.commands.bench.contenders import (
    Contender,
    Settings,
    exported_contender,
    load_model,
    random_pixels,
    vitral_contenders,
)
from vitral.commands.bench.measure import Row, measure
from vitral.commands.bench.report import groups, notes_of, table, title
from vitral.export.aot_file import this_machine
from vitral.export.images import photographs
from vitral.export.openvino_file import import_quietly
from vitral.export.quiet import quiet
from vitral.export.registry import BACKENDS
from vitral.export.writing import ExportOptions, export_model
from vitral.files import as_markdown, write_atomically
from vitral.inspection.timing import Work
from vitral.models import Model

CPU = torch.device("cpu")
SETTINGS = Settings(device=CPU, bfloat16=False, train=False, compile=False)

PEERS = {"ViT-Ti/16": "tiny", "ViT-S/16": "small", "ViT-B/16": "base"}
"""timm's sizes."""

GELUS = {"erf": nn.GELU, "tanh": partial(nn.GELU, approximate="tanh")}

CALIBRATION_BATCH = 16


FIRST = "ONNX, float32"
"""The contender that the others are relative to."""

INT8_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")

HEAD = """# Exported files on a CPU: Vitral's ONNX beside timm's, and int8 beside float32

    python benchmarks/export_cpu.py

From uint8 images in memory to logits; all forms take turns in one process. Times are milliseconds of a call; `speed` is
relative to Vitral's ONNX file in float32. Weights are random; int8 takes its ranges from 48 squares of photographs.
"""


def main() -> None:
    """Prints a table for each model, and writes them if wished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-S/16", "ViT-B/16"], choices=list(PEERS))
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=60.0, help="to measure each model (default: 60)")
    parser.add_argument("--out", type=Path, help="a new Markdown file")
    options = parser.parse_args()
    torch.manual_seed(0)
    parts = [HEAD, conditions()]
    print(parts[-1], flush=True)
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(
                list(contenders(name, Path(folder))),
                device=CPU,
                batch_sizes=options.batch_size,
                seconds=options.seconds,
            )
        for group in groups(found.rows):
            parts.append(f"## {title(group, SETTINGS)}\n\n{as_markdown(table(group))}")
        parts.append("".join(f"- {sentence}\n" for sentence in [*answers(found.rows), *notes_of(found)]))
        print("\n".join(parts[-2:]), flush=True)
    if options.out:
        write_atomically(options.out, lambda file: file.write("\n".join(parts).encode()))


def conditions() -> str:
    """Versions, and the instruction sets of this CPU that matter for int8."""
    openvino = import_quietly("openvino", "this benchmark")
    here = this_machine()
    present = [name for name in INT8_INSTRUCTIONS if name in here.instructions]
    absent = [name for name in INT8_INSTRUCTIONS if name not in here.instructions]
    return (
        f"- torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, OpenVINO "
        f"{openvino.__version__.partition('-')[0]}, timm {timm.__version__}\n"
        f"- instruction sets: {', '.join(present) or 'none'}; missing: {', '.join(absent) or 'none'}\n"
    )


def answers(rows: Sequence[Row]) -> Iterator[str]:
    """The two questions, batch by batch."""
    for size in dict.fromkeys(row.batch_size for row in rows):
        speeds = {row.contender.by: row.ratio.median for row in rows if row.batch_size == size}
        peers = ", ".join(f"{1 / speeds[peer_name(gelu)]:.2f} times timm's with {gelu}" for gelu in GELUS)
        yield f"batch {size}: Vitral's ONNX in float32 has the speed of {peers}"
        int8 = ", ".join(f"{by} {speed:.2f}" for by, speed in speeds.items() if "int8" in by)
        yield f"batch {size}: int8 beside ONNX in float32: {int8}"


def contenders(name: str, folder: Path) -> Iterator[Contender]:
    """Vitral's ONNX file first: the others are relative to it."""
    model = load_model(name, image_size=None, reading={})
    int8 = ExportOptions(to="onnx", precision="int8")
    forms = {
        FIRST: (ExportOptions(to="onnx"), None),
        "ONNX, int8 static": (int8, normalised_photographs),
        "ONNX, int8 dynamic": (int8, None),
        "OpenVINO, float32": (ExportOptions(to="openvino"), None),
        "OpenVINO, int8": (ExportOptions(to="openvino", precision="int8"), normalised_photographs),
    }
    for form, (options, calibration) in forms.items():
        file = folder / f"{form}{BACKENDS[options.to].suffix}"
        export_model(model, file, options, calibration=calibration and calibration(model), verify=lambda _: "")
        yield replace(exported_contender(str(file), image_size=None), model=name, by=form)
    for gelu in GELUS:
        yield timm_contender(name, gelu, model, folder)
    yield from vitral_contenders(name, model, SETTINGS)


def normalised_photographs(model: Model) -> Iterator[Tensor]:
    """Batches that int8 takes its ranges from."""
    preprocessing = card_of(model).preprocessing
    for batch, _ in photographs().batches(preprocessing, CALIBRATION_BATCH, same_size=True):
        yield preprocessing.normalise(batch.pixels)


def timm_contender(name: str, gelu: str, like: Model, folder: Path) -> Contender:
    """timm's model in ONNX Runtime, with as many threads as PyTorch."""
    model = timm.create_model(f"vit_{PEERS[name]}_patch16_224", act_layer=GELUS[gelu]).eval()
    file = folder / f"timm-{gelu}.onnx"
    with quiet():
        onnx_export(model, str(file), input_size=(3, 224, 224), batch_size=2, use_dynamo=True, check=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    source, preprocessing = session.get_inputs()[0].name, card_of(like).preprocessing

    def prepare(batch_size: int) -> Work:
        images = random_pixels(batch_size, preprocessing)

        def call() -> object:
            return session.run(None, {source: preprocessing.normalise(images).numpy()})

        call()
        return call

    return Contender(
        model=name,
        by=peer_name(gelu),
        architecture=like.config,
        precision="float32",
        device=CPU,
        prepare=prepare,
        held=None,
    )


def peer_name(gelu: str) -> str:
    """timm's file with this form of GELU."""
    return f"timm's ONNX, float32, {gelu}"


def card_of(model: Model) -> ModelCard:
    """The model's card, which all models here have."""
    assert model.card is not None
    return model.card


if __name__ == "__main__":
    main()
