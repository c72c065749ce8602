"""The Dockerfile, the Kubernetes manifest and the proxy's configuration name what there is."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from models import small_model
from vitral.commands.arguments.serve import parse
from vitral.serve import ServeConfig, create_app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "serving.md"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def manifest() -> dict[str, Any]:
    """The Kubernetes objects by kind."""
    return {item["kind"]: item for item in yaml.safe_load_all((ROOT / "docs/launch/vitral.yaml").read_text())}


def arguments(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `vitral serve` makes of them, where the absolute paths that they name exist below a folder."""
    here = []
    for word in words:
        if word.startswith("/"):
            path = folder / word.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("secret")
            word = str(path)
        here.append(word)
    return parse(here)


def test_the_image_is_built_from_files_that_are_there() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    copied = [argument.split() for name, argument in instructions() if name == "COPY" and "--from" not in argument]
    sources = [source.rstrip("/") for words in copied for source in words[:-1]]
    assert {"src", "pyproject.toml"} <= set(sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {project["readme"], *project["license-files"]}  # the build reads them
    assert needed <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch(source, pattern.removeprefix("!")) for pattern in ignored if pattern.startswith("!"))
    (extras,) = re.findall(r'install "\.\[(.+)\]"', (ROOT / "Dockerfile").read_text())
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_container_starts_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict(instructions())
    entry, command = json.loads(found["ENTRYPOINT"]), json.loads(found["CMD"])
    assert entry[:2] == ["vitral", "serve"]
    options = arguments([*entry[2:], *command], tmp_path, monkeypatch)
    assert (options.host, options.port, options.log_format) == ("0.0.0.0", int(found["EXPOSE"]), "json")
    assert f"127.0.0.1:{options.port}/healthz" in found["HEALTHCHECK"]
    assert found["USER"].split(":")[0].isdecimal()


def test_the_manifest_fits_the_image_and_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = manifest()
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = arguments(container["args"], tmp_path, monkeypatch)
    assert options.config.token == "secret"
    assert options.drain < pod["terminationGracePeriodSeconds"]
    assert container["ports"][0]["containerPort"] == int(dict(instructions())["EXPOSE"])
    routes = set(create_app(small_model(), config=ServeConfig()).openapi()["paths"])
    probes = [container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert set(probes) <= routes
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    for word in container["args"]:
        assert not word.startswith("/") or any(word.startswith(mount) for mount in mounts.values()), word
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "vitral"


def test_the_proxy_fits_the_service() -> None:
    (text,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    config = ServeConfig()
    assert int(re.findall(r"client_max_body_size (\d+)m;", text)[0]) * 2**20 == config.max_body
    assert int(re.findall(r"proxy_read_timeout (\d+)s;", text)[0]) > config.timeout
    assert text.count("{") == text.count("}")


def test_the_units_time_to_stop_is_beyond_the_drain() -> None:
    (text,) = re.findall(r"```ini\n(.*?)```", PAGE.read_text(), re.DOTALL)
    unit = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    words = shlex.split(unit["ExecStart"])
    assert int(unit["TimeoutStopSec"]) > int(words[words.index("--drain") + 1].rstrip("s"))
    assert unit["ExecReload"] == "/bin/kill -HUP $MAINPID"
