"""Masks beside images: which belong together, and what their pixels are."""

import errno
import os
from functools import partial

import numpy as np
import pytest
from PIL import Image

from photographs import png_header
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.masks import largest_class, mask_pairs, read_mask


def test_pairs_by_name(tmp_path):
    for name in ("images/b.png", "images/a.jpg", "masks/a.png", "masks/b.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    pairs = mask_pairs(tmp_path)
    assert [(image.name, mask.name) for image, mask in pairs] == [("a.jpg", "a.png"), ("b.png", "b.png")]
    (tmp_path / "masks/a.png").unlink()
    with pytest.raises(ValueError, match="1 images have no mask"):
        mask_pairs(tmp_path)


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="images does not exist"):
        mask_pairs(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="has no images"):
        mask_pairs(tmp_path)


def test_values_are_classes_whatever_their_colour(tmp_path):
    values = np.array([[0, 1], [2, 255]], np.uint8)
    path = tmp_path / "mask.png"
    for mode in ("L", "P"):
        image = Image.fromarray(values)
        if mode == "P":
            image = Image.new("P", (2, 2))
            image.putdata(values.flatten().tolist())
            image.putpalette([shade for number in range(256) for shade in (255 - number, 10, number)])
        image.save(path)
        assert read_mask(path, size=(4, 4), num_classes=3).tolist() == values.repeat(2, 0).repeat(2, 1).tolist()
    with pytest.raises(ValueError, match="has the value 2, but there are 2 classes"):
        read_mask(path, size=(2, 2), num_classes=2)
    Image.new("RGB", (2, 2)).save(path)
    with pytest.raises(ValueError, match="is of mode RGB"):
        read_mask(path, size=(2, 2), num_classes=2)
    path.write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match="not a PNG file"):
        largest_class(path)
    with pytest.raises(UnreadableImage, match="cannot be read as a mask"):
        read_mask(path, size=(2, 2), num_classes=2)


@pytest.mark.parametrize("size", [(12_000, 12_000), (60_000, 60_000)])
def test_bomb(size, tmp_path):
    """Pillow warns of the one and raises an error of its own for the other."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    for read in (partial(read_mask, size=(2, 2), num_classes=2), largest_class):
        with pytest.raises(UnreadableImage, match=r"^\S*bomb\.png cannot be read as a mask: [^\n]*pixels[^\n]*allowed"):
            read(path)


def test_errors_of_the_machine_are_no_damage(tmp_path, monkeypatch):
    def full(self, mode):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    path = tmp_path / "mask.png"
    Image.new("L", (2, 2)).save(path)
    monkeypatch.setattr(type(path), "open", full)
    with pytest.raises(OSError, match="Too many open files"):
        read_mask(path, size=(2, 2), num_classes=2)
