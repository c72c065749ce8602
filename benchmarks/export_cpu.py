"""Is Vitral's ONNX file as fast as timm's on a CPU, and how much faster is int8?

Each model in PyTorch; as ONNX in float32 and in int8, with the ranges of photographs (`static`) or of each call
(`dynamic`), as `vitral export` writes them; and timm's model of the same shape as timm's own `onnx_export` writes it,
with timm's GELU (erf) and with Vitral's (tanh). All take turns in one process, from uint8 images in memory to logits.

    python benchmarks/export_cpu.py --models ViT-S/16 ViT-B/16

prints Markdown tables, and what disturbed them. Results are in this folder as `export_cpu_HARDWARE_DATE.md`.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
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
from vitral.commands.bench.measure import measure
from vitral.commands.bench.report import groups, notes_of, table, title
from vitral.export.images import photographs
from vitral.export.quiet import quiet
from vitral.export.writing import ExportOptions, export_model
from vitral.files import as_markdown
from vitral.inspection.timing import Work
from vitral.models import Model

CPU = torch.device("cpu")
SETTINGS = Settings(device=CPU, bfloat16=False, train=False, compile=False)

PEERS = {"ViT-Ti/16": "tiny", "ViT-S/16": "small", "ViT-B/16": "base"}
"""timm's sizes."""

GELUS = {"erf": nn.GELU, "tanh": partial(nn.GELU, approximate="tanh")}

CALIBRATION_BATCH = 16


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-S/16", "ViT-B/16"], choices=list(PEERS))
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=60.0, help="to measure each model (default: 60)")
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, timm {timm.__version__}\n")
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(
                list(contenders(name, Path(folder))),
                device=CPU,
                batch_sizes=options.batch_size,
                seconds=options.seconds,
            )
        for group in groups(found.rows):
            print(f"{title(group, SETTINGS)}\n\n{as_markdown(table(group))}", flush=True)
        print("".join(f"- {sentence}\n" for sentence in notes_of(found)), flush=True)


def contenders(name: str, folder: Path) -> Iterator[Contender]:
    """Vitral's ONNX file first: the others are relative to it."""
    model = load_model(name, image_size=None)
    int8 = ExportOptions(to="onnx", precision="int8")
    forms = {
        "ONNX, float32": (ExportOptions(to="onnx"), None),
        "ONNX, int8 static": (int8, normalised_photographs),
        "ONNX, int8 dynamic": (int8, None),
    }
    for form, (options, calibration) in forms.items():
        file = folder / f"{form}.onnx"
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
        by=f"timm's ONNX, float32, {gelu}",
        architecture=like.config,
        precision="float32",
        device=CPU,
        prepare=prepare,
        held=None,
    )


def card_of(model: Model) -> ModelCard:
    """The model's card, which all models here have."""
    assert model.card is not None
    return model.card


if __name__ == "__main__":
    main()
