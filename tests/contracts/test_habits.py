"""The forms that a code host reads are valid, and its CI runs the same commands as everyone else."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import vitral
from contracts.project import ROOT, required_text

COMMANDS = ["make check", "make test", "make test-slow"]
WORKFLOW = ".github/workflows/ci.yml"
ISSUE_FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
INPUTS = {"checkboxes", "dropdown", "input", "textarea"}


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load(required_text(name))


def workflow_commands() -> list[str]:
    """Every shell line of the workflow."""
    steps = [step for job in load(WORKFLOW)["jobs"].values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def test_workflow_and_script_run_the_same_commands() -> None:
    script = required_text(".ci/run").splitlines()
    assert [line for line in script if line.startswith("make ")] == COMMANDS
    assert [line for line in workflow_commands() if line.startswith("make ")] == COMMANDS


def test_workflow_and_script_install_what_the_tests_need() -> None:
    """GitHub's runners have Google Chrome and npm."""
    in_workflow = re.findall(r"apt-get install (?:--\S+ )*(.+)", "\n".join(workflow_commands()))
    in_script = re.findall(r"packages\+=\((.+)\)", required_text(".ci/run"))
    assert in_workflow == ["dataset-fashion-mnist zsh fish"]
    assert in_script == ["dataset-fashion-mnist", "chromium fonts-liberation", "libseccomp2", "zsh", "fish", "npm"]


def test_the_cpu_build_leaves_out_cuda_and_nothing_else() -> None:
    makefile, lock = required_text("Makefile"), required_text("requirements.lock")
    skipped = re.compile(re.findall(r"^CUDA_PACKAGES = (.+)$", makefile, re.MULTILINE)[0])
    packages = re.findall(r"^\S+==\S+", lock, re.MULTILINE)
    left_out = {package.split("==")[0] for package in packages if skipped.match(package)}
    assert {"torch", "torchvision", "triton"} <= left_out
    others = left_out - {"torch", "torchvision", "triton"}
    assert others
    assert all(name.startswith(("nvidia-", "cuda-")) for name in others)
    assert not [
        package for package in packages if package.startswith(("nvidia", "cuda")) and not skipped.match(package)
    ]


def test_workflow_may_only_read() -> None:
    assert load(WORKFLOW)["permissions"] == {"contents": "read"}


def test_citation_has_the_version_and_the_paper() -> None:
    citation = load("CITATION.cff")
    assert (citation["title"], citation["version"]) == ("Vitral", vitral.__version__)
    (paper,) = citation["references"]
    assert (paper["year"], paper["identifiers"][0]["value"]) == (2021, "arXiv:2010.11929")
    assert len(paper["authors"]) == 12


def test_citation_has_the_licence_of_the_package() -> None:
    assert f'license = "{load("CITATION.cff")["license"]}"' in required_text("pyproject.toml")


@pytest.mark.parametrize("path", ISSUE_FORMS, ids=lambda path: path.stem)
def test_issue_form_is_valid(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    inputs = [element for element in form["body"] if element["type"] != "markdown"]
    assert {element["type"] for element in inputs} <= INPUTS
    assert all(element["attributes"]["label"] for element in inputs)
    assert len({element["id"] for element in inputs}) == len(inputs)


def test_there_are_forms_for_bugs_features_and_pull_requests() -> None:
    assert {"bug", "feature"} <= {path.stem for path in ISSUE_FORMS}
    assert all(command in required_text(".github/pull_request_template.md") for command in COMMANDS)


def test_pre_commit_runs_the_projects_own_ruff() -> None:
    hooks = [hook for repo in load(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert [hook["entry"].split(" --")[0] for hook in hooks] == [".venv/bin/ruff check", ".venv/bin/ruff format"]
