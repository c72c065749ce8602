"""Trains the tiny models named, one after another, into the folder named first, with teachers from the second one.

With torchrun's variables it is one of several processes. Each saves what it computes of its part of
`assignments.LOGITS`, too.
"""

import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from safetensors.torch import save_file

from distributed.assignments import LOGITS, READABLE, assignments
from distributed.runs import RUNS, with_teacher
from vitral.distributed.world import join_processes
from vitral.runs.run import Run
from vitral.train.fit import fit

with join_processes(timeout=timedelta(minutes=2)) as world:
    for name in sys.argv[3:]:
        config = with_teacher(replace(RUNS[name], out=Path(sys.argv[1]) / name), Path(sys.argv[2]))
        run = Run(world.run_on_main(lambda config=config: Run.create(config.out, recipe=config.recipe).path))
        fit(run, config, world)
        run.close()
    mine = assignments(LOGITS.chunk(world.size)[world.rank], READABLE.chunk(world.size)[world.rank])
    save_file(mine, Path(sys.argv[1]) / f"assignments-{world.rank}.safetensors")
