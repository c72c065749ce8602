"""`vitral export --to html`: one file that classifies pictures in a browser, from file://."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import expect

from browsing import Visit
from models import small_model
from tiny import ARCHITECTURE
from vitral.cli import main
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.datasets.opening import open_data
from vitral.export.writing import ExportOptions, export_model
from vitral.inspection.attention import attention_over_image, attention_weights, rollout
from vitral.models import Model
from vitral.serve.predictor import Prediction, Predictor
from vitral.vit import ViT
from vitral.weights.folder import save_model

MARKUP = "<script>document.title = 'broken in'</script>"

COLLECT = "window.results = []; addEventListener('classified', (event) => results.push(event.detail));"

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("runtime")]


def written(model: Model, folder: Path, **options: Any) -> Path:
    path = folder / "my model.html"
    export_model(model, path, ExportOptions(to="html", **options), verify=lambda exported: "")
    return path


@pytest.fixture(scope="module")
def digits_model() -> ViT:
    """A model of grey images."""
    return small_model(ARCHITECTURE)


@pytest.fixture(scope="module")
def digits(digits_model: ViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(digits_model, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def colour_model() -> ViT:
    """A model whose card has every other choice."""
    model = small_model()
    assert model.card is not None
    preprocessing = Preprocessing(
        image_size=(16, 24),
        channels=3,
        resize="crop",
        crop_ratio=0.9,
        interpolation="bicubic",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
    )
    model.card = replace(model.card, classes=("cat", MARKUP, "dog"), preprocessing=preprocessing)
    return model


@pytest.fixture(scope="module")
def colour(colour_model: ViT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page, as the command line writes it; what it prints is beside it."""
    folder = tmp_path_factory.mktemp("colour")
    save_model(folder / "model", colour_model, colour_model.card)
    page, output = folder / "my model.html", io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        main(["export", str(folder / "model"), str(page)])
    (folder / "output").write_text(output.getvalue())
    return page


def visit(browser: Any, path: Path, **context: Any) -> Visit:
    """A visit to a page that has loaded its model."""
    visit = Visit(browser, "about:blank", **context)
    visit.context.add_init_script(COLLECT)
    visit.page.goto(path.as_uri())
    visit.page.locator("#bar").wait_for(state="hidden")
    return visit


@pytest.fixture
def in_colour(browser: Any, colour: Path) -> Iterator[Visit]:
    """A visit to the page of the colour model, without an error."""
    made = visit(browser, colour, viewport={"width": 390, "height": 844}, color_scheme="light")
    yield made
    assert made.errors == []
    made.context.close()


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(width: int = 60, height: int = 40, *, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def expected_logits(model: ViT, content: bytes) -> torch.Tensor:
    predictor = Predictor(model, device="cpu")
    return predictor.logits(torch.from_numpy(predictor.read(content, name="it")[None]))[0]


@pytest.mark.slow
def test_fifty_pictures_get_the_classes_of_predict(browser: Any, digits: Path, digits_model: ViT) -> None:
    source = open_data(DataConfig(source="digits"))["test"]
    images = {f"{index:02}.png": encoded(source.stored(index)) for index in range(50)}
    made = visit(browser, digits)
    made.add(**images)
    made.wait_for(50)
    results = {result["name"]: result for result in made.page.evaluate("results")}
    predictions = Predictor(digits_model, device="cpu").predict(list(images.values()))
    for (name, content), prediction in zip(images.items(), predictions, strict=True):
        assert isinstance(prediction, Prediction)
        card = made.card(name)
        assert card.locator(".classes li > span:not(.percent)").all_inner_texts() == list(prediction.classes), name
        logits = torch.tensor(results[name]["logits"])
        assert torch.allclose(logits, expected_logits(digits_model, content), atol=1e-3), name
    assert {url.partition(":")[0] for url in made.requests} == {"file", "blob"}
    assert sum(url.startswith("file:") for url in made.requests) == 1
    assert made.errors == []
    assert made.page.title() == "my model"
    made.context.close()


def test_colour_logits_and_attention_are_those_of_python(in_colour: Visit, colour_model: ViT) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "photo.jpg": encoded(noise(), "JPEG", exif=exif),
        "small.png": encoded(noise(5, 9)),
        "grey.png": encoded(noise().convert("L")),
        "wide.webp": encoded(noise(300, 8), "WEBP", lossless=True),
    }
    in_colour.add(**images)
    in_colour.wait_for(len(images))
    for result in in_colour.page.evaluate("results"):
        content = images[result["name"]]
        assert torch.allclose(torch.tensor(result["logits"]), expected_logits(colour_model, content), atol=1e-3)
        assert np.allclose(result["attention"], rollouts(colour_model, content), atol=1e-5)


