"""`vitral study NAME`: repeats a table or figure of the paper, or plans to."""

import argparse
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from vitral.commands.models import gigabytes
from vitral.commands.output import note, print_json, print_table, printable
from vitral.commands.plan import rounded
from vitral.commands.plan_text import duration
from vitral.datasets.registry import DATA_SETS, TASKS
from vitral.errors import UserError
from vitral.studies.picture import draw_study
from vitral.studies.planning import StudyPlan, plan_study
from vitral.studies.registry import load_study
from vitral.studies.results import StudyResult, collect, write_results
from vitral.studies.runner import run_arms
from vitral.studies.study import Arm, Study
from vitral.train.config import RunConfig
from vitral.train.interrupts import Interrupted
from vitral.train.resource_errors import NotEnoughMemory

__all__ = ["main"]


def main(options: argparse.Namespace) -> None:
    """Runs or plans a study."""
    study: Study = load_study(options.name)
    arms = changed(study.arms_of(options.size), options)
    if options.action == "plan":
        plan = plan_study(study, arms, seeds=options.seeds, folder=options.out, jobs=options.jobs, size=options.size)
        print_json(plan.as_dict()) if options.json else print_plan(plan)
        return
    folder = options.out / f"{study.name}-{options.size}"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}, the folder of the results, is a file: move it, or choose another --out")
    try:
        runs = run_arms(
            arms, metrics=study.metrics, seeds=options.seeds, folder=options.out, jobs=options.jobs, log=note
        )
    except Interrupted as stop:
        note(f"{stop}; the same command resumes the study")
        raise SystemExit(128 + stop.signum) from None
    except NotEnoughMemory as error:
        raise UserError(f"{error.problem}: {memory_fix(options)}") from error
    result = collect(study, options.size, seeds=options.seeds, arms=arms, runs=runs)
    write_results(result, folder)
    draw_study(result, folder)
    if options.json:
        print_json({"folder": str(folder), **result.as_dict()})
    else:
        print_result(result)
        print(printable(f"results and figure are in {folder}"))


def memory_fix(options: argparse.Namespace) -> str:
    """What helps a study that does not fit into memory; its batches are those of the paper or of the study."""
    flags = ["a smaller --size"] * (options.size != "mini") + ["--jobs 1"] * (options.jobs > 1)
    return f"choose {' or '.join(flags)}, or use a machine with more" if flags else "use a machine with more"


def changed(arms: list[Arm], options: argparse.Namespace) -> list[Arm]:
    """The arms with `--steps` and `--data-root`, which also apply to the runs that they start from."""

    def change(run: RunConfig) -> RunConfig:
        if options.steps is not None:
            run = replace(run, train=replace(run.train, steps=options.steps))
        if options.data_root is not None and not brings_images(run.data.source):
            run = replace(run, data=replace(run.data, root=options.data_root))
        return run

    return [replace(arm, config=change(arm.config), start=arm.start and change(arm.start)) for arm in arms]


def brings_images(source: str) -> bool:
    """Whether a data set or task comes with its images, as digits do."""
    task = TASKS.get(source)
    entry = DATA_SETS.get(source) or (task and task.data)
    return entry is not None and not entry.files


def print_plan(plan: StudyPlan) -> None:
    """Prints the plan with its assumptions."""
    table = Table(show_header=False, box=None, title=f"{plan.study}, size {plan.size}", title_justify="left")
    done = f", {plan.finished} of them finished" if plan.finished else ""
    table.add_row("runs", f"{plan.runs} ({plan.arms} settings, {plan.seeds} seeds){done}")
    table.add_row("data", plan.data)
    table.add_row("images", f"{plan.images:,}, counted once per epoch")
    table.add_row("operations", f"{rounded(plan.exaflops)} exaFLOPs")
    table.add_row("time", f"{duration(plan.hours)} of {plan.machine}")
    table.add_row("memory", f"{gigabytes(plan.memory)} for the largest run")
    Console(highlight=False).print(table)


def print_result(result: StudyResult) -> None:
    """Prints the table, what the paper found, and each finding with its verdict."""
    study = result.study
    title = f"{study.title} ({study.source}), size {result.size}"
    print_table(title, result.bar_rows() or result.rows())
    print(f"The paper found: {study.sentence}")
    for outcome in result.outcomes:
        print(f"{outcome.verdict}: {outcome.claim}: {outcome.detail}")
    if study.note:
        print(study.note)
