"""A server on this machine that behaves as badly as it is told to."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from ziggurat.weights.download import Patience
from ziggurat.weights.published_file import PublishedFile


def make_checkpoint(seed: int = 0) -> bytes:
    """A file of torch.save with some 200 kB in it."""
    values = torch.randn(50_000, generator=torch.Generator().manual_seed(seed))
    file = io.BytesIO()
    torch.save({"weight": values}, file)
    return file.getvalue()


class BadServer:
    """Serves one file at every address.

    Attributes:
        content: The file.
        etag: Its validator, or None to send none.
        faults: What goes wrong with the next requests, in order; after them all goes well.
        requests: What was asked for, by (path, Range header).
    """

    def __init__(self) -> None:
        self.content = make_checkpoint()
        self.etag: str | None = '"first"'
        self.faults: list[str] = []
        self.requests: list[tuple[str, str | None]] = []
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802  the name that http.server calls
                server.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    @property
    def url(self) -> str:
        return f"{self.address}/weights.pth"

    def close(self) -> None:
        self.is_over.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        extent = request.headers.get("Range")
        with self.lock:
            self.requests.append((request.path, extent))
            fault = self.faults.pop(0) if self.faults else "none"
        if fault.isdecimal():
            request.send_error(int(fault))
            return
        content = b"<html>Please log in.</html>" if fault == "page" else self.content
        start = 0
        is_same = request.headers.get("If-Range") in (None, self.etag)
        if extent is not None and is_same and fault != "ignores_range":
            start = int(extent.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            request.send_response(416)
            if fault != "no_size":
                request.send_header("Content-Range", f"bytes */{len(content)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        body = content[start:]
        length = len(body)
        if start:
            shown = start + 1 if fault == "other_part" else start
            request.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if fault == "announces_more":
            length += 1000
        if fault == "announces_less":
            length = len(body) // 2
            body = body[:length]
        if self.etag is not None:
            request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(length))
        request.end_headers()
        if fault in ("stalls", "cuts"):
            body = body[: len(body) // 2]
        request.wfile.write(body)
        if fault == "stalls":
            self.is_over.wait(5)


@pytest.fixture
def other_content() -> bytes:
    """Another whole checkpoint than the server's first."""
    return make_checkpoint(seed=1)


@pytest.fixture
def impatient() -> Patience:
    """Three quick attempts."""
    return Patience(attempts=3, timeout=0.3, pause=0.01)


@pytest.fixture
def server() -> Iterator[BadServer]:
    """Run a server for one test.

    Yields:
        The server.
    """
    server = BadServer()
    yield server
    server.close()


@pytest.fixture
def published(server: BadServer) -> PublishedFile:
    """An entry of the catalogue that lies on the server."""
    return PublishedFile(
        name="weights.pth",
        model="p2t_tiny",
        task="classification",
        metrics=(("top1", 79.8),),
        dataset="",
        source="",
        licence=None,
        preprocessing="",
        url=server.url,
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no setting of the user that matters."""
    for name in ("ZIGGURAT_OFFLINE", "HF_HUB_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "")
    folder = tmp_path / "cache"
    monkeypatch.setenv("ZIGGURAT_CACHE", str(folder))
    return folder
