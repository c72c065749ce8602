"""A local Hugging Face Hub: a server with the few endpoints that uploads and downloads of a model use."""

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
"""The token with write access."""


class Hub:
    """Repositories in memory: the files of each branch."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.created: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.address = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        if method == "POST" and token != TOKEN:
            return 403 if token else 401, {}, b"{}"
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if path == "/api/repos/create":
            request = json.loads(body)
            self.created.append(request)
            name = f"{request['organization']}/{request['name']}"
            self.repos.setdefault(name, {"main": {}})
            return 200, {}, json.dumps({"url": f"{self.address}/{name}", "name": name}).encode()
        if parts[:2] == ["api", "models"]:
            endpoint, branch = parts[4:6] if len(parts) > 5 else ("revision", "main")
            return self._models("/".join(parts[2:4]), endpoint, branch, body)
        if path == "/api/validate-yaml":
            return 200, {}, json.dumps({"warnings": []}).encode()
        if "resolve" not in parts:
            return 404, {}, b"{}"
        name, branch, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        content = self._files(name, branch).get(file)
        if content is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self._commit(name, branch)}, b"{}"
        headers = {"ETag": hashlib.sha1(content).hexdigest(), "X-Repo-Commit": self._commit(name, branch)}
        return 200, headers, content

    def _models(self, name: str, endpoint: str, branch: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if name not in self.repos:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if endpoint == "branch":
            self.repos[name].setdefault(branch, {})
            return 200, {}, b"{}"
        if branch not in self.repos[name] and branch != self._commit(name, branch):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        files = self._files(name, branch)
        response: Any = {}
        if endpoint == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            response = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
        elif endpoint == "commit":
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "header":
                    self.messages.append(entry["value"]["summary"])
                else:
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            response = {"commitUrl": f"{self.address}/{name}/commit/1", "commitOid": self._commit(name, branch)}
        elif endpoint == "tree":
            response = [{"type": "file", "path": f, "size": len(c), "oid": "0"} for f, c in files.items()]
        elif endpoint == "revision":
            siblings = [{"rfilename": file} for file in files]
            response = {"id": name, "sha": self._commit(name, branch), "siblings": siblings}
        return 200, {}, json.dumps(response).encode()

    def _commit(self, name: str, branch: str) -> str:
        """The commit of a branch; a commit is its own."""
        commits = {hashlib.sha1(f"{name}@{each}".encode()).hexdigest(): each for each in self.repos[name]}
        return branch if branch in commits else hashlib.sha1(f"{name}@{branch}".encode()).hexdigest()

    def _files(self, name: str, branch: str) -> dict[str, bytes]:
        for each, files in self.repos[name].items():
            if branch in (each, self._commit(name, each)):
                return files
        raise KeyError(branch)


@contextmanager
def serving(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Replaces the Hub by a local one, with its cache in a folder and the token with write access."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing."""

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
