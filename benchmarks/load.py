"""How fast does a model load, and how much memory does it need relative to the file?

A model from a Vitral folder, with and without the checksum in its `config.json`, and from a safetensors file in timm's
format, compared with `safetensors.torch.load_file` and `load_state_dict(assign=True)` on a model on the meta device.
Each runs in a separate process, with a warm file cache, in alternation; the table compares medians.

    python benchmarks/load.py --model ViT-L/16 --rounds 7

prints a Markdown table. Results are in this folder as `load_HARDWARE_DATE.md`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.models import create
from vitral.weights.folder import WEIGHTS, save_model

LOADERS = {
    "safetensors, plain": (
        "from safetensors.torch import load_file; from vitral.models import architecture, blank_model",
        "model = blank_model(architecture('{name}'))\n"
        "model.load_state_dict(load_file('{folder}/timm.safetensors'), assign=True)",
    ),
    "vitral.load, Vitral's folder": ("import vitral; vitral.load", "model = vitral.load('{folder}/vitral')"),
    "vitral.load, without the checksum": ("import vitral; vitral.load", "model = vitral.load('{folder}/unchecked')"),
    "vitral.load, timm's file": ("import vitral; vitral.load", "model = vitral.load('{folder}/timm.safetensors')"),
}
SCRIPT = """
import json, time
{before}
import torch
def memory(key):
    return next(int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith(key))
start, resident = time.perf_counter(), memory('VmRSS')
{load}
seconds = time.perf_counter() - start
total = sum(float(tensor.sum()) for tensor in model.state_dict().values())  # reads every byte
peak = memory('VmHWM') - resident
print(json.dumps([seconds, time.perf_counter() - start, peak]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ViT-L/16", help="a Transformer's name")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = create(options.model, gelu="erf", position_resample="timm")
        card = ModelCard(
            preprocessing=Preprocessing(image_size=(224, 224), channels=3),
            classes=tuple(f"class {label}" for label in range(1000)),
        )
        save_model(Path(folder) / "vitral", model, card)
        leave_out_checksum(Path(folder) / "vitral", Path(folder) / "unchecked")
        save_file(model.state_dict(), Path(folder) / "timm.safetensors")
        size = (Path(folder) / "timm.safetensors").stat().st_size
        results: dict[str, list[list[float]]] = {name: [] for name in LOADERS}
        for _ in range(options.rounds):
            for name, (before, load) in LOADERS.items():
                script = SCRIPT.format(before=before, load=load.format(folder=folder, name=options.model))
                output = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE).stdout
                results[name].append(json.loads(output))
    plain = statistics.median(total for _, total, _ in results["safetensors, plain"])
    print(f"the file has {size / 1e6:,.0f} MB\n")
    print(
        "| loader | loaded, s | and all numbers read, s | relative to plain | peak memory / file |\n"
        "|---|---|---|---|---|"
    )
    for name, runs in results.items():
        seconds, total, peak = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"| {name} | {seconds:.3f} | {total:.3f} | {total / plain:.2f} | {peak / size:.2f} |")


def leave_out_checksum(model: Path, copy: Path) -> None:
    """Links a model's weights into another folder, whose configuration has no checksum."""
    copy.mkdir()
    (copy / WEIGHTS).hardlink_to(model / WEIGHTS)
    config = json.loads((model / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "checksum": None}))


if __name__ == "__main__":
    main()
