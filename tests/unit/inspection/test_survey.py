"""Tokens, distances and figures of a small model over given images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from models import small_model
from vitral.errors import UserError
from vitral.inspection.attention import attention_distance, attention_weights
from vitral.inspection.document import write_document
from vitral.inspection.drawing import DRAWN, draw
from vitral.inspection.survey import Sample, Survey, uniform_distance
from vitral.inspection.tokens import token_colours, token_norms
from vitral.vit import ViT

NAMES = ("attention", *DRAWN)
FIGURES = {name: f"what {name} shows" for name in NAMES}


def survey(model: ViT, *, images: int = 3, count: int = 2) -> Survey:
    def samples() -> Iterator[Sample]:
        rng = np.random.default_rng(0)
        for number in range(images):
            pixels = rng.integers(0, 256, (16, 24, 3), np.uint8)
            yield Sample(
                name=f"{number}.png",
                image=model.card.preprocessing.read(Image.fromarray(pixels), name=None),
                truth="class 0",
            )

    return Survey(model, samples, count=count)


def test_distances_are_means_over_all_images_not_only_the_drawn_ones() -> None:
    model = small_model()
    result = survey(model, images=11)
    distances, count = result.distances
    assert (count, distances.shape, len(result.looks)) == (11, (2, 3), 2)
    everything = survey(model, images=11, count=11)
    pixels = torch.cat([everything.pixels(sample) for sample in everything.samples])
    weights = attention_weights(model, pixels)
    expected = [attention_distance(layer, grid=(2, 3), patch_size=(8, 8)) for layer in weights]
    assert_close(distances, torch.stack(expected))


@pytest.mark.parametrize(
    ("side", "patch", "pixels"), [(14, 16, 116.4922), (7, 32, 115.5029), (16, 14, 116.5651), (24, 16, 200.0480)]
)
def test_the_line_of_even_attention_is_at_the_papers_values(side: int, patch: int, pixels: float) -> None:
    assert uniform_distance((side, side), (patch, patch)) == pytest.approx(pixels, abs=1e-3)


def test_similar_tokens_have_similar_colours() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(4, 16)
    tokens = centres.repeat(2, 5, 1) + 0.01 * torch.randn(2, 20, 16, generator=generator)
    colours = token_colours(tokens)
    assert colours.shape == (2, 20, 3)
    assert 0 <= colours.min() <= colours.max() <= 1
    groups = colours.reshape(2, 5, 4, 3)
    assert np.ptp(groups, axis=(0, 1)).max() < 0.05
    assert min(np.abs(groups[0, 0, i] - groups[0, 0, j]).max() for i in range(4) for j in range(i)) > 0.3


def test_equal_tokens_are_grey_and_one_token_is_too() -> None:
    assert (token_colours(torch.ones(1, 4, 8)) == 0.5).all()
    assert (token_colours(torch.rand(1, 1, 8)) == 0.5).all()


def test_norms() -> None:
    assert token_norms(torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])).tolist() == [[5, 0]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("changes", [dict(), dict(pool="gap", channels=1, image_size=8)], ids=["colour", "one patch"])
def test_every_figure_is_drawn(name: str, changes: dict, tmp_path: Path) -> None:
    figure = draw(name, survey(small_model(**changes)))
    figure.savefig(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 5


def test_layers_have_their_own_scale_unless_they_share_one() -> None:
    looks = survey(small_model(), count=1)
    labels = [axes.get_title() for axes in draw("attention", looks).axes]
    assert labels[:2] == ["image", "attention rollout"]
    assert [label.split(",")[0] for label in labels[2:]] == ["layer 1", "layer 2"]
    norms = [axes.images[0].norm.vmax for axes in draw("attention", looks).axes[2:4]]
    assert norms == pytest.approx([float(layer.max()) for layer in looks.looks[0].layers])
    shared = [axes.images[0].norm.vmax for axes in draw("attention", looks, shared_scale=True).axes[2:4]]
    assert shared == pytest.approx([max(norms)] * 2)


@pytest.mark.parametrize("suffix", [".html", ".pdf"])
def test_a_document_holds_what_the_model_has_and_says_what_it_has_not(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"all{suffix}"
    skipped = write_document(survey(small_model(position="rope")), path, model="<run>", figures=FIGURES)
    assert list(skipped) == ["positions"]
    content = path.read_bytes()
    if suffix == ".pdf":
        assert content.startswith(b"%PDF")
        assert content.count(b"/Type /Page ") == len(NAMES) - 1
        return
    text = content.decode()
    assert text.count("<img") == text.count("data:image/png") == len(NAMES) - 1
    assert "&lt;run&gt;" in text
    assert "Not drawn: this model adds no position embedding" in text


def test_a_model_of_rows_and_columns_still_shows_its_filters(tmp_path: Path) -> None:
    model = small_model(attention="axial", pool="gap")
    skipped = write_document(survey(model), tmp_path / "all.html", model="run", figures=FIGURES)
    assert set(skipped) == {"attention", "rollout", "distance", "tokens", "relevance"}


def test_without_an_image_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give images to draw"):
        write_document(survey(small_model(), images=0), tmp_path / "all.html", model="run", figures=FIGURES)
    assert not list(tmp_path.iterdir())