def rollouts(model: ViT, content: bytes) -> np.ndarray:
    """The rollout through the first layers, for each number of them."""
    assert model.card is not None
    preprocessing = model.card.preprocessing
    pixels = torch.from_numpy(preprocessing.pixels(preprocessing.read(content, name="it"))[None].copy())
    weights = attention_weights(model, preprocessing.normalise(pixels))
    parts = [rollout(weights[: count + 1]) for count in range(len(weights))]
    maps = (attention_over_image(part, grid=model.config.grid, queries=model.pool_tokens)[0] for part in parts)
    return torch.stack(list(maps)).numpy()


def test_names_are_text_and_the_page_fits_a_phone(in_colour: Visit) -> None:
    in_colour.add(**{f"{MARKUP}.png": encoded(noise()), "two.png": encoded(noise(seed=1))})
    in_colour.wait_for(2)
    assert MARKUP in in_colour.card(f"{MARKUP}.png").locator(".classes").inner_text()
    in_colour.page.get_by_text("About the model").click()
    assert MARKUP in in_colour.page.locator("#facts").inner_text()
    assert in_colour.page.title() == "my model"
    assert in_colour.overflow() <= 0


def test_the_slider_is_moved_by_keyboard(in_colour: Visit) -> None:
    in_colour.add(**{"a.png": encoded(noise())})
    in_colour.wait_for(1)
    card = in_colour.card("a.png")
    button, image = card.get_by_role("button", name="Show attention"), card.locator("img")
    button.focus()
    in_colour.page.keyboard.press("Enter")
    expect(image).to_have_attribute("alt", re.compile("does not look"))
    whole = image.get_attribute("src")
    assert whole is not None
    in_colour.slide(card, 1)
    expect(image).not_to_have_attribute("src", whole)
    assert card.get_by_role("slider", name="Layer 1 of 2").get_attribute("aria-valuetext") == "Layer 1 of 2"
    button.press("Enter")
    expect(image).to_have_attribute("alt", "a.png")


