"""The contact sheet of pairs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitral.inspection.pairs import MOST_PAIRS, ShownPair, draw_pairs, evenly_spaced_pairs


def test_all_pairs_are_shown_or_evenly_spaced_ones() -> None:
    assert evenly_spaced_pairs(3) == [0, 1, 2]
    assert evenly_spaced_pairs(MOST_PAIRS) == list(range(MOST_PAIRS))
    chosen = evenly_spaced_pairs(1000)
    assert (len(chosen), chosen[0], chosen[-1]) == (MOST_PAIRS, 0, 999)
    assert set(np.diff(chosen)) <= {43, 44}


@pytest.mark.parametrize("count", [1, 4])
def test_both_images_of_every_pair_are_drawn(tmp_path: Path, count: int) -> None:
    colours = [((200, 10 * number, 0), (0, 10 * number, 200)) for number in range(count)]
    pairs = [
        ShownPair(
            images=(Image.new("RGB", (30, 20), one), Image.new("RGB", (30, 20), other)),
            names=("a $1 and $2.png", "\udcff" * 40),
            note="2 of 64 bits differ",
        )
        for one, other in colours
    ]
    draw_pairs(pairs, tmp_path / "pairs.png")
    with Image.open(tmp_path / "pairs.png") as picture:
        seen = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=2**24) or []}
    assert {colour for pair in colours for colour in pair} <= seen
