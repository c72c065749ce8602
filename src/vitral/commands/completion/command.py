"""`vitral completion`: prints the completion script of a shell, or installs it."""

import argparse
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from vitral.commands.completion.scripts import completion_script
from vitral.commands.completion.words import collect_words
from vitral.files import write_atomically

__all__ = ["main"]

BASH_COMPLETION = tuple(
    Path(prefix) / "share/bash-completion/bash_completion" for prefix in ("/usr", "/usr/local", "/opt/homebrew")
)
"""The package bash-completion, which looks for the scripts of commands; bash alone does not."""

SECONDS = 10.0
"""For zsh to say where it looks."""


def main(options: argparse.Namespace) -> None:
    """Prints the script, or writes it and prints where, and how to use it now."""
    script = completion_script(collect_words(options.commands), options.shell)
    if not options.install:
        print(script, end="")
        return
    path, advice = {"bash": bash_place, "zsh": zsh_place, "fish": fish_place}[options.shell]()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(script.encode()))
    print(f"wrote {path}; {advice}")


def bash_place() -> tuple[Path, str]:
    """Where bash-completion looks for a user's scripts, and what to do next."""
    own = os.environ.get("BASH_COMPLETION_USER_DIR")
    folder = Path(own) if own else data_home() / "bash-completion"
    path = folder / "completions" / "vitral"
    if any(file.is_file() for file in BASH_COMPLETION):
        return path, "start a new shell"
    return path, f"bash-completion is not installed: add this line to ~/.bashrc\n  source {shlex.quote(str(path))}"


def zsh_place() -> tuple[Path, str]:
    """The first folder in which zsh looks for functions and that can be written to, or one to add to them."""
    zsh = shutil.which("zsh")
    if zsh:
        command = [zsh, "-c", "print -l $fpath"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS).stdout
        for folder in map(Path, listed.splitlines()):
            if folder.is_dir() and os.access(folder, os.W_OK) and folder.name == "site-functions":
                return folder / "_vitral", "start a new shell (with compinit in ~/.zshrc)"
    folder = data_home() / "zsh" / "site-functions"
    return (
        folder / "_vitral",
        f"add these lines to ~/.zshrc\n  fpath=({shlex.quote(str(folder))} $fpath)\n  autoload -U compinit && compinit",
    )


def fish_place() -> tuple[Path, str]:
    """Where fish looks for a user's scripts."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "fish" / "completions" / "vitral.fish", "start a new shell"


def data_home() -> Path:
    """The folder of a user's data."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
