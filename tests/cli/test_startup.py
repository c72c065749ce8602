"""Commands that only print text, and mistyped names and paths, are answered without importing heavy libraries."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from processes import SOURCES
from vitral.cli import COMMANDS, main
from vitral.commands.arguments.formats import FOLDER_FORMATS, FORMATS
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.upstream_config import CONFIG_FILES

HEAVY = (
    *("torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib", "PIL", "einops", "jaxtyping", "pandas"),
    *("pydantic", "tyro", "transformers", "datasets", "timm", "safetensors", "huggingface_hub", "optuna", "simplejpeg"),
)

TRAINING = (
    *("torch._dynamo", "torch._inductor", "torch.distributed.fsdp", "torch.distributed.tensor", "networkx"),
    *("torchvision", "scipy", "sklearn", "matplotlib", "tensorboard", "huggingface_hub", "vitral.train"),
)
"""Compilers, sharding, statistics, pictures, the Hub: each takes a good part of a second to import, or several."""

PROBE = """
import json, resource, sys
from vitral.cli import main
code = 0
try:
    main(json.loads(sys.argv[1]))
except SystemExit as stop:
    code = stop.code
usage = resource.getrusage(resource.RUSAGE_SELF)
heavy = sorted(set(json.loads(sys.argv[2])) & set(sys.modules))
print("\\n" + json.dumps({"code": code, "heavy": heavy, "seconds": usage.ru_utime + usage.ru_stime}))
"""

NEAR_MISSES = [
    ("trian digits", "train"),
    ("train digts", "digits"),
    ("sweep fashion-mnits --out s --grid optim.lr=1", "fashion-mnist"),
    ("eval run --suite lineer", "linear"),
    ("data chek photos", "check"),
    ("convert a.npz b --to tim", "timm"),
    ("push run a/b --as transformer", "transformers"),
    ("plan ViT-B/16 --device h10", "h100"),
    ("plan ViT-B/16 --data imagenet", "imagenet1k"),
]


def probe(*arguments: str, cwd: Path, heavy: Sequence[str] = HEAVY) -> tuple[dict, str]:
    """Exit code, heavy modules and CPU-seconds of `vitral ARGUMENTS` in a fresh interpreter, and its standard error."""
    words = [sys.executable, "-c", PROBE, json.dumps(arguments), json.dumps(heavy)]
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    result = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def assert_quick(seconds: float) -> None:
    """Less than a second of processor time; on a slow machine, less than ten imports of NumPy take there."""
    if seconds < 1:
        return
    words = [sys.executable, "-c", "import numpy, time; print(time.process_time())"]
    numpy = float(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    assert seconds < 10 * numpy


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "recipes",
        "recipes --json",
        "data list",
        "data list pets",
        "study list",
        "train --help",
        "eval --help",
        "sweep --help",
        "data --help",
    ],
)
def test_text_needs_no_heavy_library(words: str, tmp_path: Path) -> None:
    result, _ = probe(*words.split(), cwd=tmp_path)
    assert_quick(result.pop("seconds"))
    assert result == {"code": 0, "heavy": []}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("train", "eval", "sweep", "data")])
def test_help_of_a_command_needs_no_heavy_library(command: str, tmp_path: Path) -> None:
    result, _ = probe(command, "--help", cwd=tmp_path)
    assert_quick(result.pop("seconds"))
    assert result == {"code": 0, "heavy": []}


@pytest.mark.parametrize(
    "words",
    [
        *("report nope", "compare nope no", "eval nope", "predict nope a.jpg", "inspect nope", "push nope a/b"),
        *("convert nope b --to timm", "train --resume nope", "train finetune --model.weights nope"),
    ],
)
def test_a_wrong_path_needs_no_heavy_library(words: str, tmp_path: Path) -> None:
    result, errors = probe(*words.split(), cwd=tmp_path)
    assert_quick(result.pop("seconds"))
    assert result == {"code": 2, "heavy": []}
    assert errors.startswith("vitral: nope ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("action", ["check nope", "pack nope packed", "near nope"])
def test_data_that_does_not_exist_needs_no_pytorch(action: str, tmp_path: Path) -> None:
    result, errors = probe("data", *action.split(), cwd=tmp_path)
    assert result["code"] == 2
    assert_quick(result["seconds"])
    assert not {"torch", "matplotlib", "datasets", "tyro"} & set(result["heavy"])
    assert errors.startswith("vitral: nope does not exist")


@pytest.mark.parametrize("words", ["models ViT-Ti/16", "models BiT-R50x1", "models --pretrained"])
def test_listing_models_imports_nothing_that_trains(words: str, tmp_path: Path) -> None:
    result, _ = probe(*words.split(), cwd=tmp_path, heavy=TRAINING)
    assert (result["code"], result["heavy"]) == (0, [])


@pytest.mark.parametrize(
    "words",
    [
        "train digits --train.steps 1 --train.batch-size 8 --data.limit 64 --train.track none --out run",
        "plan ViT-S/16",
        "plan digits",
    ],
)
def test_a_cpu_needs_neither_compiler_nor_hub(words: str, tmp_path: Path) -> None:
    """PyTorch's optimisers and fake tensors would import the compiler, for as long as `import torch` takes."""
    heavy = ("torch._dynamo", "torch._inductor", "torchvision", "huggingface_hub")
    result, _ = probe(*words.split(), cwd=tmp_path, heavy=heavy)
    assert (result["code"], result["heavy"]) == (0, [])


@pytest.mark.parametrize(("words", "name"), NEAR_MISSES)
def test_a_typo_is_answered_with_the_closest_name(words: str, name: str, tmp_path: Path) -> None:
    result, errors = probe(*words.split(), cwd=tmp_path)
    assert_quick(result.pop("seconds"))
    assert result == {"code": 2, "heavy": []}
    assert f"(did you mean {name}?)" in errors
    assert errors.count("did you mean") == errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "name"),
    [("models vit-b/16s", "ViT-B/16"), ("plan R50+ViT-B/16x", "R50+ViT-B/16"), ("data list cifar", "cifar10")],
)
def test_a_typo_in_a_registry_is_answered_with_the_closest_name(
    words: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert f"(did you mean {name}?)" in capsys.readouterr().err


def test_a_name_that_resembles_none_gets_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["xyzzy"])
    error = capsys.readouterr().err
    assert "did you mean" not in error
    assert all(command in error for command in COMMANDS)


def test_formats_are_those_of_the_registries() -> None:
    assert ("vitral", *LINEAGES) == FORMATS
    assert ("vitral", *CONFIG_FILES) == FOLDER_FORMATS


# errors


def test_a_value_error_of_our_own_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("vitral.commands.recipes.main", fails)
    with pytest.raises(ValueError, match="a bug"):
        main(["recipes"])


def test_a_process_with_a_bug_exits_with_1(tmp_path: Path) -> None:
    code = """
import vitral.commands.recipes, vitral.cli
def fails(options):
    raise ValueError("a bug")
vitral.commands.recipes.main = fails
vitral.cli.main(["recipes"])
"""
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("ValueError: a bug\n")


def test_the_traceback_of_a_users_error_is_printed_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "VITRAL_TRACEBACK=1" in capsys.readouterr().out
    monkeypatch.setenv("VITRAL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="nope is not a training run"):
        main(["report", "nope"])
