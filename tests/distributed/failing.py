"""Runs under torchrun: trains on the digits into the folder named; the last process fails in its fifth step."""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from tiny import tiny_run
from vitral.distributed.world import join_processes
from vitral.runs.run import Run
from vitral.train.fit import fit
from vitral.train.session import Session

with join_processes(timeout=timedelta(minutes=2)) as world:
    config = replace(tiny_run(steps=100_000), out=Path(sys.argv[1]))
    step = Session.train_step

    def failing(session: Session, *batch: Any, **how: Any) -> Any:
        """The step, or an error."""
        if session.step == 4 and world.rank == world.size - 1:
            raise RuntimeError("a fault in one process alone")
        return step(session, *batch, **how)

    Session.train_step = failing
    fit(Run(world.run_on_main(lambda: Run.create(config.out, recipe=config.recipe).path)), config, world)
