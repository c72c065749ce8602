"""The bottleneck of a run and the advice: in constructed cases, and in two real runs."""

import re
import time
from dataclasses import dataclass, replace

import pytest
import torch

import vitral.train.profiling.stopwatch
from tiny import tiny_run
from vitral.data.batches import Batch
from vitral.data.sources.source import ArraySource
from vitral.objectives.classification import Classification
from vitral.runs.metrics import read_metrics
from vitral.runs.run import Run
from vitral.train.fit import fit
from vitral.train.profiling.bottleneck import find_bottleneck
from vitral.train.profiling.setup import Setup, find_device, setup_of
from vitral.train.profiling.stopwatch import Stopwatch, Timing
from vitral.train.session import Session

GPU = Setup(
    device="NVIDIA H100 SXM", on_gpu=True, half_precision=True, compiled=True, workers=2, cores=16, peak_rate=1e4
)
"""A GPU with a peak of 10,000 images per second."""

BUSY = Timing(steps=10, images=1000, seconds=1.0, waiting=0.01, reading=1.0, copy=0.02, augment=0.05, compute=0.9)
"""A second of which nine tenths are computation."""


def test_slow_decoding_needs_more_workers():
    # 9 ms for each of 1,000 images are 9 s of work in 4.5 s on 2 workers; the device needs 2 s, so five are enough
    slow = Timing(steps=10, images=1000, seconds=4.5, waiting=2.5, reading=9.0, copy=0.1, augment=0.1, compute=1.8)
    found = find_bottleneck(slow, GPU)
    assert found.stage == "decode"
    for fact in (
        "waits 56% of its time for images",
        "9 ms per image on 2 workers",
        "--data.workers 5",
        "vitral data pack",
    ):
        assert fact in found.advice
    few = find_bottleneck(slow, replace(GPU, cores=4))
    assert "--data.workers 4 (all cores; 5 would be needed" in few.advice
    none = find_bottleneck(slow, replace(GPU, cores=2))
    assert "2 cores cannot read faster" in none.advice
    assert "store the images smaller" in none.advice
    assert "--data.workers" not in none.advice


def test_reading_in_the_training_process_needs_a_worker():
    alone = Timing(steps=10, images=1000, seconds=3.0, waiting=1.0, reading=1.0, compute=2.0)
    found = find_bottleneck(alone, replace(GPU, workers=0))
    assert found.stage == "decode"
    assert "1 ms per image on the training process" in found.advice
    assert "--data.workers 1" in found.advice


def test_images_that_are_read_fast_but_arrive_late():
    late = Timing(steps=10, images=1000, seconds=2.0, waiting=1.0, reading=0.5, compute=1.0)
    found = find_bottleneck(late, GPU)
    assert found.stage == "copy"
    assert "reading takes 0.5 ms per image on 2 workers, which is fast enough" in found.advice


def test_workers_on_all_cores_delay_the_gpu():
    # as measured: 6,772 images per second of S/16 from JPEGs, 2.36 ms each on 16 workers of 16 cores
    crowded = Timing(steps=200, images=102_400, seconds=15.1, waiting=0.6, reading=241.0, compute=13.4)
    sixteen = replace(GPU, workers=16, peak_rate=38_000.0)
    found = find_bottleneck(crowded, sixteen)
    assert found.stage == "decode"
    for fact in (
        "NVIDIA H100 SXM",
        "18% of its peak",
        "16 workers",
        "16 cores",
        "vitral data pack",
        "--data.workers 14",
    ):
        assert fact in found.advice
    assert find_bottleneck(crowded, replace(sixteen, workers=12)).advice.endswith("--data.workers 11")
    # a large model's GPU is busy all the same, and a reader that rests leaves room
    assert find_bottleneck(crowded, replace(sixteen, peak_rate=20_000.0)).stage == "compute"
    assert find_bottleneck(replace(crowded, reading=160.0), sixteen).stage == "compute"
    assert find_bottleneck(crowded, replace(sixteen, on_gpu=False)).stage == "compute"


@pytest.mark.parametrize("stage", ["copy", "augment"])
def test_the_longest_stage_on_the_device(stage):
    found = find_bottleneck(replace(BUSY, **{stage: 0.5}, compute=0.4), GPU)
    assert found.stage == stage
    assert found.advice.startswith("50% of the time goes into ")


def test_all_reduce_longer_than_the_overlap():
    several = replace(GPU, processes=8, all_reduce_seconds=0.046)  # a step's arithmetic takes 90 ms
    found = find_bottleneck(BUSY, several)
    assert found.stage == "communication"
    for fact in ("8 processes", "46 ms", "90 ms"):
        assert fact in found.advice
    assert find_bottleneck(BUSY, replace(several, all_reduce_seconds=0.044)).stage == "compute"


