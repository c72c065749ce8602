"""`--help` of a recipe is short, and names `--help-all`, which lists every flag."""

import re
from pathlib import Path

import pytest

from vitral.cli import main
from vitral.commands.arguments.recipe_help import KEYS, OWN_OPTIONS, list_flags, recipe_help
from vitral.recipes import RECIPES


def helped(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command prints; it exits with 0, and nothing goes to standard error."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    output, errors = capsys.readouterr()
    assert (ended.value.code, errors) == (0, "")
    return output


@pytest.mark.parametrize("command", ["train", "sweep", "plan"])
@pytest.mark.parametrize("recipe", ["folder", "finetune", "dino"])
def test_help_is_a_dozen_flags_and_two_examples(
    command: str, recipe: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = helped(capsys, command, recipe, "--help")
    described = re.findall(r"^--\S+", text, re.MULTILINE)
    assert 12 <= len(described) <= 17
    assert len(set(described)) == len(described)
    assert len(text.splitlines()) < 60
    assert len(re.findall(rf"^  vitral {command} {recipe} ", text, re.MULTILINE)) == 2
    count = len(list_flags(RECIPES[recipe](None) if recipe == "finetune" else RECIPES[recipe]()))
    assert f"all {count} flags: vitral {command} {recipe} --help-all" in text


@pytest.mark.parametrize("command", ["train", "sweep", "plan"])
def test_help_all_lists_every_flag_in_groups(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = helped(capsys, command, "digits", "--help-all")
    assert f"usage: vitral {command} digits" in text
    for group in ("model options", "data options", "optim options", "train options"):
        assert group in text
    assert all(name in text for flag in list_flags(RECIPES["digits"]()) for name in flag.names)


def test_flags_have_names_help_and_choices() -> None:
    config = RECIPES["digits"]()
    flags = {flag.names[0]: flag for flag in list_flags(config)}
    assert set(KEYS) <= set(flags)
    assert flags["--model.position"].choices[:2] == ["none", "learned_1d"]  # on two lines of tyro's help
    assert flags["--augment.flip"].names == ["--augment.flip", "--augment.no-flip"]
    assert flags["--seed"].form == "--seed INT"
    assert flags["--seed"].help.endswith("dropout. (default: 0)")
    assert flags["--data.source"].help.endswith(f"(default: {config.data.source})")  # several paragraphs
    assert all(flag.help for flag in flags.values())


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_help_fits_the_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = recipe_help(RECIPES["digits"](), command="train", name="digits")
    text = text.partition("\n\n")[2].partition("examples:")[0]  # without lines to type
    assert max(map(len, text.splitlines())) <= min(int(columns), 100)


def test_own_options_of_commands_are_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    for command, options in OWN_OPTIONS.items():
        text = helped(capsys, command, "--help")
        for form in options:
            assert form.split()[0] in text, f"vitral {command} --help does not name {form}"


def test_help_of_a_run_that_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr("vitral.commands.train.read_run_config", lambda _: RECIPES["digits"]())
    text = helped(capsys, "train", "--resume", str(tmp_path), "--help")
    assert "--train.batch-size" in text
    assert "vitral train --resume RUN --help-all" in text
