"""The curl lines of docs/serving.md, as they are typed, against a service; and the flags of its systemd unit."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from models import small_model
from serve.client import picture
from serve.running import running
from vitral.commands.arguments.serve import parse
from vitral.weights.folder import save_model

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"


def lines() -> list[str]:
    """What the page types, but the commands that install and start the service."""
    typed = re.findall(r"^\$ (.+)$", PAGE.read_text(), re.MULTILINE)
    return [line for line in typed if line.startswith(("curl ", "echo "))]


def blocks() -> list[str]:
    """The page's Python."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_curl_lines_are_answered(tmp_path: Path) -> None:
    model = small_model()
    assert model.card is not None
    save_model(tmp_path / "tiny", model, model.card)
    for name in ("photo.jpg", "one.jpg", "two.jpg"):
        picture().save(tmp_path / name)
    (tmp_path / "token").write_text("secret\n")
    curls = [line for line in lines() if line.startswith("curl")]
    assert len(curls) >= 6
    with running(tmp_path, "photos=tiny", "digits=tiny") as service:
        for line in lines():
            command = line.replace("localhost:8000", f"127.0.0.1:{service.port}").replace("curl ", "curl -sS --fail ")
            result = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, (line, result.stderr)
            if line.startswith("curl") and "-o " not in line:
                assert json.loads(result.stdout)["images"][0]["sha256"], line
        names: dict[str, Any] = {}
        exec(next(block for block in blocks() if "def classify" in block), names)
        assert names["classify"](tmp_path / "photo.jpg", service.url)[0]["class"].startswith("class ")
        (tmp_path / "bad.jpg").write_bytes(b"no image")
        with pytest.raises(RuntimeError, match="cannot be read"):
            names["classify"](tmp_path / "bad.jpg", service.url)
    assert (tmp_path / "first-layer.png").read_bytes() != (tmp_path / "attention.png").read_bytes()
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


def test_the_unit_starts_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (start,) = re.findall(r"^ExecStart=\S+/vitral serve (.+)$", PAGE.read_text(), re.MULTILINE)
    arguments = shlex.split(start)
    for index, word in enumerate(arguments):
        if word.startswith("/"):
            path = tmp_path / word.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("secret")
            arguments[index] = str(path)
    assert parse(arguments).drain == 30.0
