"""Inferring the kind of data from a path."""

from pathlib import Path

import pytest

from vitral.data.config import DataConfig
from vitral.datasets.infer import infer_source


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("train/data-00000-of-00001.arrow", "hub"),
        ("data/train-00000.parquet", "hub"),
        ("dataset_dict.json", "hub"),
        ("vitral_pack.json", "hub"),
        ("train-000.tar", "tars"),
        ("train-images-idx3-ubyte.gz", "idx"),
        ("cat/1.jpg", "folder"),
    ],
)
def test_folders(tmp_path: Path, file: str, source: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert infer_source(str(tmp_path)) == DataConfig(source=source, root=tmp_path)


def test_names_files_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.parquet").touch()
    assert infer_source("cifar10") == DataConfig(source="cifar10")
    assert infer_source("digits") == DataConfig(source="digits")
    assert infer_source("train.parquet") == DataConfig(source="hub", root=Path("train.parquet"))
    assert infer_source("shards/train-{000..146}.tar").source == "tars"
    assert infer_source("owner/name") == DataConfig(source="hub", root=Path("owner/name"))
    for nothing in ("nowhere", "./nowhere", "/no/where", "a/b/c"):
        with pytest.raises(ValueError, match="does not exist: give a folder, a data set's name"):
            infer_source(nothing)


@pytest.mark.parametrize("name", ["labels.csv", "labels.TSV", "labels.jsonl", "coco.json", "train.txt"])
def test_label_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert infer_source(str(tmp_path / name)) == DataConfig(source="csv", root=tmp_path / name)
