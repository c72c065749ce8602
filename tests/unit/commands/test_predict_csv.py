"""`vitral predict --csv`: Python's csv reads back every file name and class."""

import csv
from contextlib import redirect_stdout
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st

from vitral.commands.predict import write_csv
from vitral.files import with_formula
from vitral.serve.predictor import Prediction

TEXT = st.text(st.one_of(st.sampled_from('\r\n",;=+-@\t \0\ufeff'), st.characters(exclude_categories=["Cs"])))


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=4))
def test_any_name_and_class_is_read_back(rows: list[tuple[str, str, str]]) -> None:
    results = [
        Prediction(name=name, classes=(first, second), probabilities=(0.75, 0.25)) for name, first, second in rows
    ]
    output = StringIO(newline="")
    with redirect_stdout(output):
        assert write_csv(iter(results), 2) == len(rows)
    header, *found = csv.reader(StringIO(output.getvalue(), newline=""), strict=True)
    found = [[with_formula(cell) for cell in row] for row in found]
    assert header == ["file", "class", "probability", "class_2", "probability_2"]
    assert found == [[name, first, "0.750000", second, "0.250000"] for name, first, second in rows]
