"""What README.md, CONTRIBUTING.md and docs/ say of the tree, the commands and the make words is so."""

import json
import re
import shlex
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from contracts.project import PACKAGE, ROOT, required_text, tracked_files
from forks import start
from vitral.cli import main
from vitral.recipes import RECIPES

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
UNLISTED = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
OPERATORS = {"|", "||", "&&", ";", "&", ">", ">>", "<"}


def documents() -> list[Path]:
    """Everything for users that is written in Markdown."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def typed_lines(text: str) -> Iterator[str]:
    """Lines for a shell: those of ```bash blocks, and those after `$ ` in ```console blocks."""
    for language, block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if language in ("bash", "sh"):
                yield line
            elif language == "console" and line.startswith("$ "):
                yield line.removeprefix("$ ")


def commands(text: str) -> Iterator[list[str]]:
    """Words of every simple command that a document tells its reader to type."""
    for line in typed_lines(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in lexer:
            if word in OPERATORS:
                yield command
                command = []
            else:
                command.append(word)
        yield command


def is_run(before: list[str]) -> bool:
    """Whether the word after these is a program: the first but for variables, or a module to run."""
    return before[-1:] == ["-m"] or all(re.match(r"\w+=", word) for word in before)


def documented(program: str) -> list[tuple[str, tuple[str, ...]]]:
    """File name and arguments of every documented command of `program`, each once."""
    found = {}
    for path in documents():
        for words in commands(path.read_text()) if path.is_file() else ():
            names = [Path(word).name for word in words]
            starts = [index for index, name in enumerate(names) if name == program and is_run(words[:index])]
            if starts:
                found[path.relative_to(ROOT).as_posix(), tuple(words[starts[0] + 1 :])] = None
    return list(found)


def tree_entries() -> dict[str, bool]:
    """Paths that README's tree lists under src/vitral, and whether each is a folder."""
    blocks = [block for _, block in FENCE.findall(required_text("README.md")) if block.startswith("src/vitral/")]
    assert len(blocks) == 1, "README.md needs one code block that begins with src/vitral/"
    entries, parents = {}, []
    for line in blocks[0].splitlines()[1:]:
        match = re.fullmatch(r"( +)(\w+(?=/)|\w+\.py)(/?)\s+(\S.*)", line)
        if match is None:
            if line.strip() and not line.startswith(" "):
                break  # another folder of the root
            continue  # a description that goes on
        indent, name, slash, _ = match.groups()
        parents = [(depth, parent) for depth, parent in parents if depth < len(indent)]
        path = "/".join([*(parent for _, parent in parents), name])
        entries[path] = bool(slash)
        if slash:
            parents.append((len(indent), name))
    return entries


def on_disk(folder: Path) -> set[str]:
    """Modules and packages of a folder."""
    return {
        path.name
        for path in folder.iterdir()
        if path.name not in UNLISTED and (path.is_file() or any(path.rglob("*.py")))
    }


def test_readme_tree_is_the_tree_on_disk() -> None:
    entries = tree_entries()
    for path, is_folder in entries.items():
        there = (PACKAGE / path).is_dir() if is_folder else (PACKAGE / path).is_file()
        assert there, f"README.md lists src/vitral/{path}, which is not there"
    # a folder is listed whole or not at all
    for folder in {"", *(path.rpartition("/")[0] for path in entries)}:
        listed = {path.rpartition("/")[2] for path in entries if path.rpartition("/")[0] == folder}
        unlisted = on_disk(PACKAGE / folder) - listed
        assert not unlisted, f"README.md's tree leaves out {sorted(unlisted)} of src/vitral/{folder}"


def subcommands() -> set[str]:
    """The words that `vitral` knows."""
    from vitral.cli import COMMANDS

    return set(COMMANDS)


@cache
def help_text(*words: str) -> str:
    """What `vitral WORDS --help` prints, or of a recipe `--help-all`."""
    flag = "--help-all" if words[1:] else "--help"
    with tempfile.TemporaryDirectory() as folder:
        process = start(*words, flag, cwd=Path(folder))
        errors = process.ended()
        assert process.returncode == 0, f"vitral {' '.join(words)} {flag} fails: {errors}"
        return process.output.read_text()


