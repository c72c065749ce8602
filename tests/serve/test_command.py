"""`vitral serve` as typed, and every wrong use of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from models import small_model
from processes import SOURCES
from vitral.cli import main
from vitral.commands.arguments.serve import parse
from vitral.errors import UserError
from vitral.serve.config import ServeConfig
from vitral.weights.folder import save_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = small_model()
    assert model.card is not None
    save_model(tmp_path / "runs" / "tiny", model, model.card)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_flags_become_the_configuration(folder: Path) -> None:
    options = parse(["runs/tiny", "other=runs/tiny", "--max-wait", "2.5ms", "--timeout", "1m", "--max-body", "2MiB"])
    assert options.models == {"tiny": "runs/tiny", "other": "runs/tiny"}
    assert options.config == ServeConfig(max_wait=0.0025, timeout=60.0, max_body=2 * 2**20)
    assert (options.host, options.port, options.drain) == ("127.0.0.1", 8000, 30.0)


def test_help_states_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    words, config = " ".join(capsys.readouterr().out.split()), ServeConfig()
    for default in (config.max_batch, "5ms", config.queue, "30s", "32MiB", config.max_files):
        assert f"(default: {default})" in words
    assert (config.max_wait, config.timeout, config.body_timeout, config.max_body) == (0.005, 30, 30, 32 * 2**20)


def test_the_token_is_the_content_of_the_file(folder: Path) -> None:
    (folder / "token").write_text("  secret\n")
    options = parse(["runs/tiny", "--token-file", "token"])
    assert options.config.token == "secret"
    assert "secret" not in repr(options.config)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "MODEL"),
        (["nowhere"], "nowhere"),
        (["name=nowhere"], "nowhere"),
        (["runs/tiny", "runs/tiny"], "NAME=runs/tiny"),
        (["runs/tiny", "--max-wait", "5"], "--max-wait"),
        (["runs/tiny", "--max-body", "much"], "--max-body"),
        (["runs/tiny", "--max-batch", "0"], "--max-batch"),
        (["runs/tiny", "--timeout", "0s"], "--timeout"),
        (["runs/tiny", "--queue", "8"], "--max-files"),
        (["runs/tiny", "--port", "70000"], "--port"),
        (["runs/tiny", "--max-pixels", "0"], "--max-pixels"),
        (["runs/tiny", "--token-file", "none"], "none"),
        (["runs/tiny", "--token-file", "two-words"], "two-words"),
        (["runs/tiny", "--token-file", "empty"], "empty"),
        (["runs/tiny", "--token-file", "runs"], "runs"),
    ],
)
def test_wrong_use_is_one_sentence(folder: Path, arguments: list[str], named: str) -> None:
    (folder / "two-words").write_text("two words")
    (folder / "empty").write_text("")
    with pytest.raises(UserError) as error:
        parse(arguments)
    assert named in str(error.value)
    assert "----" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "is_open"),
    [([], False), (["--host", "0.0.0.0"], True), (["--host", "0.0.0.0", "--token-file", "token"], False)],
)
def test_a_service_that_is_open_to_all_says_so(
    folder: Path,
    arguments: list[str],
    is_open: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "token").write_text("secret")
    listeners = []
    monkeypatch.setattr("vitral.commands.serve.run_server", lambda app, listener, drain: listeners.append(listener))
    main(["serve", "runs/tiny", "--port", "0", *arguments])
    (listener,) = listeners
    host, port = listener.getsockname()
    errors = capsys.readouterr().err
    assert f"serving tiny at http://{host}:{port}" in errors
    assert ("open to all" in errors) == is_open
    listener.close()


@pytest.mark.parametrize(("mode", "is_public"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_token_that_all_can_read_is_noted(
    folder: Path, mode: int, is_public: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "token").write_text("secret")
    (folder / "token").chmod(mode)
    monkeypatch.setattr("vitral.commands.serve.run_server", lambda app, listener, drain: listener.close())
    main(["serve", "runs/tiny", "--port", "0", "--token-file", "token"])
    errors = capsys.readouterr().err
    assert ("chmod 600 token" in errors) == is_public
    assert "secret" not in errors


def run(code: str) -> str:
    """Runs Python that must end as a command does after an error of its user; the sentence."""
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_a_missing_extra_is_named(folder: Path) -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None; from vitral.cli import main; main(['serve', 'runs/tiny'])"
    )
    sentence = run(code)
    assert "prometheus_client" in sentence
    assert "pip install 'vitral[serve]'" in sentence


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    code = (
        "import socket; from vitral.cli import main; taken = socket.create_server(('127.0.0.1', 0));"
        "main(['serve', 'runs/tiny', '--port', str(taken.getsockname()[1])])"
    )
    assert "in use" in run(code)
