"""Downloads end whole or not at all, whatever the server does."""

from pathlib import Path
from typing import Any

import pytest

from ziggurat.errors import ZigguratError
from ziggurat.weights.download import Patience, download


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "partial-weights.pth"


def test_whole_file_arrives_and_progress_is_told(server: Any, part: Path) -> None:
    told: list[tuple[int, int | None]] = []
    download(server.url, part, on_progress=lambda done, total: told.append((done, total)))
    assert part.read_bytes() == server.content
    assert told[-1] == (len(server.content), len(server.content))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert not part.with_name(f"{part.name}.state").exists()


@pytest.mark.parametrize("fault", ["cuts", "stalls"])
def test_goes_on_where_a_connection_ended(
    fault: str, server: Any, part: Path, impatient: Patience
) -> None:
    server.faults = [fault]
    download(server.url, part, patience=impatient)
    assert part.read_bytes() == server.content
    assert [extent for _, extent in server.requests] == [
        None,
        f"bytes={len(server.content) // 2}-",
    ]


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(
    server: Any, part: Path, impatient: Patience
) -> None:
    server.faults = ["cuts"] * 3
    with pytest.raises(ZigguratError, match=r"3 attempts: the connection ended after .* are kept"):
        download(server.url, part, patience=impatient)
    kept = part.stat().st_size
    download(server.url, part, patience=impatient)
    assert server.requests[-1][1] == f"bytes={kept}-"
    assert part.read_bytes() == server.content


def test_begins_anew_if_the_file_has_changed(
    server: Any, part: Path, impatient: Patience, other_content: bytes
) -> None:
    server.faults = ["cuts"] * 3
    with pytest.raises(ZigguratError):
        download(server.url, part, patience=impatient)
    server.content, server.etag = other_content, '"second"'
    download(server.url, part, patience=impatient)
    assert part.read_bytes() == server.content


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_begins_anew_without_a_validator(
    etag: str | None, server: Any, part: Path, impatient: Patience
) -> None:
    server.etag, server.faults = etag, ["cuts"]
    download(server.url, part, patience=impatient)
    assert [extent for _, extent in server.requests] == [None, None]
    assert part.read_bytes() == server.content


@pytest.mark.parametrize("fault", ["ignores_range", "other_part", "500"])
def test_survives_servers_that_cannot_resume(
    fault: str, server: Any, part: Path, impatient: Patience
) -> None:
    server.faults = ["cuts", fault]
    download(server.url, part, patience=impatient)
    assert part.read_bytes() == server.content


def test_begins_anew_if_more_is_here_than_there(
    server: Any, part: Path, impatient: Patience
) -> None:
    server.faults = ["cuts"] * 3
    with pytest.raises(ZigguratError):
        download(server.url, part, patience=impatient)
    with open(part, "ab") as file:
        file.write(bytes(len(server.content)))
    download(server.url, part, patience=impatient)
    assert part.read_bytes() == server.content


@pytest.mark.parametrize(("fault", "requests"), [("none", 1), ("no_size", 2)])
def test_what_was_complete_is_not_downloaded_again(
    fault: str, requests: int, server: Any, part: Path, impatient: Patience
) -> None:
    server.faults = ["cuts"] * 3
    with pytest.raises(ZigguratError):
        download(server.url, part, patience=impatient)
    part.write_bytes(server.content)  # as where a process ended behind the last byte
    server.requests.clear()
    server.faults = [fault]
    download(server.url, part, patience=impatient)
    assert len(server.requests) == requests
    assert part.read_bytes() == server.content


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("stalls", "nothing came for 0.3 seconds"),
        ("announces_more", "the connection ended after"),
        ("503", "the server answered 503"),
        ("429", "the server answered 429"),
    ],
)
def test_gives_up_with_the_reason(
    fault: str, reason: str, server: Any, part: Path, impatient: Patience
) -> None:
    server.etag, server.faults = None, [fault] * 3
    with pytest.raises(ZigguratError, match=f"in 3 attempts: {reason}"):
        download(server.url, part, patience=impatient)
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", ["403", "404", "410"])
def test_a_refusal_is_final(code: str, server: Any, part: Path, impatient: Patience) -> None:
    server.faults = [code]
    with pytest.raises(ZigguratError, match=f"the server answered {code} .* get it with a browser"):
        download(server.url, part, patience=impatient)
    assert len(server.requests) == 1


def test_no_server_at_all(part: Path, impatient: Patience) -> None:
    with pytest.raises(ZigguratError, match="in 3 attempts: the connection failed"):
        download("http://127.0.0.1:9/weights.pth", part, patience=impatient)
    assert not part.exists()


def test_proxy_of_the_environment_is_used(
    server: Any, part: Path, monkeypatch: pytest.MonkeyPatch, impatient: Patience
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    download("http://weights.invalid/file.pth", part, patience=impatient)
    assert server.requests == [("http://weights.invalid/file.pth", None)]
    assert part.read_bytes() == server.content


@pytest.mark.parametrize("ending", ["", ".state"])
def test_a_full_disk_is_said(ending: str, server: Any, part: Path, impatient: Patience) -> None:
    part.parent.mkdir()
    part.with_name(part.name + ending).mkdir()  # nothing can be written there
    with pytest.raises(
        ZigguratError, match="cannot write .* free some space or set ZIGGURAT_CACHE"
    ):
        download(server.url, part, patience=impatient)
