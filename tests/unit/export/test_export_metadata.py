"""What an exported file says of itself."""

import json

import pytest

from models import SMALL, small_card
from vitral.errors import UserError
from vitral.export.metadata import ExportMetadata

METADATA = ExportMetadata(
    vitral="1.2", architecture=SMALL, card=small_card(), output="logits", image_size="dynamic", precision="int8"
)


def test_metadata_are_read_back() -> None:
    strings = METADATA.to_strings()
    assert set(strings) == set(ExportMetadata.names())
    assert ExportMetadata.from_strings(strings | {"author": "someone"}, origin="a.onnx") == METADATA


def test_a_reader_without_vitral_gets_names_and_preprocessing() -> None:
    strings = METADATA.to_strings()
    assert json.loads(strings["classes"]) == ["class 0", "class 1", "class 2"]
    assert json.loads(strings["preprocessing"])["image_size"] == [16, 24]


@pytest.mark.parametrize("strings", [{}, {"author": '"someone"'}, {"vitral": "1.2.3.4"}])
def test_another_programs_file_is_refused(strings: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"a\.onnx was not written by vitral export"):
        ExportMetadata.from_strings(strings, origin="a.onnx")


def test_a_damaged_value_is_named() -> None:
    strings = METADATA.to_strings() | {"precision": '"int4"'}
    with pytest.raises(UserError, match=r"a\.onnx: precision is wrong"):
        ExportMetadata.from_strings(strings, origin="a.onnx")
