"""Runs under torchrun: trains tiny models with the processes there are, one after another, into the folder named."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from distributed.runs import RUNS, with_teacher
from vitral.distributed.world import join_processes
from vitral.train.fit import fit
from vitral.train.run import Run

with join_processes(timeout=timedelta(minutes=2)) as world:
    for name, config in RUNS.items():
        config = with_teacher(replace(config, out=Path(sys.argv[1]) / name), Path(sys.argv[1]))
        run = Run(world.run_on_main(lambda config=config: Run.create(config).path))
        fit(run, config, world)
        run.close()
