"""Damages the files of a run one by one, and uses the run all the same."""

import random
import shutil
from pathlib import Path

from chaos.kills import Outcome, wait
from forks import start

__all__ = ["DAMAGE", "USES", "damage", "use_damaged"]

USES = {
    "predict": ("predict", "run", "photographs/{image}", "--json"),
    "eval": ("eval", "run"),
    "report": ("report", "run"),
    "compare": ("compare", "run", "run"),
    "export": ("export", "run", "model.onnx"),
    "resume": ("train", "--resume", "run"),
}
"""Commands that read a run's folder."""
DAMAGE = ("empty", "cut", "flipped", "other", "missing", "folder")
SAME = ("predict", "export")
"""Commands that must refuse weights with a flipped bit."""


def damage(path: Path, kind: str, prng: random.Random) -> None:
    """Damages a file in one of the ways of `DAMAGE`."""
    content = path.read_bytes()
    at = prng.randrange(len(content)) if content else 0
    path.unlink()
    match kind:
        case "empty":
            path.touch()
        case "cut":
            path.write_bytes(content[:at])
        case "flipped":
            flipped = bytes(byte ^ 1 << prng.randrange(8) for byte in content[at : at + 1])
            path.write_bytes(content[:at] + flipped + content[at + 1 :])
        case "other":
            path.write_bytes(prng.randbytes(64))
        case "folder":
            path.mkdir()


def use_damaged(reference: Path, folder: Path, *, seed: int) -> tuple[str, Outcome]:
    """Copies a run, damages one file, and uses the copy in one way.

    Args:
        reference: a folder with a finished `run` and with `photographs`.
        folder: an empty folder.
        seed: of the file, the damage and the use.

    Returns:
        What was done, in words, and what came of it.
    """
    prng = random.Random(seed)
    shutil.copytree(reference, folder, dirs_exist_ok=True)
    files = sorted(path for path in (folder / "run").rglob("*") if path.is_file())
    victim, kind, use = prng.choice(files), prng.choice(DAMAGE), prng.choice(list(USES))
    damage(victim, kind, prng)
    image = next(path.relative_to(folder / "photographs") for path in (folder / "photographs").rglob("*.*"))
    process = start(*(word.format(image=image) for word in USES[use]), cwd=folder)
    outcome = Outcome(scenario=use)
    wait([process], outcome)
    if process.returncode not in (0, 1, 2) and not outcome.problems:
        outcome.problems.append(f"exit status {process.returncode}")
    weights = victim == folder / "run" / "model.safetensors"
    if weights and kind != "missing" and use in SAME and process.returncode != 2:
        outcome.problems.append("damaged weights were taken")
    return f"{use} with {victim.relative_to(folder)} {kind}", outcome
