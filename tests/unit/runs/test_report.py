"""The report of a run: complete, well formed, self-contained, and safe whatever the names in the data."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import tiny_run
from vitral.card import ModelCard
from vitral.config import to_dict
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import ArraySource
from vitral.evals.predictions import Predictions
from vitral.runs.predictions import PREDICTIONS, SavedPredictions, load_predictions, save_predictions
from vitral.runs.report import ReportData, confusion, data_table, write_report
from vitral.train.profiling.bottleneck import speed_table
from vitral.train.profiling.setup import Setup
from vitral.train.profiling.stopwatch import Timing

CLASSES = ("<script>alert(1)</script>", 'a "quoted" & b', "{{ 7 * 7 }}")
VOID = {"meta", "img", "br", "line", "polyline", "circle"}

FOUND = Predictions(
    truth=torch.tensor([0, 0, 1, 2, 2]),
    top=torch.tensor([[0, 1, 2], [1, 0, 2], [1, 0, 2], [0, 1, 2], [1, 2, 0]]),
    confidence=torch.tensor([0.9, 0.6, 0.8, 0.7, 0.95]),
    loss=torch.ones(5),
    readable=torch.tensor([True, False, True, True, True, True]),
    num_classes=3,
    unreadable=("photos/<b>.jpg is cut short",),
)
"""Of six images the second could not be read."""


def source(classes: tuple[str, ...] = CLASSES) -> ArraySource:
    images = np.arange(6, dtype=np.uint8)[:, None, None] * np.full((1, 8, 8), 40, np.uint8)
    return ArraySource(title="<i>shades</i>", images=images, labels=np.array([0, 1, 0, 1, 2, 2]), classes=classes)


def report_data(**changes: object) -> ReportData:
    records = [
        {"step": 10, "train/loss": 1.5, "train/accuracy": 0.25, "lr": 0.1, "images_per_second": 640.0},
        {"step": 10, "val/top1": 0.5, "val/loss": 1.25},
        {"step": 20, "train/loss": 0.5, "train/accuracy": 0.75, "lr": 0.0, "images_per_second": 320.0},
        {"step": 20, "test/top1": 0.4, "test/loss": 1.0},
    ]
    timing = Timing(steps=10, images=640, seconds=2.0, waiting=0.5, reading=1.28, compute=1.25, augment=0.05)
    whole = ReportData(
        settings=to_dict(replace(tiny_run(), command=("vitral train digits --out 'a<b'",))),
        card=ModelCard(
            preprocessing=Preprocessing(image_size=(8, 8), channels=1),
            classes=CLASSES,
            provenance={"vitral": "9.8.7", "torch": "2.99", "python": "3.14"},
            metrics={"test/top1": 0.4, "test/loss": 1.0},
        ),
        records=records,
        speed=speed_table(timing, Setup(), memory=512_000_000),
        data={"train": source(), "test": source()},
        predictions=FOUND,
    )
    return replace(whole, **changes)


class Reader(HTMLParser):
    """Parses a page and checks that each tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and "style" not in self.open:
            self.words.append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(folder: Path, **changes: object) -> Reader:
    return Reader(write_report(folder, report_data(**changes)).read_text())


def test_the_page_is_complete(tmp_path):
    read = page(tmp_path)
    text = " | ".join(read.words)
    assert "test accuracy | 40.00%" in text
    assert "training time | 0.1 min" in text  # 10 steps of 64 images at 640 a second, and 10 at 320: 3 seconds
    assert "vitral train digits --out 'a<b'" in text
    assert "vitral 9.8.7, torch 2.99, python 3.14" in text
    assert "The run waits 25% of its time for images: reading takes 2 ms per image" in text
    assert "waiting | 25.0% | 50.0 ms" in text
    assert "512 MB of peak memory" in text
    assert "6 train images, 6 test images" in text
    assert '"recipe": "tiny"' in text
    assert [word for word in read.words if word in ("Loss", "Accuracy", "Learning rate", "Images per second")]
    assert "10 | val | 50.00% | 1.2500 | 20 | test | 40.00% | 1.0000" in text


def test_names_are_escaped(tmp_path):
    written = write_report(tmp_path, report_data()).read_text()
    assert "<script" not in written
    assert "<i>shades" not in written
    assert "<b>.jpg" not in written
    read = Reader(written)
    for name in CLASSES:
        assert name in read.words
    assert any(name in (image["alt"] or "") for image in read.all("img") for name in CLASSES)


def test_the_page_is_self_contained(tmp_path):
    read = page(tmp_path)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in read.tags}
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in read.all("img"))
    written = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?://|@import|url\(", written)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_page_is_accessible(tmp_path):
    read = page(tmp_path)
    assert read.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in read.all("img"))
    named = {attributes.get("id") for _, attributes in read.tags}
    pictures = [svg for svg in read.all("svg") if "aria-hidden" not in svg]
    assert len(pictures) == 4
    for svg in (*pictures, *read.all("section")):
        assert set((svg["aria-labelledby"] or "").split()) <= named
    headings = [int(tag[1]) for tag, _ in read.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(headings))
    assert all(header.get("scope") in ("col", "row") for header in read.all("th"))


