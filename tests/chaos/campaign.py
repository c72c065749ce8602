"""`make chaos`: kills, damages and starves Vitral for some minutes, and prints a table of what happened.

python -m chaos --minutes 60 --seed 1 --out benchmarks/chaos_MACHINE_DATE.md
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chaos.folders import use_damaged
from chaos.kills import SCENARIOS, kill_and_resume, undisturbed
from chaos.limits import LIMITS, run_limited
from chaos.services import FLAGS, kill_services

__all__ = ["Row", "jobs", "main", "table"]

MEMORY = "500MiB"
"""What decoding may take in an attack: the default, 2 GiB, is for photographs of 100 megapixels."""
BATCH = 4000
"""Damaged files of one process, which starts in four seconds."""
TURNS = ("images", "models", "images", "configurations", "images", "models", "images", "tables", "images", "images")
"""Which kind of file has its turn, again and again."""
PER_ROUND = 6
"""Runs that are killed for each batch of damaged files."""


@dataclass
class Row:
    """A line of the table."""

    tried: int = 0
    kills: int = 0
    survived: int = 0
    tracebacks: int = 0
    hangs: int = 0
    executed: int = 0
    peak_mib: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str, kind: str) -> None:
        """Counts a problem; only tracebacks and hangs have a column of their own."""
        self.problems.append(problem)
        self.tracebacks += kind == "tracebacks"
        self.hangs += kind == "hangs"


def attack(kind: str, seed: int, keep: Path) -> dict[str, Any]:
    """Runs a batch of damaged files in a process of its own; a crash or a hang of that is a finding too."""
    command = [sys.executable, "-m", "chaos.attack", kind, str(seed), str(BATCH)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
            env=os.environ | {"CHAOS_KEEP": str(keep), "VITRAL_MEMORY": MEMORY},
        )
    except subprocess.TimeoutExpired:
        return {"hangs": [f"{kind} {seed}: the whole batch"]}
    if done.returncode:
        return {"tracebacks": [f"{kind} {seed}: exit status {done.returncode}: {done.stderr[-300:]}"]}
    return json.loads(done.stdout.splitlines()[-1])


def task(job: tuple[str, str, int], work: Path) -> tuple[str, Row]:
    """Does one job, and returns the table's line that it belongs to."""
    group, name, seed = job
    row = Row()
    if group == "damaged files":
        report = attack(name, seed, work / "findings")
        row.tried, row.survived = report.get("tried", 0), report.get("read", 0) + report.get("refused", 0)
        row.peak_mib, row.executed = report.get("peak_mib", 0), len(report.get("executed", ()))
        for kind in ("tracebacks", "hangs", "executed", "noise", "memory"):
            for problem in report.get(kind, ()):
                row.add(f"{kind}: {problem}", kind)
        return f"damaged {name}", row
    with TemporaryDirectory(dir=work) as folder:
        row.tried = 1
        if group == "limits":
            problems = run_limited(name, Path(folder))
        elif group == "killed services":
            outcome = kill_services(name, seed=seed, model=work / "reference" / "train" / "run", folder=Path(folder))
            row.kills, problems = outcome.kills, [f"{name} {seed}: {problem}" for problem in outcome.problems]
        elif group == "damaged runs":
            what, outcome = use_damaged(work / "reference" / "train", Path(folder), seed=seed)
            problems = [f"{what}: {problem}" for problem in outcome.problems]
        else:
            outcome = kill_and_resume(name, seed=seed, reference=work / "reference" / name, folder=Path(folder))
            row.kills, problems = outcome.kills, [f"{name} {seed}: {problem}" for problem in outcome.problems]
    row.survived = int(not problems)
    for problem in problems:
        row.add(problem, "hangs" if re.search(r"\bhang\b", problem) else "tracebacks")
    return (group if group == "damaged runs" else f"{group}: {name}"), row


def jobs(seed: int) -> Iterator[tuple[str, str, int]]:
    """What to do next, without an end."""
    prng = random.Random(seed)
    limits, kinds = itertools.cycle(LIMITS), itertools.cycle(TURNS)
    for number in itertools.count(seed * 1_000_000):
        yield "damaged files", next(kinds), number
        for turn in range(PER_ROUND):
            yield "killed", prng.choice(list(SCENARIOS)), number * PER_ROUND + turn
        yield "killed services", prng.choice(list(FLAGS)), number
        yield "damaged runs", "", number
        yield "limits", next(limits), number


def table(rows: dict[str, Row], *, seed: int, minutes: float) -> str:
    """The summary as Markdown."""
    lines = [
        f"Seed {seed}, {minutes:.0f} minutes, {os.cpu_count()} cores.",
        "",
        "| attack | tried | kills | survived | tracebacks | hangs | executed | peak MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in sorted(rows.items()):
        numbers = (row.tried, row.kills, row.survived, row.tracebacks, row.hangs, row.executed, row.peak_mib)
        lines.append(f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    problems = [f"- {name}: {problem}" for name, row in sorted(rows.items()) for problem in row.problems]
    return "\n".join([*lines, *(["", *problems] if problems else [])]) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Attacks until the minutes are over; exits with code 1 if a promise broke."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=None, help="file for the table")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    rows: dict[str, Row] = {}
    started = time.monotonic()
    with TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        undisturbed(SCENARIOS["train"], work / "reference" / "train")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
            waiting, endless = set(), jobs(seed)
            while waiting or time.monotonic() - started < 60 * options.minutes:
                while len(waiting) < options.jobs and time.monotonic() - started < 60 * options.minutes:
                    waiting.add(pool.submit(task, next(endless), work))
                done = next(as_completed(waiting))
                waiting.remove(done)
                name, new = done.result()
                row = rows.setdefault(name, Row())
                for key in ("tried", "kills", "survived", "tracebacks", "hangs", "executed"):
                    setattr(row, key, getattr(row, key) + getattr(new, key))
                row.peak_mib = max(row.peak_mib, new.peak_mib)
                row.problems += new.problems
                for problem in new.problems:
                    print(f"{name}: {problem}", file=sys.stderr, flush=True)
    text = table(rows, seed=seed, minutes=(time.monotonic() - started) / 60)
    print(text)
    if options.out is not None:
        options.out.write_text(text)
    raise SystemExit(1 if any(row.problems for row in rows.values()) else 0)
