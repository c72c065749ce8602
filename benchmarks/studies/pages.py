"""Writes `docs/results/`: a page for each study whose results lie in this folder, and their index.

    python benchmarks/studies/pages.py

To land a result, copy its folder, such as `studies/axial-mini`, into this one first.
"""

from pathlib import Path

from vitral.files import write_atomically
from vitral.studies.results import StudyResult, as_page, read_results

RESULTS = Path(__file__).parent
PAGES = RESULTS.parents[1] / "docs" / "results"
NOTICE = "<!-- Written by benchmarks/studies/pages.py: change the results, or the study, instead. -->\n\n"


def pages() -> dict[str, str]:
    """The text of every page by file name."""
    results = {path.parent.name: read_results(path.parent) for path in sorted(RESULTS.glob("*/results.json"))}
    texts = {
        f"{name}.md": as_page(result, picture=f"../../benchmarks/studies/{name}/figure.png")
        for name, result in results.items()
    }
    return {name: NOTICE + text for name, text in {"index.md": index(results), **texts}.items()}


def index(results: dict[str, StudyResult]) -> str:
    """A row for each finding."""
    rows = ["| study | size | finding | verdict |", "|---|---|---|---|"]
    for name, result in results.items():
        link = f"[{result.study.title}]({name}.md)"
        rows += [f"| {link} | {result.size} | {outcome.claim} | {outcome.verdict} |" for outcome in result.outcomes]
    introduction = (
        "What the [studies](../studies.md) found, each finding with the verdict of its test. Where a study is not "
        "listed, its results are not in the repository yet: `vitral study NAME` runs it."
    )
    return "\n".join(["# Results", "", introduction, "", *rows, ""])


def main() -> None:
    """Writes all pages and removes those without results."""
    texts = pages()
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in PAGES.glob("*.md"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        write_atomically(PAGES / name, lambda file, text=text: file.write(text.encode()))


if __name__ == "__main__":
    main()
