"""Excluding images by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from vitral.data.config import DataConfig
from vitral.data.sources.exclude import write_list
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data


def names(source: Source) -> set[str]:
    return {source.name(index) for index in range(len(source))}


def test_listed_images_are_left_out_and_no_other_moves(photographs: Path, tmp_path: Path) -> None:
    config = DataConfig(source="folder", root=photographs)
    whole = open_data(config)
    gone = {whole["train"].name(3), whole["train"].name(8), whole["test"].name(0)}
    write_list(tmp_path / "gone.txt", gone, root=photographs)
    lines = (tmp_path / "gone.txt").read_text().splitlines()
    assert {str(photographs / line) for line in lines} == gone
    remaining = open_data(replace(config, exclude=tmp_path / "gone.txt"))
    for split in ("train", "test"):
        assert names(remaining[split]) == names(whole[split]) - gone
        assert len(remaining[split].labels) == len(remaining[split])
        assert remaining[split].classes == whole[split].classes


def test_a_list_fits_data_that_has_moved(photographs: Path, tmp_path: Path) -> None:
    write_list(tmp_path / "gone.txt", [str(photographs / "cat" / "001-plain.webp")], root=photographs)
    moved = tmp_path / "moved"
    moved.symlink_to(photographs)
    config = DataConfig(source="folder", root=moved, exclude=tmp_path / "gone.txt")
    assert sum(map(len, open_data(config).values())) == sum(1 for _ in photographs.rglob("*.*")) - 1


def test_a_list_for_a_label_file_is_relative_to_its_folder(photographs: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.symlink_to(photographs)
    rows = [f"moved/{file.relative_to(photographs)},{file.parent.name}" for file in sorted(photographs.rglob("*.*"))]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    config = DataConfig(source="csv", root=tmp_path / "labels.csv")
    gone = open_data(config)["train"].name(0)
    write_list(tmp_path / "gone.txt", [gone], root=config.root)
    assert (tmp_path / "gone.txt").read_text().startswith("moved/")
    assert gone not in names(open_data(replace(config, exclude=tmp_path / "gone.txt"))["train"])


def test_a_list_of_other_data_is_refused(tmp_path: Path) -> None:
    config = DataConfig(source="digits", exclude=tmp_path / "gone.txt")
    with pytest.raises(ValueError, match=r"gone\.txt does not exist: .*--data\.exclude"):
        open_data(config)
    (tmp_path / "gone.txt").write_text("digits[7]\nletters[7]\n")
    with pytest.raises(ValueError, match=r"gone\.txt lists letters\[7\], which the data does not have"):
        open_data(config)
    (tmp_path / "gone.txt").write_text("".join(f"digits[{index}]\n" for index in range(1797)))
    with pytest.raises(ValueError, match=r"gone\.txt names every train image"):
        open_data(config)
