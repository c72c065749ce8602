"""Runs a study: trains what is missing, in one process or several, and collects the metrics."""

import multiprocessing
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_process
from pathlib import Path

import torch

from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.studies.runs import PlannedRun, RunResult, plan_runs, train_run
from vitral.studies.study import Arm, as_text
from vitral.train.interrupts import Interrupted, Interrupts

__all__ = ["RUNS", "run_arms", "unique_runs"]

RUNS = "runs"
"""Folder of the runs of all studies, in the folder of the studies."""

POLL_SECONDS = 0.5

Log = Callable[[str], None]


def run_arms(
    arms: Sequence[Arm], *, metrics: Sequence[str], seeds: Sequence[int], folder: Path, jobs: int, log: Log
) -> dict[str, list[RunResult]]:
    """The results of every arm, in the order of the seeds. Finished runs are read, interrupted ones resume.

    Args:
        arms: of a study.
        metrics: to measure.
        seeds: of each arm.
        folder: of the studies; its runs are shared.
        jobs: processes that train at the same time.
        log: called with the progress.

    Raises:
        Interrupted: a signal came; the running runs are saved.
        NotEnoughMemory: a run does not fit into memory; the message names no fix.
        UserError: the data is missing or cannot be read, or a process was killed.
    """
    planned = plan_runs(arms, metrics=tuple(metrics), seeds=seeds, folder=folder / RUNS)
    runs = unique_runs(planned.values())
    waiting = [run for run in runs if run.result() is None]
    if len(waiting) < len(runs):
        log(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished already")
    _check_data(waiting)
    started = time.monotonic()
    execute = _in_turn if jobs == 1 else _in_parallel
    with _run_folder(folder / RUNS):
        for number, (run, result) in enumerate(execute(waiting, jobs), 1):
            left = (time.monotonic() - started) / number * (len(waiting) - number)
            log(f"run {number} of {len(waiting)}: {run.label}: {_summary(result)}{_duration(left)}")
    return {arm.name: [_finished(planned[arm.name, seed]) for seed in seeds] for arm in arms}


def unique_runs(planned: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Every run once, and before the runs that start from its model."""
    planned = list(planned)
    runs = {run.start.key: run.start for run in planned if run.start is not None}
    for run in planned:
        runs[run.key] = run  # an arm has metrics to measure, even where another starts from it
    return list(runs.values())


def _check_data(runs: Sequence[PlannedRun]) -> None:
    """Opens the data of all runs, so that a study without it is refused before its first run.

    Raises:
        UserError: the data is missing or cannot be read.
    """
    stored = [replace(run.config.data, limit=None) for run in runs if run.trains]
    for number, data in enumerate(stored):
        if data not in stored[:number]:
            open_data(data)


@contextmanager
def _run_folder(folder: Path) -> Iterator[None]:
    """Creates the folder of runs, and removes it again if nothing was trained.

    Raises:
        UserError: it cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): give another folder with --out") from None
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def _finished(run: PlannedRun) -> RunResult:
    result = run.result()
    assert result is not None, "a study collects results after its last run"
    return result


def _in_turn(runs: Sequence[PlannedRun], _: int) -> Iterator[tuple[PlannedRun, RunResult]]:
    for run in runs:
        yield run, train_run(run)


def _in_parallel(runs: Sequence[PlannedRun], jobs: int) -> Iterator[tuple[PlannedRun, RunResult]]:
    """As `_in_turn` in several processes; a run waits for the one that it starts from."""
    threads = max((os.cpu_count() or 1) // jobs, 1)
    context = multiprocessing.get_context("spawn")
    keys = {run.key for run in runs}
    after: defaultdict[str | None, list[PlannedRun]] = defaultdict(list)
    for run in runs:
        after[run.start.key if run.start and run.start.key in keys else None].append(run)
    pending: dict[Future[RunResult], PlannedRun] = {}
    with (
        Interrupts() as interrupts,
        ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker, initargs=(threads,)) as pool,
    ):
        try:
            pending.update({pool.submit(train_run, run): run for run in after[None]})
            for future in _as_completed(pending, interrupts):
                run, result = pending.pop(future), future.result()
                pending.update({pool.submit(train_run, next_run): next_run for next_run in after[run.key]})
                yield run, result
        except BrokenProcessPool:
            raise UserError(
                "a process of the study was killed, perhaps for want of memory: run the same command again to resume "
                "it, with fewer --jobs"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _as_completed(pending: Iterable[Future[RunResult]], interrupts: Interrupts) -> Iterator[Future[RunResult]]:
    """Yields what is done, until nothing is pending. A signal goes on to all processes, which save and stop."""
    while futures := list(pending):
        done, _ = wait(futures, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        if interrupts.signum is not None:
            for process in multiprocessing.active_children():
                process.terminate()
            raise Interrupted(interrupts.signum)
        yield from done


def _begin_worker(threads: int) -> None:
    """Prepares a process that trains: its share of the cores, and its end with that of the study."""
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study sends SIGTERM in its place
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait_for_process([parent.sentinel])
        os._exit(1)  # the study was killed: its runs would go on, and lock their folders

    threading.Thread(target=follow, daemon=True).start()


def _summary(result: RunResult) -> str:
    if result.failure:
        return result.failure
    return ", ".join(f"{name} {as_text(name, value)}" for name, value in result.metrics.items()) or "trained"


def _duration(seconds: float) -> str:
    return f" (about {seconds / 60:.0f} minutes left)" if seconds >= 60 else ""
