"""A run on the workers of a Ray cluster: python docs/launch/ray_train.py 2 digits --out /shared/runs/digits"""

import sys

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from vitral.cli import main


def train(arguments: list[str]) -> None:
    """What each worker does; Ray has made them one process group, which Vitral joins."""
    main(["train", *arguments, "--or-resume"])


if __name__ == "__main__":
    workers, *arguments = sys.argv[1:]
    TorchTrainer(
        train,
        train_loop_config=arguments,
        scaling_config=ScalingConfig(num_workers=int(workers)),
        # a worker that is lost starts all of them anew, and they go on from the last checkpoint
        run_config=RunConfig(failure_config=FailureConfig(max_failures=3)),
    ).fit()
