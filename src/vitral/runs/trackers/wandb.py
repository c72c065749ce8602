"""Weights & Biases; with `WANDB_MODE=offline` its files stay in the run's folder until `wandb sync`."""

import os
from pathlib import Path
from typing import Any

import wandb

__all__ = ["WeightsAndBiases"]

PROJECT = "vitral"


class WeightsAndBiases:
    """One W&B run. Its id is saved in the run's folder, so that a resumed run continues it."""

    def __init__(self) -> None:
        self.run: Any = None

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        """Starts or continues the W&B run, as WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE say."""
        run_id = run / "wandb" / "run_id"
        run_id.parent.mkdir(exist_ok=True)
        if not run_id.is_file():
            run_id.write_text(os.urandom(4).hex())
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=run_id.read_text(),
            resume="allow",
            dir=run,
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Logs metrics. W&B ignores steps that it already has, from before a crash."""
        self.run.log(metrics, step=step)

    def finish(self) -> None:
        """Waits until everything is sent."""
        self.run.finish()
