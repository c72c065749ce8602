"""Runs over shards behind URLs, killed and resumed, equal an undisturbed run over local files bit for bit."""

import signal
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from checkpoints import newest, tensors
from forks import Fork
from processes import records, steps_taken
from web import serve_folder

STEPS = 120
KILLS = (5, 16, 27, 38, 50)
"""Steps after which a run is killed, far from its end."""

LAST = f"step {STEPS}/{STEPS}"
"""What a finished run prints."""

WORKERS = (0, 2, 1, 3, 0, 2)
"""Reading processes of each attempt."""


def start(*arguments: str, cwd: Path) -> Fork:
    """Starts `vitral ARGUMENTS` with a cache of its own, and little patience."""
    variables = dict(VITRAL_CACHE=str(cwd / "cache"), VITRAL_RETRY_SECONDS="3", NO_PROXY="127.0.0.1")
    return Fork(*arguments, cwd=cwd, **variables)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards of 50 digits."""
    folder, digits = tmp_path_factory.mktemp("shards"), load_digits()
    for shard in range(6):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as tar:
            for number in range(50 * shard, 50 * shard + 50):
                stream = BytesIO()
                Image.fromarray((digits.images[number] * 15).astype(np.uint8)).save(stream, "PNG")
                label = str(digits.target[number]).encode()
                for suffix, content in (("png", stream.getvalue()), ("cls", label)):
                    member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, BytesIO(content))
    return folder


def command(place: Path | str, out: str) -> list[str]:
    """A tiny run on shards of a folder or a server."""
    settings = {
        "data.source": "tars",
        "data.root": f"{place}/train-{{0..5}}.tar",
        "model.depth": 1,
        "model.dropout": 0.1,
        "train.ema": 0.9,
        "train.batch-size": 32,
        "train.steps": STEPS,
        "train.log": "2steps",
        "train.evaluate": "60steps",
        "checkpoint.every": "7steps",
    }
    return [
        "train",
        "digits",
        "--out",
        out,
        *(word for name, value in settings.items() for word in (f"--{name}", str(value))),
    ]


@pytest.fixture(scope="module")
def local(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run over the files."""
    folder = tmp_path_factory.mktemp("local")
    process = start(*command(shards, "run"), cwd=folder)
    assert LAST in process.ended()
    return folder / "run"


def assert_same(run: Path, reference: Path) -> None:
    assert (run / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    ours, theirs = tensors(newest(run)), tensors(newest(reference))
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert records(run) == records(reference)


@pytest.mark.slow
@pytest.mark.parametrize("fail_every", [0, 3])
def test_killed_over_http(tmp_path: Path, shards: Path, local: Path, fail_every: int) -> None:
    with serve_folder(shards, fail_every=fail_every) as web:
        words = command(web.url, "run")
        for kill, workers in zip(KILLS, WORKERS, strict=False):
            process = start(*words, "--data.workers", str(workers), cwd=tmp_path)
            process.wait_until(lambda kill=kill: steps_taken(tmp_path / "run") >= kill)
            process.kill()
            process.ended()
            assert process.returncode == -signal.SIGKILL, process.errors.read_text()
            words = ["train", "--resume", "run"]
        last = start(*words, "--data.workers", str(WORKERS[-1]), cwd=tmp_path)
        assert LAST in last.ended()
        assert any("bytes=" in request for request in web.requests)
    assert_same(tmp_path / "run", local)


def test_a_cache_changes_nothing(tmp_path: Path, shards: Path, local: Path) -> None:
    """In memory, then in a folder; images of this size are not shrunk."""
    words = [*command(shards, "run"), "--data.cache", "ram"]
    process = start(*words, "--data.workers", "2", cwd=tmp_path)
    process.wait_until(lambda: steps_taken(tmp_path / "run") >= 20)
    process.kill()
    assert "caching: 300 images take about" in process.ended()
    last = start("train", "--resume", "run", "--data.cache", "kept", cwd=tmp_path)
    assert LAST in last.ended()
    assert len(list((tmp_path / "kept").glob("*.images"))) == 2
    assert_same(tmp_path / "run", local)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_server_that_goes_away_stops_the_run(tmp_path: Path, shards: Path, local: Path, workers: int) -> None:
    """In one sentence; the run resumes when the server is back."""
    with serve_folder(shards) as web:
        process = start(*command(web.url, "run"), "--data.workers", str(workers), cwd=tmp_path)
        process.wait_until(lambda: steps_taken(tmp_path / "run") >= 20)
        web.gone = True
        errors = process.ended()
        assert process.returncode == 2
        assert "Traceback" not in errors
        start_of_sentence = "vitral: reading images failed: " if workers else "vitral: "
        assert errors.splitlines()[-1].startswith(f"{start_of_sentence}{web.url}/train-")
        assert "the run is saved; resume it with: vitral train --resume run" in errors
        web.gone = False
        assert LAST in start("train", "--resume", "run", cwd=tmp_path).ended()
    assert_same(tmp_path / "run", local)


def test_wrong_urls_are_one_sentence(tmp_path: Path, shards: Path) -> None:
    with serve_folder(shards) as web:
        process = start(*command(f"{web.url}/odd", "run"), cwd=tmp_path)
        errors = process.ended()
    assert process.returncode == 2
    assert errors.startswith(f"vitral: {web.url}/odd/train-0.tar cannot be read: there is no such file")
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()
