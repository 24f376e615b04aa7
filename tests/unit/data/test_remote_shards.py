"""Packed shards behind http: same as on disk, and every failure of a server is said."""

import io
import os
import re
import shutil
import signal
import sys
import tarfile
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
from ziggurat.data import web
from ziggurat.data.check import check_dataset, find_datasets
from ziggurat.data.labelled_images import open_storage
from ziggurat.data.pack import pack
from ziggurat.data.remote_shards import remote_url, shard_names
from ziggurat.data.web import open_web_file
from ziggurat.errors import ZigguratError

PIECE = 1 << 16
LARGE = 1 << 26
"""Bytes, many times those that a connection holds."""


@dataclass
class Server:
    """A web server of a folder that can be told to fail.

    Attributes:
        folder: What it serves.
        failures: Status to answer with, one request after another; 0 sleeps, -1 cuts short, 302
            sends on to the same address.
        url: Its address.
        ranges: Whether it knows ranges.
        says_size: Whether it says how large a file is that it sends a part of.
        missing: Status for a file that is not there.
        asked: Path and range of each request.
        sent: Bytes of files that were sent.
    """

    folder: Path
    failures: list[int] = field(default_factory=list)
    url: Path = Path()
    ranges: bool = True
    says_size: bool = True
    missing: int = 404
    sent: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        status = self.failures.pop(0) if self.failures else 200
        path = self.folder / handler.path.lstrip("/")
        if status == 0:
            time.sleep(5.0)
        if status == 302:
            handler.send_response(status)
            handler.send_header("Location", f"{self.url}{handler.path}".replace(":/", "://", 1))
            handler.send_header("Content-Length", str(LARGE))
            handler.end_headers()
            handler.close_connection = True
            return
        if status > 200 or not path.is_file():
            handler.send_error(status if status > 200 else self.missing)
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        size = len(data)
        assert handler.headers["Accept-Encoding"] == "identity"
        self.asked.append((handler.path, handler.headers.get("Range")))
        if wanted and self.ranges:
            data = data[int(wanted[1]) : int(wanted[2]) + 1]
        handler.send_response(206 if wanted and self.ranges else 200)
        if wanted and self.says_size:
            handler.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{size}")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        with suppress(ConnectionError):  # of a client that waited no longer
            whole = data[: len(data) // 2] if status == -1 else data
            for start in range(0, len(whole), PIECE):
                self.sent += handler.wfile.write(whole[start : start + PIECE])


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


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

    monkeypatch.setattr(web, "WAITS_S", (0.0, 0.0))
    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=service.serve_forever, args=(0.01,))
    thread.start()
    # A path, as the command line and the run make of it: two slashes become one.
    made.url = Path(f"http://127.0.0.1:{service.server_port}")
    yield made
    service.shutdown()
    thread.join()
    service.server_close()


def test_an_address_is_recognised() -> None:
    assert remote_url(Path("https://host/a b/c")) == "https://host/a b/c"
    assert remote_url(Path("http://host:80")) == "http://host:80"
    assert remote_url(Path("/data/https")) is None
    assert remote_url(Path(ClassificationData(root="https").root)) is None


