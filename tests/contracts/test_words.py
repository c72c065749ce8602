"""Nothing has a name that only this project would understand: the field has words for the same things."""

import re
from pathlib import Path

from contracts.project import ROOT, tracked_files

WORDS = (
    *("judge", "judged", "judge_all", "judged_by", "judgements?", "Judgements?"),
    *("examine", "examined", "Examination", "_told", "told", "telling", "_probed"),
    *("represented", "Representations", "Findings", "KNOWN", "SHOWN", "ALONE"),
    *(r"\.leads", "by_leader", "agreed", "whole_state", "Spots", r"telling_of_\w+", "doctor", "--known"),
)
"""Words that nothing else needs."""
PRIVATE = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(WORDS)})(?![A-Za-z])")

NAMES = ("Measured", "Place", "chance", "asked", "owners", "share", "shares", "scattered")
"""English words that sentences may use, but no class, function or variable."""
NAME = rf"(?:{'|'.join(NAMES)})"
DEFINITION = re.compile(rf"^ *(?:(?:class|def) {NAME}\b|{NAME}(?:, \w+)*(?:: .+)? = )", re.MULTILINE)


def private_words(path: Path) -> list[str]:
    """Those of a file, each with its line."""
    text = path.read_text()
    matches = [*PRIVATE.finditer(text), *(DEFINITION.finditer(text) if path.suffix == ".py" else ())]
    name = path.relative_to(ROOT)
    lines = [1 + text.count("\n", 0, match.start()) for match in matches]
    return [f"{name}:{line}: {match[0].strip()}" for line, match in zip(lines, matches, strict=True)]


def test_no_file_uses_a_private_word() -> None:
    read = {".py", ".md", ".js", ".html", ".toml", ".yml"}
    exempt = {"CHANGELOG.md", "test_words.py"}
    files = [path for path in tracked_files() if path.suffix in read and path.name not in exempt]
    assert not [word for path in files for word in private_words(path)]
