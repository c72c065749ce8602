"""Shards behind URLs: the same images in the same order as from files, whatever the server does."""

import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

from unit.data.sources.test_tars import opened, png, refused, shades, write_shard, write_shards
from vitral.data.config import DataConfig
from vitral.data.notes import note_once
from vitral.data.sources import remote
from vitral.data.sources.remote import as_url, read_ranges, stat_files
from vitral.data.sources.source import read_ahead
from vitral.datasets.infer import infer_source
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from web import Web, serve_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "FIRST_RETRY_SECONDS", 0.6)
    monkeypatch.setenv("VITRAL_RETRY_SECONDS", "0.6")
    note_once.cache_clear()
    return tmp_path / "cache"


def train_url(web: Web) -> Path:
    """Three shards, as a configuration has them."""
    return Path(f"{web.url}/train-{{000..002}}.tar")


def test_urls_survive_paths() -> None:
    assert as_url(Path("https://host/a-{0..3}.tar")) == "https://host/a-{0..3}.tar"
    assert as_url(Path("s3://bucket/folder")) == "s3://bucket/folder"
    assert as_url(Path("simplecache::https://host/a.tar")) == "simplecache::https://host/a.tar"
    assert as_url(Path("hf-hub:owner/name")) is None
    assert as_url(Path("C:/data")) is None
    assert as_url(Path("shards/a.tar")) is None


def test_urls_are_recognised_on_the_command_line() -> None:
    for words in ("https://host/a-{0..3}.tar", "s3://bucket/folder", "pipe:cat a.tar"):
        assert infer_source(words).source == "tars"
    assert infer_source("gs://bucket/train.tfrecord-00000-of-00001").source == "tfrecord"


def test_the_same_images_as_from_files(tmp_path: Path) -> None:
    local = opened(write_shards(tmp_path / "shards") / "train-{000..002}.tar")
    with serve_folder(tmp_path / "shards") as web:
        data = opened(train_url(web))
        for split in ("train", "test"):
            assert shades(data[split]) == shades(local[split])
            assert data[split].labels.tolist() == local[split].labels.tolist()
        assert data["train"].name(0).startswith(f"{web.url}/train-000.tar[")


