"""Files of web servers, whole or in parts, over connections that are kept open.

A server that does not answer is asked again and then stops the run, for its images must not pass
for damaged ones.
"""

import io
import os
import time
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from ziggurat.errors import ZigguratError

if TYPE_CHECKING:
    import requests
    from _typeshed import WriteableBuffer

TIMEOUT_S = 30.0
"""So long one answer may take to begin or to go on, in seconds."""
WAITS_S = (1.0, 4.0)
"""Waits before the second and the third try, in seconds."""
CONNECTIONS = 32
"""Connections to one server that are kept."""
AHEAD = 4096
"""Bytes that a file read piece by piece fetches at least: some headers of a tar file."""


MISSING = (403, 404, 410)
"""What servers answer for a file that is not there: 403 where nobody may ask what there is, as in a
bucket of S3."""


class MissingFileError(ZigguratError):
    """A server says that it does not have a file."""


def fetch(url: str, start: int = 0, length: int | None = None) -> bytes:
    """Fetch a file or a part of it, and try again where the server or the network fails.

    Args:
        url: Address of the file.
        start: First byte.
        length: Number of bytes; None for the whole file.

    Where it cannot be had, `ZigguratError` is raised, and `MissingFileError` where it is not there.
    """
    if length == 0:  # no range of bytes is empty
        return b""
    return _ask(url, start, length).content


def size_and_version(url: str) -> tuple[int, str]:
    """Return the bytes of a file, and what changes when it does, as far as the server says so.

    Args:
        url: Address of the file.

    Raises:
        ZigguratError: If it cannot be had, or the server does not say how large it is.
    """
    headers = _ask(url, 0, 1).headers
    size = headers.get("Content-Range", "").rpartition("/")[2]
    if not size.isdecimal():
        raise ZigguratError(
            f"the server of {url} does not say how large the file is; put it on a server that "
            "answers requests for ranges of bytes with Content-Range"
        )
    return int(size), headers.get("ETag") or headers.get("Last-Modified") or ""


def open_web_file(url: str, size: int) -> io.BufferedReader:
    """Open a file of a server to be read piece by piece, from any place.

    Args:
        url: Address of the file.
        size: Its bytes.
    """
    return io.BufferedReader(_WebFile(url, size), AHEAD)


class _WebFile(io.RawIOBase):
    """A file of a server; every read is a request."""

    def __init__(self, url: str, size: int) -> None:
        self.url, self.size = url, size
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        self.position = max(0, origin + offset)
        return self.position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        view = memoryview(buffer).cast("B")
        count = min(len(view), max(0, self.size - self.position))
        view[:count] = fetch(self.url, self.position, count)
        self.position += count
        return count


def _ask(url: str, start: int, length: int | None) -> "requests.Response":
    headers = {"Accept-Encoding": "identity"}  # places are those of the bytes as they are stored
    if length is not None:
        headers["Range"] = f"bytes={start}-{start + length - 1}"
    failure = ""
    for wait in (0.0, *WAITS_S):
        time.sleep(wait)
        try:
            session = _session(os.getpid(), urljoin(url, "/"))
            with session.get(url, headers=headers, timeout=TIMEOUT_S, stream=True) as answer:
                failure = _refusal(answer, url, length)
                if not failure and length in (None, len(answer.content)):
                    return answer
        except OSError as error:  # whatever requests raises is one
            failure = str(error) or type(error).__name__
            continue
        failure = failure or f"it sent {len(answer.content)} bytes, expected {length}"
    raise ZigguratError(
        f"{url} cannot be had after {1 + len(WAITS_S)} tries: {failure}; check the network and the "
        "server"
    )


def _refusal(answer: "requests.Response", url: str, length: int | None) -> str:
    """Return what passes with time, "" if nothing is wrong; the content is not read.

    Raises:
        ZigguratError: If nothing else is to be expected.
    """
    status = f"{answer.status_code} {answer.reason}"
    if answer.status_code >= 500 or answer.status_code == 429:
        return f"it answers {status}"
    if answer.status_code >= 400:
        kind = MissingFileError if answer.status_code in MISSING else ZigguratError
        raise kind(f"{url} cannot be had: the server answers {status}")
    if length is not None and answer.status_code != 206:
        raise ZigguratError(
            f"the server of {url} sends whole files only; shards are read by ranges of bytes, "
            "put them on a server that has these"
        )
    return ""


@cache
def _session(process: int, server: str) -> "requests.Session":
    """Return the connections of a process to a server; it must not share those of its parent.

    Raises:
        ZigguratError: If requests is not installed.
    """
    del process  # a key of the cache
    try:
        import requests
    except ImportError:
        raise ZigguratError(
            "data on a web server need the package requests, which is not installed; run "
            "`pip install 'ziggurat[data]'`"
        ) from None
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    # Proxy, certificates and password of the server are looked up once; for every request they
    # would take longer than the request.
    found = session.merge_environment_settings(server, {}, None, None, None)
    session.proxies, session.verify, session.cert = found["proxies"], found["verify"], found["cert"]
    session.auth = requests.utils.get_netrc_auth(server)
    session.trust_env = False
    return session