def test_mistakes_are_the_most_confident_first_and_of_the_right_image(tmp_path):
    read = page(tmp_path)
    names = [image["alt"].split(",")[0] for image in read.all("img")]
    # rows 4, 3 and 1 are wrong; the unreadable second image shifts them to images 5, 4 and 2
    assert names[:3] == [source().name(index) for index in (5, 4, 2)]
    assert names[3:] == [source().name(index) for index in (0, 2, 3, 4, 5)]


def test_an_unfinished_run_has_a_page_too(tmp_path):
    read = page(tmp_path, card=None, predictions=None, speed=None, data="photos does not exist")
    text = " | ".join(read.words)
    assert ", not finished yet." in text
    assert "The images are missing: photos does not exist." in text
    assert not read.all("img")
    empty = page(tmp_path, card=None, predictions=None, speed=None, data="gone", records=[])
    assert not empty.all("svg")


def test_the_evaluation_table_has_the_metrics_of_any_objective(tmp_path):
    records = [
        {"step": 10, "train/loss": 1.5, "lr": 0.1},
        {"step": 10, "val/knn": 0.5, "val/linear": 0.625},
        {"step": 20, "test/knn": 0.75},
    ]
    read = page(tmp_path, records=records, predictions=None)
    text = " | ".join(read.words)
    assert "step | split | kNN accuracy | linear probe | 10 | val | 50.00% | 62.50% | 20 | test | 75.00% |" in text


def test_confusion_in_numbers():
    table = confusion(FOUND, CLASSES)
    assert table["whole"]
    mixed = [(1, 0.5), (1, 0.5), (0, 0.0)]
    assert table["cells"] == [mixed, [(0, 0.0), (1, 1.0), (0, 0.0)], mixed]
    assert table["pairs"][0] == (CLASSES[0], CLASSES[1], 1, 2)
    assert len(table["pairs"]) == 3
    assert table["worst"] == [(CLASSES[2], 0.0, 2), (CLASSES[0], 0.5, 2), (CLASSES[1], 1.0, 1)]


def test_many_classes_become_lists(tmp_path):
    count = 130
    classes = tuple(f"class {number}" for number in range(count))
    truth = torch.arange(count).repeat(2)
    top = truth[:, None].clone()
    top[:30, 0] = 0
    many = Predictions(
        truth=truth,
        top=top,
        confidence=torch.full((2 * count,), 0.5),
        loss=torch.ones(2 * count),
        readable=torch.ones(2 * count, dtype=torch.bool),
        num_classes=count,
    )
    table = confusion(many, classes)
    assert not table["whole"]
    assert not table["cells"]
    assert len(table["pairs"]) == len(table["worst"]) == 20
    labels = np.concatenate([np.arange(count), np.full(5, 77)])
    images = np.zeros((len(labels), 2, 2), np.uint8)
    split_table = data_table({"train": ArraySource(title="many", images=images, labels=labels, classes=classes)})
    assert split_table["rows"][0] == ("class 77", [6])
    assert (len(split_table["rows"]), split_table["more"]) == (100, 30)
    card = replace(report_data().card, classes=classes)
    read = page(tmp_path, card=card, predictions=many, data="not here")
    assert "and 30 more classes." not in read.words
    assert not any(attributes.get("class") == "confusion" for attributes in read.all("table"))


def test_predictions_round_trip(tmp_path):
    save_predictions(tmp_path, SavedPredictions(split="val", images="6 images", predictions=FOUND))
    loaded = load_predictions(tmp_path)
    assert (loaded.split, loaded.images) == ("val", "6 images")
    found = loaded.predictions
    assert (found.num_classes, found.unreadable) == (FOUND.num_classes, FOUND.unreadable)
    for name in Predictions.COLUMNS:
        torch.testing.assert_close(getattr(found, name), getattr(FOUND, name), rtol=0, atol=0)
    assert found.positions().tolist() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [None, b"", b"no tensors", json.dumps({"a": 1}).encode()])
def test_missing_or_damaged_predictions_are_none(tmp_path, content):
    if content is not None:
        (tmp_path / PREDICTIONS).write_bytes(content)
    assert load_predictions(tmp_path) is None


def luminance(colour: str) -> float:
    """Relative luminance of a colour such as #fff, as WCAG 2 defines it."""
    digits = colour.removeprefix("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_has_contrast_in_light_and_dark_mode(tmp_path):
    style = write_report(tmp_path, report_data()).read_text()
    schemes = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#\w+)", scheme))
        red, green, blue = re.search(r"--cell: (\d+), (\d+), (\d+)", scheme).groups()
        colours["cell"] = f"#{int(red):02x}{int(green):02x}{int(blue):02x}"
        for text, ground in [
            ("ink", "paper"),
            ("ink", "panel"),
            ("ink", "cell"),
            ("quiet", "paper"),
            ("quiet", "panel"),
        ]:
            bright, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
        for text in ("right", "wrong"):
            bright, dark = sorted((luminance(colours[text]), luminance(colours["paper"])), reverse=True)
            assert (bright + 0.05) / (dark + 0.05) >= 4.5, text


def test_the_confusion_matrix_can_be_read_on_a_narrow_screen(tmp_path):
    style = write_report(tmp_path, report_data()).read_text()
    columns, rows = (
        re.search(rf"table\.confusion {selector} \{{(.*?)\}}", style, flags=re.DOTALL)[1]
        for selector in (r"thead th \+ th", "tr > th:first-child")
    )
    assert "writing-mode: vertical-rl" in columns
    assert "position: sticky" in rows