TORN = {
    "half.png": (encoded(noise())[:-500], "damaged"),
    "half.jpg": (encoded(noise(), "JPEG")[:-200], "damaged"),
    "half.webp": (encoded(noise(), "WEBP")[:-200], "damaged"),
    "half.gif": (encoded(noise(), "GIF")[:-200], "damaged"),
    "paper.jpg": (b"%PDF-1.7 of another name", "PDF"),
    "empty.png": (b"", "empty"),
    "text.png": (b"no picture at all", "no picture"),
    "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "SVG"),
    "film.mp4": (b"\0\0\0\x20ftypisom" + bytes(99), "video"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC"),
}


def test_what_is_no_picture_gets_one_sentence(in_colour: Visit) -> None:
    in_colour.add(**{name: content for name, (content, _) in TORN.items()})
    in_colour.wait_for(len(TORN))
    for name, (_, word) in TORN.items():
        text = in_colour.card(name).locator(".error").inner_text()
        assert text.startswith(name), text
        assert word in text, text
        assert text.count(".") - text.count(name) * name.count(".") == 1, text


@pytest.mark.slow
def test_large_photographs(in_colour: Visit, colour_model: ViT) -> None:
    big = encoded(noise(87, 58).resize((8700, 5800)), "JPEG", quality=30)
    in_colour.add(**{"big.jpg": big, "bigger.jpg": encoded(Image.new("RGB", (14_000, 10_000)), "JPEG")})
    in_colour.wait_for(2)
    assert re.fullmatch(
        r"This picture has 50 megapixels; .*s\.", in_colour.card("big.jpg").locator(".note").inner_text()
    )
    (result,) = in_colour.page.evaluate("results")
    assert torch.allclose(torch.tensor(result["logits"]), expected_logits(colour_model, big), atol=1e-2)
    assert "140 megapixels" in in_colour.card("bigger.jpg").locator(".error").inner_text()


@pytest.mark.slow
def test_half_and_eight_bits(browser: Any, colour_model: ViT, tmp_path: Path) -> None:
    content = encoded(noise())
    expected = expected_logits(colour_model, content)
    for precision, tolerance in (("float16", 0.01), ("int8", 0.1)):
        folder = tmp_path / precision
        folder.mkdir()
        made = visit(browser, written(colour_model, folder, precision=precision))
        made.add(**{"a.png": content})
        made.wait_for(1)
        (result,) = made.page.evaluate("results")
        assert torch.allclose(torch.tensor(result["logits"]), expected, atol=tolerance * expected.abs().max()), (
            precision
        )
        made.context.close()


def test_the_size_is_said_before_the_page_is_written(colour: Path) -> None:
    output = (colour.parent / "output").read_text()
    expected = re.search(r"will have about (\d+) MB, with weights in float32", output)
    assert expected
    assert int(expected[1]) == pytest.approx(colour.stat().st_size / 1e6, rel=0.3)
    assert output.index("will have") < output.index("equal to rounding")
    assert json.loads((colour.parent / "my model.html.parity.json").read_text())["passed"]


def test_a_page_names_no_folders_and_no_hosts(colour: Path) -> None:
    page = colour.read_text()
    assert str(colour.parent) not in page
    assert not re.search(r"https?://", re.sub(r"<script type=.text/plain.*", "", page))


def with_card(page: Path, folder: Path, card: dict[str, Any]) -> Path:
    """A copy of a page whose card says something else: of two equal keys, the last one counts."""
    copy = folder / "copy.html"
    more = json.dumps(card)[1:-1]
    copy.write_text(page.read_text().replace('"runtime": ', f'{more}, "runtime": ', 1))
    return copy


def test_labels_above_their_thresholds_are_marked(
    browser: Any, colour: Path, colour_model: ViT, tmp_path: Path
) -> None:
    content = encoded(noise())
    probabilities = expected_logits(colour_model, content).sigmoid().tolist()
    order = sorted(range(3), key=lambda label: -probabilities[label])
    thresholds = [probability + 0.01 for probability in probabilities]
    thresholds[order[1]] -= 0.02
    for case in (thresholds, [1.0] * 3):
        made = visit(browser, with_card(colour, tmp_path, {"target": "multi-label", "thresholds": case}))
        made.add(**{"a.png": content})
        made.wait_for(1)
        percent = made.page.locator(".classes .percent").all_inner_texts()
        assert percent == [f"{100 * probabilities[label]:.1f} %" for label in order]
        marked = made.page.locator(".classes .chosen")
        if case is thresholds:
            assert marked.count() == 1
            assert "above its threshold" in marked.inner_text()
        else:
            assert marked.count() == 0
            assert made.page.get_by_text("No label is above its threshold.").count() == 1
        made.context.close()


def test_a_number_is_shown_with_its_name(browser: Any, colour: Path, colour_model: ViT, tmp_path: Path) -> None:
    content = encoded(noise())
    made = visit(browser, with_card(colour, tmp_path, {"target": "regression", "classes": ["age"]}))
    made.add(**{"a.png": content})
    made.wait_for(1)
    name, value = made.page.locator(".card .value").inner_text().split(": ")
    assert name == "age"
    assert float(value) == pytest.approx(float(expected_logits(colour_model, content)[0]), rel=1e-3)
    made.context.close()


def test_a_page_is_a_model_of_predict(colour: Path, colour_model: ViT) -> None:
    image = noise(33, 44)
    ours, theirs = (Predictor(model, device="cpu")(image) for model in (colour_model, colour))
    assert ours.classes == theirs.classes
    assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)


@pytest.mark.slow
def test_without_attention_there_is_no_button(browser: Any, tmp_path: Path) -> None:
    made = visit(browser, written(small_model(attention="axial", pool="gap"), tmp_path))
    made.add(**{"a.png": encoded(noise())})
    made.wait_for(1)
    assert made.page.locator(".classes li").count() == 3
    assert made.page.get_by_role("button", name="Show attention").count() == 0
    made.context.close()
