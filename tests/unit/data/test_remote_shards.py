"""Packed shards behind http: same as on disk, and every failure of a server is said."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.config.data import ClassificationData
from ziggurat.data import remote_shards
from ziggurat.data.check import check_dataset
from ziggurat.data.labelled_images import open_storage
from ziggurat.data.pack import pack
from ziggurat.data.remote_shards import remote_url
from ziggurat.errors import ZigguratError


@dataclass
class Server:
    """A web server of a folder that can be told to fail.

    Attributes:
        folder: What it serves.
        failures: Status to answer with, one request after another; 0 sleeps, -1 cuts short.
        url: Its address.
        ranges: Whether it knows ranges.
    """

    folder: Path
    failures: list[int] = field(default_factory=list)
    url: Path = Path()
    ranges: bool = True

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        status = self.failures.pop(0) if self.failures else 200
        path = self.folder / handler.path.lstrip("/")
        if status == 0:
            time.sleep(0.5)
        if status > 200 or not path.is_file():
            handler.send_error(status if status > 200 else 404)
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        if wanted and self.ranges:
            data = data[int(wanted[1]) : int(wanted[2]) + 1]
        handler.send_response(206 if wanted and self.ranges else 200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        with suppress(BrokenPipeError):  # of a client that waited no longer
            handler.wfile.write(data[: len(data) // 2] if status == -1 else data)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve four images in two classes, packed into small shards.

    Yields:
        The server.
    """
    rng = np.random.default_rng(0)
    for index in range(4):
        path = tmp_path / "folders" / "train" / ("ant", "bee")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)
    pack(tmp_path / "folders", tmp_path / "out", "shards", shard_bytes=2000)
    made = Server(tmp_path / "out")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 -- the name that http.server calls
            made.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    monkeypatch.setattr(remote_shards, "WAITS_S", (0.0, 0.0))
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, args=(0.01,))
    thread.start()
    # A path, as the command line and the run make of it: two slashes become one.
    made.url = Path(f"http://127.0.0.1:{web.server_port}")
    yield made
    web.shutdown()
    thread.join()
    web.server_close()


def test_an_address_is_recognised() -> None:
    assert remote_url(Path("https://host/a b/c")) == "https://host/a b/c"
    assert remote_url(Path("http://host:80")) == "http://host:80"
    assert remote_url(Path("/data/https")) is None
    assert remote_url(Path(ClassificationData(root="https").root)) is None


def test_remote_images_are_those_of_the_disk(server: Server) -> None:
    here, there = (open_storage(root, "train") for root in (server.folder, server.url))
    assert there.classes == here.classes == ("ant", "bee")
    assert there.labels.tolist() == here.labels.tolist()
    for index in (3, 0, 2, 1):
        assert there.read(index) == here.read(index)
    assert re.fullmatch(r"http://127.*/train/train-000000.tar/ant/0.png", there.name(0))


def test_a_remote_data_set_is_checked(server: Server) -> None:
    check = check_dataset(server.url)
    assert [(s.name, s.num_images, s.per_class) for s in check.splits] == [
        ("train", 4, {"ant": 2, "bee": 2})
    ]
    assert check.findings == () and len(check.examples) == 4


def test_failures_that_pass_are_waited_for(server: Server) -> None:
    storage = open_storage(server.url, "train")
    expected = storage.read(1)
    server.failures = [503, 429]
    assert storage.read(1) == expected
    server.failures = [-1]
    assert storage.read(1) == expected


def test_what_a_server_does_not_have(server: Server) -> None:
    with pytest.raises(ZigguratError, match=r"val/index.npz cannot be had: the server answers 404"):
        open_storage(server.url, "val")
    (server.folder / "train" / "index.npz").unlink()
    with pytest.raises(ZigguratError, match="has no split with an index; expected train/index.npz"):
        check_dataset(server.url)


def test_a_server_that_keeps_failing(server: Server) -> None:
    storage = open_storage(server.url, "train")
    server.failures = [500, 500, 502]
    with pytest.raises(ZigguratError, match=r"train-000000.tar cannot be had after 3 tries: .*502"):
        storage.read(0)
    server.failures = [-1, -1, -1]
    with pytest.raises(ZigguratError, match=r"cannot be had after 3 tries: .*check the network"):
        storage.read(0)


def test_a_server_that_does_not_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(server.url, "train")
    monkeypatch.setattr(remote_shards, "TIMEOUT_S", 0.1)
    server.failures = [0, 0, 0]
    with pytest.raises(ZigguratError, match=r"after 3 tries: .*timed out"):
        storage.read(0)


def test_a_server_without_ranges(server: Server) -> None:
    storage = open_storage(server.url, "train")
    server.ranges = False
    with pytest.raises(ZigguratError, match="sends whole files only; shards are read by ranges"):
        storage.read(0)


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_shards, "WAITS_S", ())
    with pytest.raises(ZigguratError, match="after 1 tries: .*refused"):
        open_storage(Path("http://127.0.0.1:9"), "train")
