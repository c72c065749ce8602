"""`vitral sweep`: trains a recipe with many settings and compares them."""

import argparse
import statistics
from contextlib import closing

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vitral.commands.output import note, print_json, printable
from vitral.commands.train import config_from_recipe
from vitral.distributed.world import join_processes
from vitral.sweeps.config import SweepConfig
from vitral.sweeps.results import TrialResult, round_fraction, std
from vitral.sweeps.sweep import Sweep
from vitral.train.duration import parse_timeout
from vitral.train.interrupts import Interrupted

__all__ = ["main", "results_table"]


def main(options: argparse.Namespace) -> None:
    """Runs the sweep and prints its table; with `--json`, one object."""
    config: SweepConfig = options.config
    with (
        join_processes(timeout=parse_timeout(options.timeout)) as world,
        closing(Sweep(options.out, config, config_from_recipe, world)) as sweep,
    ):
        log = note if world.is_main else lambda _: None
        try:
            results = sweep.run(log)
            metrics = sweep.retrain(log) if config.retrain else {}
        except Interrupted as stop:
            log(f"{stop}; the same command resumes the sweep")
            raise SystemExit(128 + stop.signum) from None
        command = sweep.best_command()
    if not world.is_main:
        return
    if options.json:
        rows = [
            {
                "trial": r.number,
                "settings": r.settings,
                "mean": r.mean,
                "std": std(r.values),
                "values": r.values,
                "failure": r.failure,
            }
            for r in results
        ]
        print_json(
            {"sweep": str(options.out), "metric": config.metric, "trials": rows, "best": command, "retrained": metrics}
        )
        return
    print_results(results, config, metrics, command)


def print_results(
    results: list[TrialResult], config: SweepConfig, metrics: dict[str, list[float]], command: str | None
) -> None:
    """Prints the table, why trials failed, the command that trains the best, and the metrics of the final runs."""
    Console(highlight=False).print(results_table(results, config))
    for result in results:
        if result.failure:
            print(printable(f"trial {result.number:03} failed: {result.failure}"))
    if command:
        print(printable(f"command of the best: {command}"))
    if metrics:
        print(f"on all training images, with seeds {', '.join(map(str, config.retrain))}, mean ± standard deviation:")
    for name, values in metrics.items():
        print(f"  {name} {statistics.fmean(values):.4f}" + (f" ± {std(values):.4f}" if len(values) > 1 else ""))


def results_table(results: list[TrialResult], config: SweepConfig) -> Table:
    """One row for each combination, the best first."""
    several = len(config.runs) > 1
    table = Table("trial")
    for key in config.keys:
        table.add_column(key.replace(".", ".\n"), overflow="fold")
    for name in (config.metric, *(("±",) if several else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        mean, deviation = ("failed", "") if result.failure else result.cells
        cells = [Text(printable(round_fraction(result.settings[key]))) for key in config.keys]
        table.add_row(f"{result.number:03}", *cells, mean, *((deviation,) if several else ()))
    return table
