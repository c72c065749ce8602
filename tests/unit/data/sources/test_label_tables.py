"""Label files as columns of text: every text, encoding and list is read, and what is no table is named."""

import csv
import json
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.sources.label_tables import read_table

TEXT = st.text(st.one_of(st.sampled_from("\r\n\",;|='\\ \t\0\ufeff[]{}"), st.characters(exclude_categories=["Cs"])))
AWKWARD = [
    "=1+1",
    ' "a" ',
    "a\nb",
    "a\r\nb",
    "\r",
    ",;|\t",
    "",
    "é",
    "[]",
    "\u2028",
    "a\\b",
    "'",
    "007",
    "\ufeff",
    "\0",
]


def write(file: Path, rows: list[tuple[str, str]]) -> Path:
    """Paths and classes in the format of the file's ending."""
    records = [{"file_name": path, "label": label} for path, label in rows]
    if file.suffix == ".json":
        text = json.dumps(records)
    elif file.suffix == ".jsonl":
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    else:
        stream = StringIO(newline="")
        writer = csv.writer(stream, delimiter="\t" if file.suffix == ".tsv" else ",")
        writer.writerows([["file_name", "label"], *rows])
        text = stream.getvalue()
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_any_text_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[tuple[str, str]]
) -> None:
    file = write(tmp_path_factory.getbasetemp() / f"any{suffix}", rows)
    table = read_table(file)
    assert list(zip(table.columns["file_name"], table.columns["label"], strict=True)) == rows
    assert list(table.columns) == ["file_name", "label"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
def test_awkward_text_is_read_back(tmp_path: Path, suffix: str) -> None:
    rows = [(text, text) for text in AWKWARD]
    table = read_table(write(tmp_path / f"l{suffix}", rows))
    assert table.columns == {"file_name": AWKWARD, "label": AWKWARD}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "l.csv").write_bytes("image,label\na.png,été\nb.png,猫\n".encode(encoding))
    assert read_table(tmp_path / "l.csv").columns == {"image": ["a.png", "b.png"], "label": ["été", "猫"]}


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("sep=;\r\nimage;label\r\na.png;x,y\r\n", {"image": ["a.png"], "label": ["x,y"]}),
        ('"a, or b";label\na.png;x\n', {"a, or b": ["a.png"], "label": ["x"]}),
        ("image, label\na.png, x\n", {"image": ["a.png"], "label": [" x"]}),
        ("image,label,,\na.png,x,,\n", {"image": ["a.png"], "label": ["x"]}),
        ("a.png,x\nb.png,y\n", {"1": ["a.png", "b.png"], "2": ["x", "y"]}),
    ],
)
def test_headers_and_delimiters(tmp_path: Path, text: str, columns: dict[str, list[str]]) -> None:
    (tmp_path / "l.csv").write_text(text, newline="")
    assert read_table(tmp_path / "l.csv").columns == columns


@pytest.mark.parametrize(
    ("text", "paths", "labels"),
    [
        ("a.png x\nb.JPG y z\n", ["a.png", "b.JPG"], ["x", "y z"]),
        ("my photos/a.png\tx\r\nb.png\ty\r\n", ["my photos/a.png", "b.png"], ["x", "y"]),
        ("my photos/a.png polar bear\n\nb.png  y\n", ["my photos/a.png", "b.png"], ["polar bear", "y"]),
        ("image label\na.png x\nb.png y\n", ["a.png", "b.png"], ["x", "y"]),
        ("image,label\na.png,x\n", ["a.png"], ["x"]),
        ("0a1b x\n0c2d y\n", ["0a1b", "0c2d"], ["x", "y"]),
        ("train/x/a.png\ny\\b.png\n", ["train/x/a.png", "y\\b.png"], ["x", "y"]),
    ],
)
def test_plain_lists(tmp_path: Path, text: str, paths: list[str], labels: list[str]) -> None:
    (tmp_path / "train.txt").write_text(text, newline="")
    assert list(read_table(tmp_path / "train.txt").columns.values()) == [paths, labels]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"PK\x03\x04...", "is a spreadsheet or a zip file: export it as CSV"),
        (b"\xd0\xcf\x11\xe0...", "is a spreadsheet"),
        (b"\x1f\x8b...", "is compressed: unpack it"),
        (b"PAR1...", "read it with --data.source hub"),
        (b" \n", "is empty"),
        ("image,label\na.png,x\nb.png,été\n".encode("latin-1"), "is not UTF-8 text: save it as UTF-8 (line 3 has the"),
        (b"\xff\xfea\x00\x00\xd8", "is damaged UTF-16 text"),
        (b"a.png\nb.png\n", "lists images without classes"),
        (b"a.png x\n\nb.png y\nc z w\n", "has the line 'c z w' without an image"),
        (b"[{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a": {}}', "has no list of records"),
        (b'[{"image": "a.png", "label": "\\ud800"}]', "has half of a surrogate pair in its 'label'"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        read_table(tmp_path / "labels.txt")
    assert sentence in str(caught.value)


def test_json_lines_with_another_ending(tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text('{"image": "a.png", "label": 1}\n{"image": "b.png", "label": 2, "more": 3}\n')
    table = read_table(tmp_path / "l.json")
    assert table.columns == {"image": ["a.png", "b.png"], "label": ["1", "2"], "more": ["", "3"]}