@pytest.mark.parametrize("address", ["s3://bucket/x", "gs://bucket/x", "hf://datasets/x"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    message = re.escape(f"read from disks and over http and https, got {address}; copy or mount")
    with pytest.raises(ZigguratError, match=message):
        remote_url(Path(address))
    with pytest.raises(ZigguratError, match=message):
        find_datasets(Path(address))


def test_a_pattern_of_shards_on_a_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="is a pattern of shards, which is for those of a serv"):
        open_storage(tmp_path, "train-{000..001}.tar")


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
    assert [note.reason[:19] for note in check.findings] == ["no validation split"]
    assert len(check.examples) == 4


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
    monkeypatch.setattr(web, "TIMEOUT_S", 1)
    monkeypatch.setattr(web, "WAITS_S", ())
    server.failures = [0]
    with pytest.raises(ZigguratError, match=r"after 1 tries: .*too slow"):
        storage.read(0)


def test_waiting_for_a_server_can_be_interrupted(server: Server) -> None:
    storage = open_storage(server.url, "train")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    server.failures = [0]
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            storage.read(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 4


def test_a_server_that_sends_on(server: Server) -> None:
    storage = open_storage(server.url, "train")
    expected = storage.read(1)
    server.failures = [302]
    assert storage.read(1) == expected


def test_a_process_does_not_use_the_connections_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = web._connections()
    assert web._connections() is connections
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert web._connections() is not connections


def test_a_server_without_ranges(server: Server) -> None:
    storage = open_storage(server.url, "train")
    server.ranges = False
    (server.folder / "train" / "train-000000.tar").write_bytes(bytes(LARGE))
    server.sent = 0
    with pytest.raises(ZigguratError, match="sends whole files only; shards are read by ranges"):
        storage.read(0)
    assert server.sent < LARGE  # it is not taken whole before it is refused


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "WAITS_S", ())
    with pytest.raises(ZigguratError, match="after 1 tries: .*Could not connect"):
        open_storage(Path("http://127.0.0.1:9"), "train")


def foreign_shards(folder: Path) -> list[bytes]:
    """Five images in three shards as webdataset names them, with names of the classes.

    Returns:
        The images in their order.
    """
    images = [bytes([number]) * (700 + 5000 * number) for number in range(5)]
    for shard, numbers in enumerate(((0, 1), (2, 3), (4,))):
        with tarfile.open(folder / f"my-train-{shard:03d}.tar", "w") as tar:
            for number in numbers:
                for end, data in (("jpg", images[number]), ("cls", b"%d" % (number % 2))):
                    member = tarfile.TarInfo(f"{number:04d}.{end}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    (folder / "classes.txt").write_text("wasp\nfly\n")
    return images


PATTERN = "my-train-{000..002}.tar"


def test_foreign_shards_are_named_by_a_pattern(server: Server) -> None:
    images = foreign_shards(server.folder)
    storage = open_storage(server.url, PATTERN)
    assert storage.classes == ("wasp", "fly")
    assert storage.labels.tolist() == [0, 1, 0, 1, 0]
    assert [storage.read(index) for index in (4, 0, 3, 1, 2)] == [
        images[index] for index in (4, 0, 3, 1, 2)
    ]
    assert re.fullmatch(r"http://127.*/my-train-001.tar/0003.jpg", storage.name(3))


def test_class_names_may_be_missing(server: Server) -> None:
    foreign_shards(server.folder)
    (server.folder / "classes.txt").unlink()
    server.missing = 403  # as a bucket whose files nobody may list
    assert open_storage(server.url, PATTERN).classes == ("class_0", "class_1")
    with pytest.raises(ZigguratError, match=r"my-train-003.tar cannot be had: .* answers 403"):
        open_storage(server.url, "my-train-{000..003}.tar")


def test_of_foreign_shards_only_headers_are_read_and_once(server: Server) -> None:
    foreign_shards(server.folder)
    open_storage(server.url, PATTERN)
    spans = [re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "") for _, wanted in server.asked]
    sizes = [int(span[2]) - int(span[1]) + 1 for span in spans if span]
    # One byte for the size of each shard, then one piece an image and one for its end.
    assert sizes.count(1) == 3
    assert max(sizes) == 4096
    assert len(sizes) <= 3 + 3 + 5 + 3
    server.asked.clear()
    open_storage(server.url, PATTERN)
    assert sorted(server.asked) == [
        ("/classes.txt", None),
        *((f"/my-train-00{shard}.tar", "bytes=0-0") for shard in range(3)),
    ]
    # Another version of a shard is read anew.
    shutil.copy(server.folder / "my-train-000.tar", server.folder / "my-train-002.tar")
    storage = open_storage(server.url, PATTERN)
    assert storage.labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_an_empty_image_is_not_asked_for(server: Server) -> None:
    with tarfile.open(server.folder / "my-train-000.tar", "w") as tar:
        for name, data in (("0.jpg", b""), ("0.cls", b"0"), ("1.jpg", b"one"), ("1.cls", b"0")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    storage = open_storage(server.url, "my-train-{000..000}.tar")
    server.asked.clear()
    assert storage.read(0) == b""  # as on a disk: it cannot be decoded, which is said then
    assert server.asked == []
    assert storage.read(1) == b"one"


def test_a_foreign_shard_may_be_without_images_but_not_all(server: Server) -> None:
    foreign_shards(server.folder)
    with tarfile.open(server.folder / "my-train-001.tar", "w"):
        pass
    storage = open_storage(server.url, PATTERN)
    assert [storage.name(index)[-22:] for index in (1, 2)] == [
        "train-000.tar/0001.jpg",
        "train-002.tar/0004.jpg",
    ]
    with pytest.raises(ZigguratError, match=r"no images in http.*/my-train-001.tar; expected"):
        open_storage(server.url, "my-train-001.tar")


def test_faults_of_foreign_shards(server: Server) -> None:
    foreign_shards(server.folder)
    with pytest.raises(ZigguratError, match=r"my-train-003.tar cannot be had: .* answers 404"):
        open_storage(server.url, "my-train-{002..003}.tar")
    shard = server.folder / "my-train-001.tar"
    shard.write_bytes(shard.read_bytes()[:12000])
    with pytest.raises(ZigguratError, match=r"http.*my-train-001.tar is .*cut short"):
        open_storage(server.url, PATTERN)
    server.says_size = False
    with pytest.raises(ZigguratError, match="does not say how large the file is"):
        open_storage(server.url, PATTERN)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("{0..1}-{2..3}.tar", ["0-2.tar", "0-3.tar", "1-2.tar", "1-3.tar"]),
    ],
)
def test_patterns_are_written_out(pattern: str, names: list[str]) -> None:
    assert shard_names(pattern) == names


@pytest.mark.parametrize("pattern", ["a-{3..1}.tar", "a-{x..y}.tar", "a-{1,2}.tar", "a-{1..2.tar"])
def test_a_pattern_that_is_none(pattern: str) -> None:
    with pytest.raises(ZigguratError, match="braces that are no rising range"):
        shard_names(pattern)


def test_a_file_is_read_from_any_place(server: Server) -> None:
    data = bytes(range(256)) * 40
    (server.folder / "file").write_bytes(data)
    url = f"{remote_url(server.url)}/file"
    with open_web_file(url, len(data)) as file:
        assert file.read(10) == data[:10]
        assert (file.seek(-5, io.SEEK_END), file.read(9)) == (len(data) - 5, data[-5:])
        assert file.read(9) == b""
        assert (file.seek(100), file.seek(20, io.SEEK_CUR)) == (100, 120)
        assert file.read() == data[120:]
        assert file.tell() == len(data)


@pytest.mark.parametrize("package", ["pycurl", "certifi"])
def test_without_a_package_it_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_kept", web._Kept())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ZigguratError, match=rf"need the package {package}.*ziggurat\[data\]"):
        web.fetch("http://127.0.0.1:9/a")
