"""A small HTTP server of one folder, with byte ranges and with faults."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

__all__ = ["Web", "serve_folder"]


@dataclass
class Web:
    """What the server does, and what it was asked."""

    folder: Path
    ranges: bool = True
    """Whether it sends parts of files."""
    versions: bool = True
    """Whether it sends ETags."""
    fail_every: int = 0
    """Which requests fail, such as every third; 0: none."""
    latency: float = 0.0
    """Seconds before each answer."""
    gone: bool = False
    """Whether it hangs up on everybody."""
    url: str = ""
    requests: list[str] = field(default_factory=list)
    """Method, path and range of each request."""
    lock: Lock = field(default_factory=Lock)

    def fails(self, request: str) -> bool:
        """Counts a request; whether it fails."""
        with self.lock:
            self.requests.append(request)
            return bool(self.fail_every) and len(self.requests) % self.fail_every == 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        web, span = self.web, self.headers.get("Range")
        time.sleep(web.latency)
        if web.gone:
            self.close_connection = True
        elif web.fails(f"{self.command} {self.path} {span or ''}".strip()):
            if len(web.requests) % 2:  # some fail with an answer, some without any
                self.close_connection = True
                self.connection.close()
            else:
                self.reply(503, b"")
        else:
            self.send_file(body=body, span=span)

    def send_file(self, *, body: bool, span: str | None) -> None:
        web = self.web
        file = web.folder / self.path.lstrip("/").split("?")[0]
        if not file.is_file():
            self.reply(404, b"")
            return
        state = file.stat()
        version = f'"{md5(f"{state.st_size} {state.st_mtime_ns}".encode()).hexdigest()}"'
        headers = {"ETag": version} if web.versions else {}
        if web.versions and self.headers.get("If-Match", version) != version:
            self.reply(412, b"")
        elif span is None or not web.ranges:
            self.reply(200, file.read_bytes(), body=body, **headers)
        else:
            first, last = (int(number) for number in span.removeprefix("bytes=").split("-"))
            with file.open("rb") as stream:
                stream.seek(first)
                content = stream.read(last - first + 1)
            self.reply(206, content, body=body, **headers, **{"Content-Range": f"bytes {first}-{last}/{state.st_size}"})

    def reply(self, status: int, content: bytes, *, body: bool = True, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were killed are no matter for the terminal."""


@contextmanager
def serve_folder(folder: Path, **settings: object) -> Iterator[Web]:
    """Serves a folder on a free port of this machine until the end of the block."""
    web = Web(folder=folder, **settings)
    handler = type("BoundHandler", (Handler,), {"web": web})
    with Server(("127.0.0.1", 0), handler) as server:
        web.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield web
        finally:
            web.gone = True
            server.shutdown()
            thread.join()
