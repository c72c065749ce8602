"""What the commands print."""

import math
from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vitral.commands.arguments.flags import parse_config
from vitral.commands.output import finite, print_fitting
from vitral.recipes.digits import digits
from vitral.train.config import RunConfig


@pytest.mark.parametrize("columns", ["40", "200"])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--optm.lr 3", "unknown option --optm.lr (did you mean --optim.lr?)"),
        ("--optim.lr x", "--optim.lr must be a number, not 'x'"),
        ("--optim.lr -1", "optim: lr must be above 0"),
        ("--model.patch-size 3", "image size 8x8 is not divisible by patch size 3x3: choose 6x6"),
        ("--data.test-fraction 2", "--data.test-fraction must be above 0 and below 1, not 2.0"),
        ("--optim.name nope", "--optim.name must be one of 'adamw', 'adam'"),
        ("--train.steps", "--train.steps needs a value"),
        ("--train.steps abc", "--train.steps must be an integer or None, not 'abc'"),
        ("--model.rope-periods x", "--model.rope-periods must be numbers or None, not 'x'"),
        ("--model.image-size x", "--model.image-size must be an integer or two integers, not 'x'"),
        ("--optim.betas a b", "--optim.betas must be two numbers, not 'a', 'b'"),
        ("stray", "unknown option stray"),
    ],
)
def test_wrong_flags_are_one_sentence(
    words: str, sentence: str, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(ValueError, match="vitral train digits --help-all lists every key") as error:
        parse_config(RunConfig, default=digits(), arguments=words.split(), program="vitral train digits")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr() == ("", "")


def test_changes_arrive() -> None:
    words = ["--optim.lr", "2e-3", "--model.image-size", "16", "8", "--train.steps", "3"]
    config = parse_config(RunConfig, default=digits(), arguments=words, program="vitral train digits")
    assert (config.optim.lr, config.model.architecture.image_size, config.train.steps) == (2e-3, (16, 8), 3)


def test_plain_has_no_numbers_that_json_lacks() -> None:
    assert finite({"a": (1, math.nan, [math.inf])}) == {"a": [1, None, [None]]}


@pytest.mark.parametrize(("width", "lines"), [(40, 4), (12, 7)])
def test_a_table_that_does_not_fit_is_a_list(width: int, lines: int) -> None:
    table = Table("model", "parameters", "GMACs", box=None)
    table.add_row("ViT-B/16", "86,567,656", "17.56")
    table.add_row("ViT-S/16", Text("22,050,664"), "")
    table.add_row("x", "1", "2")
    console = Console(width=width, file=StringIO())
    print_fitting(console, table)
    text = console.file.getvalue()
    assert all(word in text for word in ("ViT-B/16", "86,567,656", "17.56", "22,050,664"))
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert ("GMACs: 17.56" in " ".join(text.split())) == (width == 12)
    assert len(text.splitlines()) >= lines
