"""Weights & Biases; with `WANDB_MODE=offline` its files wait in the run's folder for `wandb sync`."""

import os
from pathlib import Path
from typing import Any

import wandb

__all__ = ["WeightsAndBiases"]

PROJECT = "vitral"


class WeightsAndBiases:
    """One run there; its identifier lies in the run's folder, so that a resumed run goes on with the same."""

    def __init__(self) -> None:
        self.run: Any = None

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        """Begins, or goes on with, the run there; WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE count as always."""
        known = run / "wandb" / "run_id"
        known.parent.mkdir(exist_ok=True)
        if not known.is_file():
            known.write_text(os.urandom(4).hex())
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=known.read_text(),
            resume="allow",
            dir=run,
            config=config,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Sends figures; what a crashed run had sent beyond its checkpoint is not sent again."""
        self.run.log(figures, step=step)

    def finish(self) -> None:
        """Waits until all is sent."""
        self.run.finish()
