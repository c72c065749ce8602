"""Runs under torchrun: trains tiny models with the processes there are, one after another, into the folder named."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from distributed.runs import RUNS, with_teacher
from vitral.distributed.world import joined
from vitral.train.fit import fit
from vitral.train.run import Run

with joined(timeout=timedelta(minutes=2)) as world:
    for name, config in RUNS.items():
        config = with_teacher(replace(config, out=Path(sys.argv[1]) / name), Path(sys.argv[1]))
        run = Run(world.by_leader(lambda config=config: Run.create(config).path))
        fit(run, config, world)
        run.close()