def help_for(arguments: tuple[str, ...]) -> str:
    """Help that names the flags of a command line; the flags of `train` and `sweep` are those of their recipe."""
    command, first = arguments[0], arguments[1] if len(arguments) > 1 else "-"
    if command not in ("train", "sweep"):
        return help_text(command)
    # a resumed run needs no recipe, and shares its flags with all of them
    recipe = "digits" if first.startswith("-") or first.isupper() else first
    return help_text(command) + help_text("train", recipe)


def test_readme_shows_commands() -> None:
    assert required_text("README.md")
    assert [arguments for name, arguments in documented("vitral") if name == "README.md"], "README.md runs no vitral"
    assert [arguments for name, arguments in documented("make") if name == "README.md"], "README.md names no make word"


@pytest.mark.parametrize(("document", "arguments"), documented("vitral"))
def test_documented_command_exists(document: str, arguments: tuple[str, ...]) -> None:
    flags = {word.split("=")[0] for word in arguments if word.startswith("--") and word not in ("--", "--help")}
    if not arguments or arguments[0].startswith("-"):
        assert flags <= {"--version"}, f"{document}: vitral has no {flags}"
        return
    assert arguments[0] in subcommands(), f"{document}: there is no vitral {arguments[0]}"
    text = help_for(arguments)
    unknown = [flag for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w.-])", text)]
    assert not unknown, f"{document}: vitral {' '.join(arguments)} takes no {unknown}"


@pytest.mark.parametrize(("document", "arguments"), documented("make"))
def test_documented_make_word_exists(document: str, arguments: tuple[str, ...]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", required_text("Makefile"), re.MULTILINE))
    words = {word for word in arguments if "=" not in word and not word.startswith("-")}
    assert words <= targets, f"{document}: the Makefile has no {sorted(words - targets)}"


def test_commands_are_found_in_documents() -> None:
    text = (
        "```console\n$ A=1 vitral train digits \\\n    --seed 7 | tee log  # why\nnoise\n```\n```bash\nmake test\n```\n"
    )
    assert [command for command in commands(text) if command] == [
        ["A=1", "vitral", "train", "digits", "--seed", "7"],
        ["tee", "log"],
        ["make", "test"],
    ]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_and_pictures_are_there(path: Path) -> None:
    text = FENCE.sub("", path.read_text())
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        file = (path.parent / target).resolve()
        assert file.exists(), f"{path.name} points to {target}, which is not there"
        assert file in tracked_files() or file.is_dir(), f"{path.name} points to {target}, which git does not track"
    assert not re.search(r"\[[A-Z]{3,}\](?!\()|\bTODO\b", text), f"{path.name} has an unfinished place"


HOURS = {"seconds": 1 / 3600, "minutes": 1 / 60, "hours": 1.0, "days": 24.0}
ESTIMATE = re.compile(r"([\d.]+) (seconds|minutes|hours|days) of an H100[^`]*`vitral plan ([^`]+)`")


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_recipes_say_what_to_expect(recipe: str) -> None:
    """A command, a figure with its spread or that there is none, hardware and time, and the source of all that."""
    facts = RECIPES[recipe].describe()
    assert facts["command"].startswith(f"vitral train {recipe}")
    assert "TODO" not in "".join(facts.values())
    spread = ("±", "no spread", "one run", "over seeds", "no table of the paper", "0.2 to 0.6 points")
    assert any(words in facts["expect"] for words in spread), facts["expect"]
    assert re.search(r"\d.*(H100|TPU|Xeon|EPYC)", facts["time"]), facts["time"]
    assert re.search(r"arXiv \d{4}\.\d{5}|measured here", facts["source"]), facts["source"]
    for path in re.findall(r"benchmarks/\S+\.md", facts["source"]):
        assert (ROOT / path).is_file(), path


def test_estimates_of_recipes_are_those_of_plan(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitral.commands.plan.footprints", lambda *_: [])  # memory, which takes longer than all else
    times = [recipe.describe()["time"] for recipe in RECIPES.values()]
    estimates = {estimate for time in times for estimate in ESTIMATE.findall(time)}
    assert sum(len(ESTIMATE.findall(time)) for time in times) == sum(time.count("vitral plan") for time in times) > 20
    for amount, unit, words in estimates:
        main(["plan", *words.split(), "--json"])
        hours = json.loads(capsys.readouterr().out)["hours"]
        assert float(amount) * HOURS[unit] == pytest.approx(hours, rel=0.03), f"{words}: {hours} hours"
