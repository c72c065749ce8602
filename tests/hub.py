"""A Hugging Face Hub on this machine, which speaks the few words that sending and fetching a model take."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from huggingface_hub import constants

__all__ = ["TOKEN", "Hub", "serving"]

TOKEN = "hf_secret"
"""The one that may write."""


class Hub:
    """Repositories in memory: the files of every branch."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.made: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.address = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if method == "POST" and token != TOKEN:
            return 403 if token else 401, {}, b"{}"
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if path == "/api/repos/create":
            asked = json.loads(body)
            self.made.append(asked)
            name = f"{asked['organization']}/{asked['name']}"
            self.repos.setdefault(name, {"main": {}})
            return 200, {}, json.dumps({"url": f"{self.address}/{name}", "name": name}).encode()
        if parts[:2] == ["api", "models"]:
            what, branch = parts[4:6] if len(parts) > 5 else ("revision", "main")
            return self._models("/".join(parts[2:4]), what, branch, body)
        if path == "/api/validate-yaml":
            return 200, {}, json.dumps({"warnings": []}).encode()
        if "resolve" not in parts:
            return 404, {}, b"{}"
        name, branch, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        content = self._files(name, branch)[file]
        headers = {"ETag": hashlib.sha1(content).hexdigest(), "X-Repo-Commit": self._commit(name, branch)}
        return 200, headers, content

    def _models(self, name: str, what: str, branch: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if name not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if what == "branch":
            self.repos[name].setdefault(branch, {})
            return 200, {}, b"{}"
        if branch not in self.repos[name] and branch != self._commit(name, branch):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        files = self._files(name, branch)
        told: Any = {}
        if what == "preupload":
            asked = json.loads(body)["files"]
            told = {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        elif what == "commit":
            for line in body.decode().splitlines():
                said = json.loads(line)
                if said["key"] == "header":
                    self.messages.append(said["value"]["summary"])
                else:
                    files[said["value"]["path"]] = base64.b64decode(said["value"]["content"])
            told = {"commitUrl": f"{self.address}/{name}/commit/1", "commitOid": self._commit(name, branch)}
        elif what == "tree":
            told = [{"type": "file", "path": f, "size": len(c), "oid": "0"} for f, c in files.items()]
        elif what == "revision":
            siblings = [{"rfilename": file} for file in files]
            told = {"id": name, "sha": self._commit(name, branch), "siblings": siblings}
        return 200, {}, json.dumps(told).encode()

    def _commit(self, name: str, branch: str) -> str:
        """Stands for a branch; the one that is asked for by its commit is the same."""
        commits = {hashlib.sha1(f"{name}@{known}".encode()).hexdigest(): known for known in self.repos[name]}
        return branch if branch in commits else hashlib.sha1(f"{name}@{branch}".encode()).hexdigest()

    def _files(self, name: str, branch: str) -> dict[str, bytes]:
        for known, files in self.repos[name].items():
            if branch in (known, self._commit(name, known)):
                return files
        raise KeyError(branch)


@contextmanager
def serving(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Whatever asks the Hub inside asks this one, keeps its cache in a folder, and has the token that may write."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Not a word."""

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, headers, content = hub.answer(self.command, urlparse(self.path).path, body, token)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = _respond  # noqa: N815 - the server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    settings = dict(
        ENDPOINT=hub.address,
        HUGGINGFACE_CO_URL_TEMPLATE=hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        HF_HUB_CACHE=str(cache),
        HF_HUB_OFFLINE=False,
        HF_HUB_DISABLE_XET=True,
    )
    with monkeypatch.context() as patch:
        for name, value in settings.items():
            patch.setattr(constants, name, value)
        patch.setenv("HF_TOKEN", TOKEN)
        patch.setenv("NO_PROXY", "127.0.0.1")
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