def test_a_batch_is_few_requests(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards") as web:
        train = opened(train_url(web))["train"]
        web.requests.clear()
        read_ahead(train, np.arange(len(train)))
        assert len(web.requests) == 3
        shades(train)
        assert len(web.requests) == 3


def test_ranges_in_any_order(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(1_000_000)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
    rng = np.random.default_rng(1)
    with serve_folder(tmp_path) as web:
        files = stat_files([f"{web.url}/a", f"{web.url}/b"])
        ranges = [(files[rng.integers(2)], int(rng.integers(900_000)), int(rng.integers(3) * 500)) for _ in range(50)]
        assert read_ranges(ranges) == [content[start : start + size] for _, start, size in ranges]
        assert read_ranges([]) == []


def test_a_batch_of_two_splits(tmp_path: Path) -> None:
    write_shards(write_shards(tmp_path / "shards"), "val", shards=1)
    write_shards(tmp_path / "shards", "test", shards=1)
    with serve_folder(tmp_path / "shards") as web:
        splits = ("train=train-{000..002}.tar", "val=val-000.tar", "test=test-000.tar")
        train = opened(Path(web.url), splits=splits, train_on_val=True)["train"]
        for indices in ([0, 5], [13, 14], [0, 15], []):
            read_ahead(train, np.array(indices, np.int64))
            assert [train.stored(index) for index in indices] == [png(index % 12) for index in indices]


def test_the_index_is_cached_until_a_shard_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards") as web:
        opened(train_url(web))
        web.requests.clear()
        opened(train_url(web))
        assert not [request for request in web.requests if request.startswith("GET") and "bytes=0-0" not in request][1:]
        write_shard(
            tmp_path / "shards" / "train-001.tar",
            [{"__key__": str(number), "png": png(99), "cls": number % 2} for number in range(6)],
        )
        assert sum(map(len, opened(train_url(web)).values())) == 14
        assert f"{web.url}/train-001.tar changed since the last time" in caplog.text


def test_a_shard_that_changes_in_use_stops_the_run(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards") as web:
        train = opened(train_url(web))["train"]
        for file in (tmp_path / "shards").iterdir():
            os.utime(file, ns=(10**18, 10**18))
        with pytest.raises(OSError, match=rf"^{web.url}/train-000.tar has changed since it was opened: [^\n]+$"):
            train.stored(0)


@pytest.mark.parametrize("fail_every", [2, 3])
def test_failures_are_tried_again(tmp_path: Path, fail_every: int) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards", fail_every=fail_every) as web:
        data = opened(train_url(web))
        assert sorted(shades(data["train"]) + shades(data["test"])) == list(range(12))


def test_a_server_without_ranges(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    local = opened(write_shards(tmp_path / "shards") / "train-{000..002}.tar")
    with serve_folder(tmp_path / "shards", ranges=False) as web:
        data = opened(train_url(web))
        assert "3 shards of 0 MB are copied" in caplog.text
        assert len(list((cache / "spool").glob("*-train-00?.tar"))) == 3
        web.requests.clear()
        assert shades(opened(train_url(web))["train"]) == shades(data["train"]) == shades(local["train"])
        assert len([request for request in web.requests if request.startswith("GET")]) <= 2


def test_a_copy_is_tried_again_too(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards", ranges=False, fail_every=3) as web:
        assert sum(map(len, opened(train_url(web)).values())) == 12


def test_without_versions_that_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards", versions=False) as web:
        opened(train_url(web))
    assert "gives neither ETag nor date" in caplog.text


def test_names_of_classes_beside_the_shards(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    (tmp_path / "shards" / "classes.txt").write_text("cat\ndog\n")
    with serve_folder(tmp_path / "shards") as web:
        assert opened(train_url(web))["train"].classes == ("cat", "dog")


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write_shards(tmp_path / "shards")
    refused(Path("pipe:cat a-{0..3}.tar"), "'pipe:cat a-0.tar' would run a command: give its URL, such as https://")
    monkeypatch.setenv("VITRAL_ALLOW_COMMANDS", "1")
    data = opened(Path(f"pipe:cat {shards}/train-{{000..002}}.tar"))
    assert sorted(shades(data["train"]) + shades(data["test"])) == list(range(12))
    refused(Path("pipe:cat /nowhere.tar"), "the command 'cat /nowhere.tar' failed: cat: /nowhere.tar: No such file")
    refused(Path("pipe:true .tar"), "the command 'true .tar' printed nothing")


def test_a_folder_of_an_object_store(tmp_path: Path) -> None:
    write_shards(write_shards(tmp_path / "shards"), "validation", shards=1)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "shards"), "/bucket", recursive=True)
    try:
        data = opened(Path("memory://bucket"))
        assert {split: len(source) for split, source in data.items()} == {"train": 12, "val": 4}
        assert shades(data["train"]) == list(range(12))
        assert len(opened(Path("memory://bucket/val*.tar"))["train"]) == 2
        refused(Path("memory://bucket/none*.tar"), "memory://bucket/none*.tar matches no file")
        refused(Path("memory://other"), "memory://other has no .tar files")
    finally:
        memory.rm("/bucket", recursive=True)


def test_wrong_use(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards") as web:
        missing = f"{web.url}/train-003.tar cannot be read: there is no such file; check the URL"
        refused(Path(f"{web.url}/train-{{000..003}}.tar"), missing)
        refused(Path(f"{web.url}/train-*.tar"), "HTTP servers do not list their files")
        refused(Path(web.url) / "shards", "HTTP servers do not list their files")
        url = web.url
    refused(Path(f"{url}/train-000.tar"), f"{url}/train-000.tar cannot be read: connection refused")
    with pytest.raises(
        UserError, match=rf"--data\.source folder does not read {url}: only tars and tfrecord read URLs"
    ):
        open_data(DataConfig(source="folder", root=Path(url)))
    refused(Path("odd://host/a.tar"), "odd://host/a.tar cannot be read: ")
    (tmp_path / "shards" / "odd.tar").write_bytes(b"<html>")
    with serve_folder(tmp_path / "shards") as web:
        refused(Path(f"{web.url}/odd.tar"), f"{web.url}/odd.tar is ")


def test_a_server_that_goes_is_named(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    with serve_folder(tmp_path / "shards") as web:
        train = opened(train_url(web))["train"]
    with pytest.raises(OSError, match=rf"^{web.url}/train-000.tar cannot be read: [a-z ]+$"):
        train.stored(0)
