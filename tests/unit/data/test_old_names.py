"""Names under which code from before finds what has moved."""

import vitral.data.decode
from vitral.data.images.decode import UnreadableImage, read_image


def test_reading_images() -> None:
    assert vitral.data.decode.read_image is read_image
    assert vitral.data.decode.UnreadableImage is UnreadableImage
