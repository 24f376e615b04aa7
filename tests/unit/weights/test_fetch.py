"""What enters the cache is whole, and stays what it was."""

import errno
import hashlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ziggurat.errors import ZigguratError
from ziggurat.weights.cache import Pin, read_pin
from ziggurat.weights.download import Patience
from ziggurat.weights.fetch import FOLDER, fetch
from ziggurat.weights.published_file import PublishedFile


def files_in(cache: Path) -> set[str]:
    """Names of the files in the cache that are neither locks nor the list of pins."""
    folder = cache / FOLDER
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    return {name for name in names if not name.endswith(".lock") and name != "pins.json"}


def test_second_use_asks_nobody(server: Any, published: PublishedFile, cache: Path) -> None:
    path = fetch(published)
    assert path == cache / FOLDER / "weights.pth"
    assert path.read_bytes() == server.content
    assert fetch(published) == path
    assert len(server.requests) == 1
    digest = hashlib.sha256(server.content).hexdigest()
    pin = Pin(server.url, len(server.content), digest)
    assert read_pin(cache / FOLDER, "weights.pth") == pin


@pytest.mark.parametrize("fault", ["announces_less", "page"])
def test_what_is_no_checkpoint_stays_outside(
    fault: str, server: Any, published: PublishedFile, cache: Path, impatient: Patience
) -> None:
    server.faults = [fault]
    with pytest.raises(
        ZigguratError, match="gave something else than the published weights, and nothing of it"
    ):
        fetch(published, patience=impatient)
    assert files_in(cache) == set()
    assert read_pin(cache / FOLDER, "weights.pth") is None
    assert fetch(published).read_bytes() == server.content


@pytest.mark.parametrize("fault", ["cuts", "stalls", "announces_more"])
def test_half_of_a_file_stays_outside(
    fault: str, server: Any, published: PublishedFile, cache: Path, impatient: Patience
) -> None:
    server.faults = [fault] * 3
    with pytest.raises(ZigguratError, match="could not be downloaded in 3 attempts"):
        fetch(published, patience=impatient)
    assert "weights.pth" not in files_in(cache)
    assert fetch(published, patience=impatient).read_bytes() == server.content
    assert files_in(cache) == {"weights.pth"}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"sha256_prefix": "0badf11e"}, "published is 0badf11e"),
        ({"size": 7}, "published are 7"),
    ],
)
def test_another_file_than_the_published_one_is_refused(
    facts: dict[str, object],
    message: str,
    published: PublishedFile,
    cache: Path,
) -> None:
    with pytest.raises(ZigguratError, match=f"{message}.*nothing of it was kept"):
        fetch(replace(published, **facts))  # type: ignore[arg-type]
    assert files_in(cache) == set()


def test_the_published_hash_is_accepted(server: Any, published: PublishedFile) -> None:
    digest = hashlib.sha256(server.content).hexdigest()
    file = replace(published, sha256_prefix=digest[:8], size=len(server.content))
    assert fetch(file).exists()


def test_another_file_than_the_first_one_is_refused(
    server: Any, published: PublishedFile, cache: Path, other_content: bytes
) -> None:
    fetch(published).unlink()
    server.content, server.etag = other_content, '"second"'
    with pytest.raises(ZigguratError, match=r"when it was first downloaded; .*pins\.json first"):
        fetch(published)
    assert files_in(cache) == set()


def test_a_kept_file_that_has_changed_is_refused(
    published: PublishedFile, other_content: bytes
) -> None:
    path = fetch(published)
    path.write_bytes(other_content)
    with pytest.raises(
        ZigguratError, match="when it was first downloaded; remove .* and run again"
    ):
        fetch(published)


@pytest.mark.parametrize("variable", ["ZIGGURAT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_uses_what_is_there_and_asks_nobody(
    variable: str, server: Any, published: PublishedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(ZigguratError, match="downloads are forbidden"):
        fetch(published)
    assert server.requests == []
    monkeypatch.setenv(variable, "0")
    path = fetch(published)
    monkeypatch.setenv(variable, "1")
    assert fetch(published) == path


def test_what_only_a_person_can_get_is_explained(published: PublishedFile) -> None:
    file = replace(published, url=None, page="https://drive.google.com/x", remark="a folder")
    with pytest.raises(
        ZigguratError, match=r"by a program: save weights\.pth from https://drive.*"
    ):
        fetch(file)


def test_two_at_once_download_once(
    server: Any, published: PublishedFile, impatient: Patience
) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(published, patience=impatient)))
        for _ in range(3)
    ]
    server.faults = ["cuts"]  # long enough that the others come while the first is busy
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written(
    published: PublishedFile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ZigguratError, match="set ZIGGURAT_CACHE to a folder that you can write to"):
        fetch(published)


def test_a_cache_that_can_only_be_read_is_used(
    published: PublishedFile, monkeypatch: pytest.MonkeyPatch, other_content: bytes
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    path = fetch(published)
    monkeypatch.setattr("ziggurat.weights.cache.FileLock.acquire", refuse)
    assert fetch(published) == path
    path.write_bytes(other_content)
    with pytest.raises(ZigguratError, match="when it was first downloaded"):
        fetch(published)
    with pytest.raises(ZigguratError, match="Read-only file system.*; set ZIGGURAT_CACHE"):
        fetch(replace(published, name="other.pth"))


@pytest.mark.parametrize("text", ["no json", "[]", '{"weights.pth": 3}', '{"weights.pth": {}}'])
def test_damaged_pins_are_said(text: str, published: PublishedFile, cache: Path) -> None:
    (cache / FOLDER).mkdir(parents=True)
    (cache / FOLDER / "pins.json").write_text(text)
    with pytest.raises(ZigguratError, match=r"pins\.json, which holds the hashes .* is damaged"):
        fetch(published)


def test_pins_of_other_files_stay(published: PublishedFile, cache: Path) -> None:
    fetch(published)
    fetch(replace(published, name="other.pth"))
    assert set(json.loads((cache / FOLDER / "pins.json").read_text())) == {
        "weights.pth",
        "other.pth",
    }
