"""The doctor names what bounds a run, and what to change: in constructed cases, and in two real ones."""

import re
import time
from dataclasses import replace

import pytest
import torch

from tiny import tiny_run
from vitral.data.batches import Batch
from vitral.data.sources.source import ArraySource
from vitral.objectives.classification import Classification
from vitral.runs.metrics import read_metrics
from vitral.train.fit import fit
from vitral.train.profiling.bottleneck import diagnose
from vitral.train.profiling.setup import Setup, known_device, setup_of
from vitral.train.profiling.throughput import Stopwatch, Timing
from vitral.train.run import Run
from vitral.train.session import Session

GPU = Setup(device="NVIDIA H100 SXM", on_gpu=True, half=True, compiled=True, workers=2, cores=16, best_rate=1e4)
"""A GPU that could see 10,000 images a second."""

BUSY = Timing(steps=10, images=1000, seconds=1.0, waiting=0.01, reading=1.0, copy=0.02, augment=0.05, compute=0.9)
"""A second of which nine tenths are arithmetic."""


def test_slow_decoding_asks_for_the_workers_it_takes():
    # 9 ms for each of 1,000 images are 9 s of work in 4.5 s on 2 workers; the device needs 2 s, so five are enough
    slow = Timing(steps=10, images=1000, seconds=4.5, waiting=2.5, reading=9.0, copy=0.1, augment=0.1, compute=1.8)
    found = diagnose(slow, GPU)
    assert found.bound == "decode"
    assert found.sentence == (
        "the run waits 56% of its time for images: reading takes 9 ms an image on 2 workers; "
        "set --data.workers 5, or store the images smaller with vitral data pack"
    )
    few = diagnose(slow, replace(GPU, cores=4))
    assert "set --data.workers 4 (all cores; 5 would be needed, so also store" in few.sentence
    none = diagnose(slow, replace(GPU, cores=2))
    assert "; 2 cores cannot read faster: store the images smaller" in none.sentence


def test_reading_in_the_training_process_asks_for_a_worker():
    alone = Timing(steps=10, images=1000, seconds=3.0, waiting=1.0, reading=1.0, compute=2.0)
    found = diagnose(alone, replace(GPU, workers=0))
    assert found.bound == "decode"
    assert "reading takes 1 ms an image on the training process itself; set --data.workers 1" in found.sentence


def test_images_that_are_read_fast_but_come_late_were_handed_over_slowly():
    late = Timing(steps=10, images=1000, seconds=2.0, waiting=1.0, reading=0.5, compute=1.0)
    found = diagnose(late, GPU)
    assert found.bound == "copy"
    assert "yet reading takes 0.5 ms an image on 2 workers, which would be enough" in found.sentence


def test_cores_that_all_read_hand_the_gpu_its_work_late():
    # as measured: 6,772 images a second of S/16 from JPEGs, 2.36 ms each on 16 workers of 16 cores
    crowded = Timing(steps=200, images=102_400, seconds=15.1, waiting=0.6, reading=241.0, compute=13.4)
    sixteen = replace(GPU, workers=16, best_rate=38_000.0)
    found = diagnose(crowded, sixteen)
    assert found.bound == "decode"
    assert found.sentence == (
        "NVIDIA H100 SXM works at 18% of its peak and gets its work late, as 16 workers keep 16 cores busy with "
        "reading: store the images smaller with vitral data pack, or set --data.workers 14"
    )
    assert diagnose(crowded, replace(sixteen, workers=12)).sentence.endswith("or set --data.workers 11")
    # a large model's GPU is busy all the same, and a reader that rests leaves room
    assert diagnose(crowded, replace(sixteen, best_rate=20_000.0)).bound == "compute"
    assert diagnose(replace(crowded, reading=160.0), sixteen).bound == "compute"
    assert diagnose(crowded, replace(sixteen, on_gpu=False)).bound == "compute"


@pytest.mark.parametrize("stage", ["copy", "augment"])
def test_a_stage_on_the_device_that_takes_longest(stage):
    found = diagnose(replace(BUSY, **{stage: 0.5}, compute=0.4), GPU)
    assert found.bound == stage
    assert found.sentence.startswith("50% of the time goes into ")


def test_gradients_that_do_not_hide_behind_the_arithmetic():
    several = replace(GPU, processes=8, gradients=0.046)  # a step's arithmetic takes 90 ms
    found = diagnose(BUSY, several)
    assert found.bound == "communication"
    assert "8 processes exchange gradients for 46 ms a step of 90 ms" in found.sentence
    assert diagnose(BUSY, replace(several, gradients=0.044)).bound == "compute"


