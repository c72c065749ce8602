"""Tar shards in the WebDataset form."""

import os
import pickle
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import webdataset
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.shards import ShardSource
from vitral.data.sources.source import Source, read_from
from vitral.datasets.opening import open_data


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vitral" / "tars"


def png(value: int) -> bytes:
    stream = BytesIO()
    Image.new("L", (3, 2), value).save(stream, "PNG")
    return stream.getvalue()


def write_shard(file: Path, samples: list[dict]) -> Path:
    """As the owners of the form write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(file)) as writer:
        for sample in samples:
            writer.write(sample)
    return file


def write_shards(folder: Path, split: str = "train", *, shards: int = 3, each: int = 4) -> Path:
    """Image `i` is of shade `i` and class `i % 2`."""
    for shard in range(shards):
        numbers = range(shard * each, (shard + 1) * each)
        samples = [{"__key__": f"a/{number:06d}", "png": png(number), "cls": number % 2} for number in numbers]
        write_shard(folder / f"{split}-{shard:03d}.tar", samples)
    return folder


def opened(root: Path, **values) -> dict[str, Source]:
    return open_data(DataConfig(source="tars", root=root, **values))


def shades(source: Source) -> list[int]:
    return [read_from(source, index, channels=1).getpixel((1, 1)) for index in range(len(source))]


def test_shards_of_a_folder(tmp_path: Path) -> None:
    write_shards(write_shards(tmp_path / "shards"), "validation", shards=1)
    data = opened(tmp_path / "shards")
    assert list(data) == ["train", "val"]
    assert shades(data["train"]) == list(range(12))
    assert shades(data["val"]) == [0, 1, 2, 3]
    assert data["train"].labels.tolist() == [0, 1] * 6
    assert data["train"].classes == ("0", "1")
    assert isinstance(data["train"], ShardSource)
    assert data["train"].stored(5) == png(5)
    assert data["train"].name(5) == f"{tmp_path}/shards/train-001.tar[1]"
    assert shades(pickle.loads(pickle.dumps(data["train"]))) == list(range(12))


def test_patterns(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards", "part")
    write_shards(tmp_path / "shards", "rest", shards=1)
    whole = opened(tmp_path / "shards" / "part-{000..002}.tar")
    assert sum(map(len, whole.values())) == 12
    data = opened(tmp_path / "shards", splits=("train=part-{001,002}.tar", "test=rest-*.tar"))
    assert shades(data["train"]) == list(range(4, 12))
    assert shades(data["test"]) == [0, 1, 2, 3]


def test_classes_in_json_and_names_in_a_file(tmp_path: Path) -> None:
    samples = [
        {"__key__": str(number), "png": png(number), "json": {"label": number % 2, "breed": "xyz"[number % 3]}}
        for number in range(6)
    ]
    file = write_shard(tmp_path / "train.tar", samples)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert opened(file)["train"].classes == ("cat", "dog")
    named = opened(file, label_column="breed", class_names=("x", "y", "z"), test_fraction=0.5)
    assert named["train"].classes == ("x", "y", "z")
    assert sorted(named["train"].labels.tolist() + named["test"].labels.tolist()) == [0, 0, 1, 1, 2, 2]


def test_an_index_is_kept_until_the_shard_changes(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path / "shards")
    opened(tmp_path / "shards")
    cached = sorted(cache.iterdir())
    assert len(cached) == 3
    with monkeypatch.context() as patch:
        patch.setattr(tarfile, "open", lambda **_: pytest.fail("a shard was read again"))
        assert sum(map(len, opened(tmp_path / "shards").values())) == 12
    changed = tmp_path / "shards" / "train-001.tar"
    write_shard(changed, [{"__key__": str(number), "png": png(99), "cls": number % 2} for number in range(6)])
    os.utime(changed, ns=(10**18, 10**18))
    assert sum(map(len, opened(tmp_path / "shards").values())) == 14


def refused(root: Path, sentence: str, **values) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        opened(root, **values)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("size", [100, 700, 1024, 4096, -10240 + 4608])
def test_a_truncated_shard_is_named(tmp_path: Path, size: int) -> None:
    file = write_shards(tmp_path / "shards") / "train-001.tar"
    file.write_bytes(file.read_bytes()[:size])
    refused(tmp_path / "shards", f"{file} is ")
    refused(tmp_path / "shards", "download it again")


@pytest.mark.parametrize("at", [0, 512 * 2])
def test_a_shard_with_a_damaged_header_is_named(tmp_path: Path, at: int) -> None:
    file = write_shards(tmp_path / "shards") / "train-002.tar"
    content = bytearray(file.read_bytes())
    content[at : at + 512] = b"\x07" * 512
    file.write_bytes(content)
    refused(tmp_path / "shards", f"{file} is ")


def test_a_shard_that_shrinks_while_in_use_is_named(tmp_path: Path) -> None:
    source = opened(write_shards(tmp_path / "shards"))["test"]
    name = source.name(len(source) - 1)
    for file in (tmp_path / "shards").glob("*.tar"):
        file.write_bytes(b"")
    with pytest.raises(UnreadableImage) as caught:
        read_from(source, len(source) - 1, channels=1)
    assert str(caught.value).startswith(f"{name} cannot be read as an image: ")
    assert "has become shorter" in str(caught.value)


def test_wrong_use(tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    refused(
        tmp_path / "shards" / "train-{000..003}.tar", f"{tmp_path}/shards/train-003.tar does not exist: download it"
    )
    refused(tmp_path / "shards", "other-*.tar matches no file", splits=("train=other-*.tar",))
    write_shard(tmp_path / "shards" / "odd-000.tar", [{"__key__": "1", "png": png(1), "cls": 1}])
    refused(tmp_path / "shards", "the split of odd-000.tar is unclear")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no .tar files: unpack compressed ones")
    with pytest.raises(ValueError, match=r"--data\.source tars needs --data\.root"):
        open_data(DataConfig(source="tars"))


def test_samples_without_class_or_image(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "a.tar", [{"__key__": "7", "png": png(1)}])
    refused(tmp_path, f"{file}: 7 has no class: add its .cls")
    write_shard(file, [{"__key__": "7", "png": png(1), "json": {"breed": 1}}])
    refused(tmp_path, "or give its key in .json as --data.label-column")
    write_shard(file, [{"__key__": "7", "txt": "no picture"}])
    refused(tmp_path, f"{file} has no images")
    write_shard(file, [{"__key__": "7", "png": png(1), "jpg": png(1), "cls": 0}])
    refused(tmp_path, "7 has several images, ")
