"""The completion scripts, run by the shells they are for."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from vitral.cli import COMMANDS, main
from vitral.commands.completion.command import bash_place, fish_place, zsh_place
from vitral.commands.completion.scripts import completion_script
from vitral.commands.completion.words import Words, collect_words
from vitral.recipes import RECIPES

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vitral; printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { }; source "$1"; shift
_vitral_candidates $(($# - 1)) "$@[-2]" "$@[-1]" "$2" "$3"
"""
FISH = "source $argv[1]; complete -C (string join ' ' -- $argv[2..])"

TYPED = [
    (["vitral", "tr"], {"train"}),
    (["vitral", "train", "fold"], {"folder"}),
    (["vitral", "sweep", "paper-p"], {"paper-pets"}),
    (["vitral", "train", "folder", "--data.roo"], {"--data.root"}),
    (["vitral", "train", "folder", "--minu"], {"--minutes"}),
    (["vitral", "train", "dino", "--objective.crops.num-l"], {"--objective.crops.num-local"}),
    (["vitral", "train", "folder", "--train.precision", "bf"], {"bfloat16"}),
    (["vitral", "plan", "ViT-B/1"], {"ViT-B/16"}),
    (["vitral", "plan", "folder", "--device", "h1"], {"h100"}),
    (["vitral", "predict", "run", "--device", "cud"], {"cuda"}),
    (["vitral", "data", "nea"], {"near"}),
    (["vitral", "data", "near", "photos", "--thres"], {"--threshold"}),
    (["vitral", "eval", "run", "--suite", "kn"], {"knn"}),
    (["vitral", "convert", "a.npz", "b", "--to", "tor"], {"torchvision"}),
]
"""Words as typed, the last one unfinished, and what it becomes."""


@pytest.fixture(scope="module")
def words() -> Words:
    return collect_words(COMMANDS)


@pytest.fixture(scope="module")
def folder(words: Words, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of all shells, by the shell's name, and files to complete."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        (folder / shell).write_text(completion_script(words, shell))
    (folder / "picture.jpg").touch()
    return folder


def printed(shell: str, code: str, folder: Path, typed: list[str]) -> set[str]:
    """The lines that code of a shell prints, called with its script and the words as typed."""
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}: apt-get install {shell}")
    zeroth = [] if shell == "fish" else [shell]
    command = [shell, "-c", code, *zeroth, str(folder / shell), *typed]
    environment = os.environ | {"HOME": str(folder)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return set(run.stdout.split())


@pytest.mark.parametrize(("typed", "completed"), TYPED, ids=lambda words: " ".join(words))
def test_bash_completes(typed: list[str], completed: set[str], folder: Path) -> None:
    assert printed("bash", BASH, folder, typed) == completed


@pytest.mark.parametrize(("typed", "completed"), TYPED, ids=lambda words: " ".join(words))
def test_zsh_has_candidates(typed: list[str], completed: set[str], folder: Path) -> None:
    assert completed <= printed("zsh", ZSH, folder, typed)


@pytest.mark.parametrize(("typed", "completed"), TYPED, ids=lambda words: " ".join(words))
def test_fish_completes(typed: list[str], completed: set[str], folder: Path) -> None:
    assert completed <= printed("fish", FISH, folder, typed)


def test_bash_leaves_paths_to_readline(folder: Path) -> None:
    assert printed("bash", BASH, folder, ["vitral", "predict", "pictu"]) == set()
    assert printed("bash", BASH, folder, ["vitral", "train", "folder", "--data.root", "pictu"]) == set()
    registered = printed("bash", 'source "$1"; complete -p vitral', folder, [])
    assert {"bashdefault", "default", "_vitral"} <= registered


def test_fish_completes_paths(folder: Path) -> None:
    assert "picture.jpg" in printed("fish", FISH, folder, ["vitral", "predict", "pictu"])


def test_every_command_and_recipe_is_there(words: Words) -> None:
    assert set(words.commands) == set(COMMANDS)
    assert set(words.first["train"]) == set(RECIPES)
    for name in RECIPES:
        assert "--optim.lr" in words.flags[f"train/{name}"]
    for name in COMMANDS:
        assert "--help" in words.flags[f"{name}/"]


def test_install_says_where(
    words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BASH_COMPLETION_USER_DIR", str(tmp_path / "new" / "folder"))
    monkeypatch.setattr("vitral.commands.completion.command.collect_words", lambda _: words)
    main(["completion", "bash", "--install"])
    path = tmp_path / "new" / "folder" / "completions" / "vitral"
    assert f"wrote {path}; " in capsys.readouterr().out
    main(["completion", "bash"])
    assert capsys.readouterr().out == path.read_text()


def test_places_of_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("vitral.commands.completion.command.BASH_COMPLETION", ())
    path, advice = bash_place()
    assert path == tmp_path / "data/bash-completion/completions/vitral"
    assert f"source {path}" in advice
    assert fish_place()[0] == tmp_path / "config/fish/completions/vitral.fish"
    monkeypatch.setenv("PATH", str(tmp_path))  # no zsh
    path, advice = zsh_place()
    assert path == tmp_path / "data/zsh/site-functions/_vitral"
    assert f"fpath=({path.parent} $fpath)" in advice


@pytest.mark.parametrize("words", [["completion"], ["completion", "tcsh"]])
def test_a_wrong_shell_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "vitral completion --help" in errors
