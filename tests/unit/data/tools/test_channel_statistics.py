"""Mean and deviation of each channel, against NumPy's over all pixels at once."""

from pathlib import Path

import numpy as np
import pytest

from vitral.data.sources.source import FileSource
from vitral.data.tools import channel_statistics as module
from vitral.data.tools.channel_statistics import channel_statistics
from vitral.errors import UserError


def source_of(folder: Path, images: list[np.ndarray]) -> FileSource:
    names = [f"{number}.npy" for number in range(len(images))]
    for name, image in zip(names, images, strict=True):
        np.save(folder / name, image)
    return FileSource(root=folder, files=names, labels=np.zeros(len(names), np.int64), classes=("one",))


def random_images(count: int, channels: int) -> list[np.ndarray]:
    """Images of several sizes, with channels of other means and deviations, one of them far from zero."""
    rng = np.random.default_rng(0)
    means, deviations = 10.0 ** np.arange(channels), np.linspace(0.5, 3, channels)
    return [rng.normal(means, deviations, (20 + number, 24, channels)) for number in range(count)]


def test_all_pixels_count_alike(tmp_path: Path) -> None:
    images = random_images(7, 5)
    found = channel_statistics(source_of(tmp_path, images), channels=5, seed=0, on_error="stop")
    pixels = np.concatenate([image.reshape(-1, 5) for image in images])
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(0), rtol=1e-9)
    assert (found.num_images, found.constant) == (7, ())


def test_missing_values_do_not_count(tmp_path: Path) -> None:
    images = random_images(3, 2)
    images[0][:10] = np.nan
    images[1][:, :, 1] = np.nan
    found = channel_statistics(source_of(tmp_path, images), channels=2, seed=0, on_error="stop")
    pixels = np.concatenate([image.reshape(-1, 2) for image in images])
    np.testing.assert_allclose(found.mean, np.nanmean(pixels, 0), rtol=1e-12)
    np.testing.assert_allclose(found.std, np.nanstd(pixels, 0), rtol=1e-9)


def test_a_channel_of_one_value_is_not_scaled(tmp_path: Path) -> None:
    images = random_images(2, 3)
    for image in images:
        image[:, :, 1] = 7
    found = channel_statistics(source_of(tmp_path, images), channels=3, seed=0, on_error="stop")
    assert (found.mean[1], found.std[1], found.constant) == (7, 1, (2,))
    assert "channel 2" in found.describe()


def test_many_images_are_sampled_by_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGES", 3)
    source = source_of(tmp_path, random_images(9, 2))
    one, same, other = (channel_statistics(source, channels=2, seed=seed, on_error="stop") for seed in (0, 0, 1))
    assert one == same
    assert one.num_images == 3
    assert one.mean != other.mean


def test_unreadable_images_stop_or_are_skipped(tmp_path: Path) -> None:
    source = source_of(tmp_path, [*random_images(2, 4), np.zeros((30, 30, 3))])
    with pytest.raises(UserError, match=r"2\.npy .* 3 channels, not 4.*--data\.channels"):
        channel_statistics(source, channels=4, seed=0, on_error="stop")
    assert channel_statistics(source, channels=4, seed=0, on_error="skip").num_images == 2
    with pytest.raises(UserError, match="no training image can be read"):
        channel_statistics(source, channels=9, seed=0, on_error="skip")