@pytest.mark.parametrize(
    ("setup", "advice"),
    [
        (GPU, "90% of the time is the model's own arithmetic, at 10% of the peak of NVIDIA H100 SXM; raise --train.ba"),
        (replace(GPU, best_rate=2e3), "at 50% of the peak of NVIDIA H100 SXM: as it should be; more devices make it"),
        (replace(GPU, half=False, best_rate=None), "arithmetic; --train.precision bfloat16 makes it"),
        (replace(GPU, compiled=False), "; --train.compile True makes it faster"),
        (Setup(), "arithmetic: as it should be; only a smaller model, smaller images or a GPU make it faster"),
    ],
)
def test_arithmetic_is_as_it_should_be_or_can_be_made_faster(setup, advice):
    found = diagnose(BUSY, setup)
    assert found.bound == "compute"
    assert advice in found.sentence


def test_timings_add_up():
    both = BUSY + replace(BUSY, steps=5, compute=0.1)
    assert (both.steps, both.images, both.seconds, both.compute) == (15, 2000, 2.0, 1.0)
    assert BUSY.other == pytest.approx(0.02)
    assert Timing().waiting_share == 0


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
def test_only_a_known_device_has_a_peak(name, peak):
    device = known_device(name)
    assert (device and device.flops) == peak


def test_a_stopwatch_tells_waiting_from_work():
    def slow_batches():
        for _ in range(3):
            time.sleep(0.02)
            yield Batch(
                images=torch.zeros(4, 2, 2, 1, dtype=torch.uint8), labels=torch.zeros(4, dtype=torch.long), seconds=0.5
            )

    watch = Stopwatch(torch.device("cpu"))
    for _ in watch.batches(slow_batches()):
        watch.begin()
        watch.end("copy")
        time.sleep(0.01)
        watch.end("augment")
        time.sleep(0.03)
        watch.end("compute")
    timing = watch.read()
    assert (timing.steps, timing.images, timing.reading) == (3, 12, 1.5)
    assert 0.06 <= timing.waiting < timing.compute + timing.augment
    assert timing.copy < 0.03 <= timing.augment < timing.compute
    parts = timing.waiting, timing.copy, timing.augment, timing.compute, timing.other
    assert sum(parts) == pytest.approx(timing.seconds)
    assert watch.read().steps == 0


def spoken(config, capsys: pytest.CaptureFixture[str]) -> str:
    """What a run says of its speed."""
    run = Run.create(config)
    try:
        fit(run, config)
    finally:
        run.close()
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("speed: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_on_a_slow_disk_says_so(tmp_path, monkeypatch, capsys, workers):
    read = ArraySource.stored

    def slowly(self, index: int):
        time.sleep(0.004)
        return read(self, index)

    monkeypatch.setattr(ArraySource, "stored", slowly)
    config = tiny_run(tmp_path / "run", steps=6, batch_size=16, log="2steps")
    config = replace(config, data=replace(config.data, workers=workers, held_out=0.02))
    said = spoken(config, capsys)
    share, rest = re.fullmatch(r"speed: the run waits (\d+)% of its time for images: (.*)", said).groups()
    assert int(share) > 30
    each = re.match(r"reading takes ([\d.]+) ms an image on (1 worker|the training process itself); ", rest)
    assert 4 <= float(each[1]) < 20
    assert (each[2] == "1 worker") == (workers == 1)


def test_a_run_of_a_slow_model_says_so(tmp_path, monkeypatch, capsys):
    compute = Classification.loss

    def slowly(*arguments):
        time.sleep(0.8)
        return compute(*arguments)

    monkeypatch.setattr(Classification, "loss", slowly)
    said = spoken(tiny_run(tmp_path / "run", steps=3, batch_size=8), capsys)
    assert re.fullmatch(r"speed: (8\d|9\d|100)% of the time is the model's own arithmetic: as it should be; .*", said)


def test_the_record_has_the_share_of_waiting_and_the_memory(tmp_path, capsys):
    spoken(tiny_run(tmp_path / "run", steps=4, log="2steps"), capsys)
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in line]
    assert [line["step"] for line in lines] == [2, 4]
    for line in lines:
        assert 0 <= line["data_wait"] < 1
        assert 50e6 < line["memory_bytes"] < 50e9
        assert "mfu" not in line  # what a CPU could do at best is not known


def test_utilisation_is_arithmetic_over_the_peak():
    assert GPU.utilisation(4e3) == 0.4
    assert Setup().utilisation(4e3) is None


def test_processes_alone_exchange_nothing():
    assert setup_of(Session(tiny_run().resolved(num_classes=10), classes=tuple("0123456789"))).gradients == 0


@pytest.mark.gpu
def test_a_gpu_is_timed_by_its_own_clock():
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
