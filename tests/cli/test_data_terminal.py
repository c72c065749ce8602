"""The picture of `vitral data show` in terminals of three kinds, which a pseudo-terminal answers for."""

import base64
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import tty
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

ROWS, COLUMNS, CELL = 40, 100, (10, 20)
"""Of the terminal; a cell's width and height are in pixels."""

SHOW = "import sys; from pathlib import Path; from vitral.commands.data.terminal import show_in_terminal as show; "
SHOW += "show(Path(sys.argv[1]))"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twice as wide as high, with another colour in each corner."""
    image = Image.new("RGB", (1600, 800), "white")
    draw = ImageDraw.Draw(image)
    for corner, colour in zip(((0, 0), (900, 0), (0, 500), (900, 500)), ("red", "lime", "blue", "black"), strict=True):
        draw.rectangle((*corner, corner[0] + 699, corner[1] + 299), fill=colour)
    path = tmp_path_factory.mktemp("terminal") / "picture.png"
    image.save(path)
    return path


def shown(picture: Path, answers: bytes, *, typed: bool = True) -> str:
    """What a terminal receives that has sent `answers` to all questions. They wait for the program, so none is late."""
    outer, inner = pty.openpty()
    tty.setraw(inner)
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, COLUMNS * CELL[0], ROWS * CELL[1]))
    os.write(outer, answers)
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, str(picture)],
        stdin=inner if typed else subprocess.DEVNULL,
        stdout=inner,
        stderr=inner,
        env=os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
    )
    os.close(inner)
    received = bytearray()
    while part := _part(outer):
        received += part
    os.close(outer)
    assert process.wait(timeout=120) == 0
    return received.decode()


def _part(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # no program writes to it any more
        return b""


def decoded_sixels(text: str) -> Image.Image:
    """The picture in a sequence of sixels, each of which is a column of six pixels."""
    found = re.search(r'\x1bP[\d;]*q"1;1;(\d+);(\d+)(.*?)\x1b\\', text, re.DOTALL)
    assert found is not None
    width, height = int(found[1]), int(found[2])
    pixels = np.zeros((height + 6, width, 3), np.uint8)
    palette: dict[str, list[int]] = {}
    colour, x, y = "", 0, 0
    for number, values, count, sixel, step in re.findall(r"#(\d+)((?:;\d+){4})?|(?:!(\d+))?([?-~])|([$-])", found[3]):
        if values:
            palette[number] = [round(int(value) * 2.55) for value in values.split(";")[2:]]
        if number:
            colour = number
        elif sixel:
            bits = [bit for bit in range(6) if (ord(sixel) - 63) >> bit & 1]
            pixels[[y + bit for bit in bits], x : x + int(count or 1)] = palette[colour] if bits else 0
            x += int(count or 1)
        else:
            x, y = 0, y + 6 * (step == "-")
    return Image.fromarray(pixels[:height])


def sent_to_kitty(text: str) -> Image.Image:
    """The PNG that comes in parts, of which the last says so, and is then placed."""
    parts = re.findall(r"\x1b_Gi=(\d+),m=([01]),f=100,q=2;([A-Za-z0-9+/=]*)\x1b\\", text)
    assert [more for _, more, _ in parts] == ["1"] * (len(parts) - 1) + ["0"]
    assert len({number for number, _, _ in parts}) == 1
    assert max(len(content) for *_, content in parts) <= 4096, "the protocol allows no more"
    assert re.search(rf"\x1b_Ga=p,i={parts[0][0]},c=\d+,r=\d+,U=1", text)
    return Image.open(BytesIO(base64.b64decode("".join(content for *_, content in parts))))


def half_blocks(text: str) -> Image.Image:
    """A pixel for each half of a cell."""
    lines = [re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m▀", line) for line in text.split("\n")]
    cells = np.array([line for line in lines if line], np.uint8)
    return Image.fromarray(cells.reshape(len(cells), -1, 2, 3).swapaxes(1, 2).reshape(2 * len(cells), -1, 3))


KINDS = {
    "sixel": (b"\x1b[?62;4c", decoded_sixels),
    "kitty": (b"\x1b[?62c\x1b_Gi=1;OK\x1b\\", sent_to_kitty),
    "neither": (b"\x1b[?62c\x1b[?62c", half_blocks),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture(kind: str, picture: Path) -> None:
    answers, decode = KINDS[kind]
    image = decode(shown(picture, answers)).convert("RGB")
    assert abs(image.width / image.height - 2) < 0.1
    expected = np.asarray(Image.open(picture).resize(image.size, Image.Resampling.BICUBIC), np.int16)
    assert np.abs(np.asarray(image) - expected).mean() < 3


def test_a_terminal_that_cannot_be_asked(picture: Path) -> None:
    """Its input is a file."""
    assert shown(picture, b"", typed=False) == ""
