"""The picture of `vitral inspect`: its content and size, and that it is written whole or not at all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitral.inspection.look import Look
from vitral.inspection.picture import draw_looks, evenly_spaced_layers, image_title, overlay_rollout

WHITE = Image.new("L", (40, 20), 255)


def random_look(size: tuple[int, int] = (8, 8), depth: int = 4) -> Look:
    layers = torch.rand(depth, 2, 3, generator=torch.Generator().manual_seed(0))
    return Look(
        name="$x_1$.png",
        image=Image.new("RGB", size, "orange"),
        truth="cat & dog",
        predicted="100 % $",
        probability=0.5,
        rollout=layers[0],
        layers=layers,
    )


@pytest.mark.parametrize(
    ("depth", "layers"), [(1, [0]), (4, [0, 1, 2, 3]), (6, [0, 1, 2, 3, 4, 5]), (12, [0, 2, 4, 7, 9, 11])]
)
def test_deep_models_show_evenly_spaced_layers(depth: int, layers: list[int]) -> None:
    assert evenly_spaced_layers(depth) == layers


def test_the_maximum_keeps_its_colour_and_the_minimum_is_black() -> None:
    overlay = overlay_rollout(WHITE, torch.tensor([[0.1, 0.3]]))
    assert overlay.shape == (20, 40, 3)
    assert (overlay[:, -1] == 255).all()
    assert (overlay[:, 0] == 0).all()
    assert (np.diff(overlay[10, :, 0].astype(int)) >= 0).all()


def test_even_attention_darkens_nothing() -> None:
    assert (overlay_rollout(WHITE, torch.full((2, 2), 0.25)) == 255).all()


@pytest.mark.parametrize("size", [(8, 8), (640, 427), (200, 900), (1, 300)])
def test_images_of_any_proportions_are_drawn(size: tuple[int, int], tmp_path: Path) -> None:
    draw_looks([random_look(size)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        # nothing reaches the edge
        frame = np.asarray(picture.convert("L"))
        assert min(frame[0].min(), frame[-1].min(), frame[:, 0].min(), frame[:, -1].min()) == 255
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_every_image_has_a_row_and_every_layer_a_column(tmp_path: Path) -> None:
    sizes = {}
    for name, looks in {"one": [random_look()], "two": [random_look()] * 2, "deep": [random_look(depth=30)]}.items():
        draw_looks(looks, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as picture:
            sizes[name] = picture.size
    assert sizes["two"][0] == sizes["one"][0]
    assert sizes["two"][1] > 1.6 * sizes["one"][1]
    assert sizes["deep"][0] > sizes["one"][0]


@pytest.mark.parametrize(("depth", "inches"), [(1, 5.66), (2, 7.46), (4, 11.06)])
def test_the_picture_is_as_wide_as_its_panels_and_holds_all(depth: int, inches: float, tmp_path: Path) -> None:
    draw_looks([random_look(depth=depth), replace(random_look(depth=depth), name="n" * 50)], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == pytest.approx(130 * inches, abs=1.5)
        frame = np.asarray(picture.convert("L"))
    assert min(frame[:8].min(), frame[-8:].min(), frame[:, :8].min(), frame[:, -8:].min()) == 255


def test_a_title_breaks_where_one_line_is_too_short() -> None:
    assert image_title(random_look(), max_length=80) == "$x_1$.png: predicted 100 % $ (50%), true class cat & dog"
    unknown = replace(random_look(), predicted=None, probability=None)
    assert image_title(unknown, max_length=80) == "$x_1$.png: true class cat & dog"
    assert image_title(replace(unknown, truth=None), max_length=80) == "$x_1$.png"
    assert image_title(random_look(), max_length=50) == "$x_1$.png:\npredicted 100 % $ (50%), true class cat & dog"
    assert image_title(replace(random_look(), name="a\nb"), max_length=80).startswith("a b: ")


def test_names_without_letters_to_draw_them_are_drawn(tmp_path: Path) -> None:
    draw_looks([replace(random_look(), name="図\udce9.png", truth="猫", predicted="caf\udce9")], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_long_names_stay_inside(tmp_path: Path) -> None:
    long = replace(random_look(depth=1), name="n" * 300, truth="W" * 300, predicted="M" * 300)
    draw_looks([long], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert np.asarray(picture.convert("L"))[:, -4:].min() == 255


def test_a_folder_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        draw_looks([random_look()], tmp_path / "missing" / "a.png")
