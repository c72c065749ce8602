"""Does the model of scaling in `vitral plan` predict a step of several processes?

1, 2 and 4 processes on this machine, one thread each, train ViT-Ti/16 with DDP over gloo. In alternating rounds: a step
without the exchange of gradients, one with it, and an all-reduce of as many bytes. The model gets the time of the step
without exchange and the bandwidth of the all-reduce between two processes; it predicts the step with exchange. Nothing
overlaps, because gloo computes on the cores of the model.

    python benchmarks/scaling_cpu.py

prints a Markdown table.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from vitral.distributed.parallel import wrap_ddp
from vitral.inspection.scaling import all_reduce_seconds, step_time
from vitral.models import create

MODEL = "ViT-Ti/16"


def seconds(call: Callable[[], object]) -> float:
    """Time of a call that all processes begin together."""
    dist.barrier()
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def work(rank: int, size: int, folder: str, batch: int, rounds: int) -> None:
    """One process; the first writes the medians: step without exchange, step with it, all-reduce."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{size}", rank=rank, world_size=size)
    torch.manual_seed(rank)
    model = wrap_ddp(create(MODEL, num_classes=1000), device=torch.device("cpu"))
    assert isinstance(model, DistributedDataParallel)
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(1000, (batch,))
    values = torch.zeros(sum(parameter.numel() for parameter in model.parameters()))

    def step(*, exchange: bool) -> None:
        with nullcontext() if exchange else model.no_sync():
            F.cross_entropy(model(images), labels).backward()
        model.zero_grad()

    calls = (lambda: step(exchange=False), lambda: step(exchange=True), lambda: dist.all_reduce(values))
    times = [[seconds(call) for call in calls] for _ in range(rounds + 1)][1:]
    if rank == 0:
        torch.save([statistics.median(column) for column in zip(*times, strict=True)], f"{folder}/{size}.pt")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description="Predicted and measured steps of 1, 2 and 4 processes.")
    parser.add_argument("--batch", type=int, default=8, help="images of each process (default: 8)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: 7)")
    options = parser.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in (1, 2, 4):
            spawn(work, args=(size, folder, options.batch, options.rounds), nprocs=size)
            measured[size] = torch.load(Path(folder, f"{size}.pt"))
    gradients = 4 * sum(parameter.numel() for parameter in create(MODEL, num_classes=1000).parameters())
    bandwidth = gradients / measured[2][2]
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, {MODEL}, {options.batch} images a process, ", end="")
    print(f"medians of {options.rounds} rounds; between two processes {bandwidth / 1e9:.2f} GB/s\n")
    print("| processes | without exchange, ms | exchange, ms | predicted | step, ms | predicted | ratio |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for size, (compute, step, exchange) in measured.items():
        expected = all_reduce_seconds(gradients, devices=size, bandwidth=bandwidth)
        total = step_time(compute=compute, exchange=expected, gradients=gradients, overlap=0.0).total
        numbers = (compute, exchange if size > 1 else 0.0, expected, step, total)
        print(f"| {size} | " + " | ".join(f"{1000 * number:.0f}" for number in numbers) + f" | {total / step:.2f} |")


if __name__ == "__main__":
    main()
