"""The record of a run: every step once, whatever crashed in between."""

import json
from pathlib import Path

import pytest

from vitral.runs.metrics import MetricLog, read_metrics, read_speed


def written(folder: Path, *, step: int, records: list[tuple[int, dict[str, float]]]) -> Path:
    log = MetricLog(folder, step=step)
    for at, figures in records:
        log.write(at, figures)
    log.close()
    return folder / "metrics.jsonl"


def test_one_object_a_line(tmp_path):
    path = written(tmp_path, step=0, records=[(1, {"train/loss": 0.5, "lr": 0.1}), (2, {"test/top1": 1 / 3})])
    assert [json.loads(line) for line in path.read_text().splitlines()] == read_metrics(path)
    assert read_metrics(path) == [{"step": 1, "train/loss": 0.5, "lr": 0.1}, {"step": 2, "test/top1": 1 / 3}]


def test_can_be_read_while_it_is_written(tmp_path):
    log = MetricLog(tmp_path, step=0)
    log.write(3, {"train/loss": 1.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 3, "train/loss": 1.0}]
    log.close()


def test_what_a_crashed_run_wrote_beyond_its_checkpoint_is_dropped(tmp_path):
    written(tmp_path, step=0, records=[(step, {"train/loss": float(step)}) for step in (10, 20, 30)])
    path = written(tmp_path, step=20, records=[(30, {"train/loss": -1.0})])
    assert [(record["step"], record["train/loss"]) for record in read_metrics(path)] == [(10, 10), (20, 20), (30, -1)]


@pytest.mark.parametrize(
    "rest",
    [
        '{"step": 30, "train/lo',
        '{"step": 30',
        "{",
        "\x00\x00\x00",
        '{"step": 30, "a": tru',
        "[30]",
        "30",
        '{"step": "30"}',
        '{"a": 1}',
        "null",
    ],
)
def test_a_line_cut_short_is_left_out(tmp_path, rest):
    path = written(tmp_path, step=0, records=[(10, {"train/loss": 1.0}), (20, {"train/loss": 2.0})])
    path.write_text(path.read_text() + rest)
    assert [record["step"] for record in read_metrics(path)] == [10, 20]
    written(tmp_path, step=20, records=[(30, {"train/loss": 3.0})])
    assert [record["step"] for record in read_metrics(path)] == [10, 20, 30]
    assert path.read_text().endswith("\n")


def test_bytes_that_are_no_text_are_left_out(tmp_path):
    path = written(tmp_path, step=0, records=[(10, {"train/loss": 1.0})])
    path.write_bytes(path.read_bytes() + b'{"step\xff\xfe')
    assert [record["step"] for record in read_metrics(path)] == [10]


def test_no_record_yet(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_the_last_step_measured_again_is_written_once(tmp_path):
    """A run that crashed between its last measurement and its end measures again when resumed."""
    end = [(20, {"train/loss": 0.5, "lr": 0.1}), (20, {"test/top1": 0.75})]
    written(tmp_path, step=0, records=end)
    path = written(tmp_path, step=20, records=end[1:])
    log = MetricLog(tmp_path, step=20)
    assert not log.write(20, end[1][1])
    assert log.write(20, {"val/top1": 0.5})
    log.close()
    assert [record["step"] for record in read_metrics(path)] == [20, 20, 20]


def test_opening_never_loses_the_record(tmp_path, monkeypatch):
    path = written(tmp_path, step=0, records=[(10, {"train/loss": 1.0})])

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitral.files.os.fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        MetricLog(tmp_path, step=10)
    assert [record["step"] for record in read_metrics(path)] == [10]


def test_speed_under_its_old_names(tmp_path):
    path = tmp_path / "speed.json"
    assert read_speed(path) is None
    path.write_text("null")
    assert read_speed(path) is None
    path.write_text('{"bound": "decode", "diagnosis": "the run waits", "images_per_second": 3.0}')
    assert read_speed(path) == {"bottleneck": "decode", "advice": "the run waits", "images_per_second": 3.0}
