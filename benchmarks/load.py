"""How fast is a model loaded, and how much memory does that take beside the file?

ViT-L/16 from a Vitral folder and from a safetensors file in timm's format, beside `safetensors.torch.load_file` with
`load_state_dict(assign=True)` on a model of the same shape without memory. Each in a process of its own, from a warm
file cache; the ways take turns and the medians are compared.

    python benchmarks/load.py --rounds 7

prints a Markdown table. Results are kept beside this file as `load_HARDWARE_DATE.md`.
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
from vitral.weights.folder import save_model

WAYS = {
    "safetensors, plain": (
        "from safetensors.torch import load_file; from vitral.models import architecture, blank_model",
        "model = blank_model(architecture('ViT-L/16'))\n"
        "model.load_state_dict(load_file('{folder}/timm.safetensors'), assign=True)",
    ),
    "vitral.load, Vitral's folder": ("import vitral; vitral.load", "model = vitral.load('{folder}/vitral')"),
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
total = sum(float(tensor.sum()) for tensor in model.state_dict().values())  # every byte is really read
peak = memory('VmHWM') - resident
print(json.dumps([seconds, time.perf_counter() - start, peak]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="times that each way is taken")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = create("ViT-L/16", gelu="erf", position_resample="timm")
        card = ModelCard(
            preprocessing=Preprocessing(image_size=(224, 224), channels=3),
            classes=tuple(f"class {label}" for label in range(1000)),
        )
        save_model(Path(folder) / "vitral", model, card)
        save_file(model.state_dict(), Path(folder) / "timm.safetensors")
        size = (Path(folder) / "timm.safetensors").stat().st_size
        found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way, (before, load) in WAYS.items():
                script = SCRIPT.format(before=before, load=load.format(folder=folder))
                output = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE).stdout
                found[way].append(json.loads(output))
    plain = statistics.median(total for _, total, _ in found["safetensors, plain"])
    print(f"the file has {size / 1e6:,.0f} MB\n")
    print("| way | loaded, s | and every number read, s | beside plain | peak memory / file |\n|---|---|---|---|---|")
    for way, runs in found.items():
        seconds, total, peak = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"| {way} | {seconds:.3f} | {total:.3f} | {total / plain:.2f} | {peak / size:.2f} |")


if __name__ == "__main__":
    main()