@pytest.mark.parametrize(
    ("setup", "advice"),
    [
        (GPU, "90% of the time goes into the model, at 10% of the peak of NVIDIA H100 SXM; raise --train.ba"),
        (replace(GPU, peak_rate=2e3), "at 50% of the peak of NVIDIA H100 SXM, as it should; use more devices to"),
        (replace(GPU, half_precision=False, peak_rate=None), "the model; --train.precision bfloat16 makes it"),
        (replace(GPU, compiled=False), "; --train.compile True makes it faster"),
        (Setup(), "the model, as it should; use a smaller model, smaller images or a GPU to train faster"),
    ],
)
def test_advice_for_compute_bound_runs(setup, advice):
    found = find_bottleneck(BUSY, setup)
    assert found.stage == "compute"
    assert advice in found.advice


def test_timings_add_up():
    both = BUSY + replace(BUSY, steps=5, compute=0.1)
    assert (both.steps, both.images, both.seconds, both.compute) == (15, 2000, 2.0, 1.0)
    assert BUSY.other == pytest.approx(0.02)
    assert Timing().waiting_fraction == 0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12),
        ("NVIDIA H200", 989.4e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Tesla T4", 65e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA L40S", None),
        ("NVIDIA T400", None),
        ("cpu", None),
    ],
)
def test_known_devices_have_a_peak(name, peak):
    device = find_device(name)
    assert (device and device.flops) == peak


@dataclass
class Clock:
    """The stopwatch's clock, which goes forward when a test says so."""

    seconds: float = 0.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(vitral.train.profiling.stopwatch, "time", found)
    return found


def test_the_stopwatch_separates_waiting_from_computing(clock):
    def slow_batches():
        for _ in range(3):
            clock.seconds += 2
            yield Batch(
                images=torch.zeros(4, 2, 2, 1, dtype=torch.uint8), labels=torch.zeros(4, dtype=torch.long), seconds=0.5
            )

    watch = Stopwatch(torch.device("cpu"))
    for _ in watch.batches(slow_batches()):
        watch.begin()
        clock.seconds += 0.5
        watch.end("copy")
        clock.seconds += 1
        watch.end("augment")
        clock.seconds += 4
        watch.end("compute")
        clock.seconds += 0.25
    timing = watch.read()
    assert (timing.steps, timing.images, timing.reading) == (3, 12, 1.5)
    assert (timing.waiting, timing.copy, timing.augment, timing.compute, timing.other) == (6, 1.5, 3, 12, 0.75)
    assert timing.seconds == 23.25
    assert watch.read().steps == 0


def speed_line(config, capsys: pytest.CaptureFixture[str]) -> str:
    """The line about speed that a run prints."""
    run = Run.create(config.out, recipe=config.recipe)
    try:
        fit(run, config)
    finally:
        run.close()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("speed: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_on_a_slow_disk(tmp_path, monkeypatch, capsys, workers):
    read = ArraySource.stored

    def slowly(self, index: int):
        time.sleep(0.04)  # far more than a busy machine adds
        return read(self, index)

    monkeypatch.setattr(ArraySource, "stored", slowly)
    config = tiny_run(tmp_path / "run", steps=6, batch_size=4, log="2steps")
    config = replace(config, data=replace(config.data, workers=workers, test_fraction=0.02))
    line = speed_line(config, capsys)
    waiting, rest = re.fullmatch(r"speed: the run waits (\d+)% of its time for images: (.*)", line).groups()
    assert int(waiting) > 30
    each = re.match(r"reading takes ([\d.]+) ms per image on (1 worker|the training process); ", rest)
    assert 40 <= float(each[1]) < 200
    assert (each[2] == "1 worker") == (workers == 1)


def test_a_run_of_a_slow_model(tmp_path, monkeypatch, capsys, clock):
    compute = Classification.loss

    def slowly(*arguments):
        clock.seconds += 0.8
        return compute(*arguments)

    monkeypatch.setattr(Classification, "loss", slowly)
    line = speed_line(tiny_run(tmp_path / "run", steps=3, batch_size=8), capsys)
    assert re.fullmatch(r"speed: (8\d|9\d|100)% of the time goes into the model, as it should; .*", line)


def test_metrics_have_waiting_time_and_memory(tmp_path, capsys):
    speed_line(tiny_run(tmp_path / "run", steps=4, log="2steps"), capsys)
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in line]
    assert [line["step"] for line in lines] == [2, 4]
    for line in lines:
        assert 0 <= line["data_wait"] < 1
        assert 50e6 < line["memory_bytes"] < 50e9
        assert "mfu" not in line  # the peak of a CPU is unknown


def test_utilisation_is_the_fraction_of_the_peak():
    assert GPU.utilisation(4e3) == 0.4
    assert Setup().utilisation(4e3) is None


def test_a_single_process_exchanges_no_gradients():
    assert setup_of(Session(tiny_run().resolved(num_classes=10), classes=tuple("0123456789"))).all_reduce_seconds == 0


@pytest.mark.gpu
def test_a_gpu_is_timed_by_cuda_events():
    watch, many = Stopwatch(torch.device("cuda")), torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    watch.reset()
    for _ in range(5):
        watch.begin()
        watch.end("copy")
        watch.end("augment")
        for _ in range(10):
            many @ many
        watch.end("compute")
    torch.cuda.synchronize()
    timing = watch.read()
    assert timing.compute > 0.5 * timing.seconds
    assert timing.copy + timing.augment < 0.1 * timing.compute
    assert timing.compute <= timing.seconds
