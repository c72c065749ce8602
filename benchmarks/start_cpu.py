"""How long does a command take before its work begins?

In alternating rounds, each in a fresh process: `import torch, timm`, which any script of a peer's begins with; commands
that print what they know, to their end; and training, to the end of its first step. Processor time is that of the
process and its children, so that neighbours on the machine count less than in the time by the clock.

    python benchmarks/start_cpu.py [--source OTHER/src]

prints a Markdown table: medians, and their ratio to the import. `--source` adds other source trees, such as an earlier
commit's. Results are in this folder as `start_cpu_HARDWARE_DATE.md`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

OWN = Path(__file__).parents[1] / "src"

COMMAND = "from vitral.cli import main; main({words})"

FIRST_STEP = """
import os
from vitral.train.session import Session
step = Session.train_step
def first_step(*arguments, **named):
    step(*arguments, **named)
    os._exit(0)
Session.train_step = first_step
"""

TRAIN = ("--train.batch-size", "8", "--train.track", "none")


def programs(images: Path, out: Path) -> dict[str, str]:
    """What is measured: names, and Python code."""
    digits = ["train", "digits", *TRAIN, "--out", str(out / "digits")]
    folder = ["train", "folder", *TRAIN, "--data.root", str(images), "--out", str(out / "folder")]
    listed = ["--help", "recipes", "data list", "study list", "models", "plan ViT-B/16"]
    return {
        "`import torch, timm`": "import torch, timm",
        **{f"`vitral {words}`": COMMAND.format(words=words.split()) for words in listed},
        "`vitral train digits` to the first step": FIRST_STEP + COMMAND.format(words=digits),
        "`vitral train folder` to the first step": FIRST_STEP + COMMAND.format(words=folder),
    }


def make_images(folder: Path) -> None:
    """A folder of two classes of 20 photograph-sized JPEGs."""
    random = np.random.default_rng(0)
    for label in ("left", "right"):
        (folder / label).mkdir(parents=True)
        for index in range(20):
            pixels = random.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((640, 480)).save(folder / label / f"{index}.jpg")


def seconds(code: str, source: Path) -> tuple[float, float]:
    """Processor time and time by the clock of code in a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        clock = time.perf_counter() - began
        if status:
            output.seek(0)
            raise SystemExit(output.read().decode())
    return usage.ru_utime + usage.ru_stime, clock


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of commands before their work begins.")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--source", type=Path, nargs="*", default=[], help="more source trees to compare")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        make_images(Path(temporary, "images"))
        results: dict[tuple[str, Path], list[tuple[float, float]]] = {}
        for turn in range(options.rounds + 1):
            for number, source in enumerate((OWN, *options.source)):
                out = Path(temporary, f"{turn}-{number}")
                for name, code in programs(Path(temporary, "images"), out).items():
                    measured = seconds(code, source)
                    if turn:  # the first turn compiles sources
                        results.setdefault((name, source), []).append(measured)
    sources = (OWN, *options.source)
    heads = [f"{kind} ({source})" for source in sources for kind in ("processor, s", "clock, s", "ratio")]
    print(f"{os.cpu_count()} cores, medians of {options.rounds} rounds\n")
    print("| " + " | ".join(["", *heads]) + " |\n|---" + "|--:" * len(heads) + "|")
    first = next(iter(results))[0]
    for name in dict.fromkeys(name for name, _ in results):
        cells = []
        for source in sources:
            (cpu, clock), (base, _) = (
                [statistics.median(column) for column in zip(*results[each, source], strict=True)]
                for each in (name, first)
            )
            cells += [f"{cpu:.2f}", f"{clock:.2f}", f"{cpu / base:.2f}"]
        print("| " + " | ".join([name, *cells]) + " |")


if __name__ == "__main__":
    main()
