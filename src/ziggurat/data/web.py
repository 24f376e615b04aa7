"""Files of web servers, whole or in parts, over connections that are kept open.

A server that does not answer is asked again and then stops the run, for its images must not pass
for damaged ones.
"""

import io
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.errors import ZigguratError

if TYPE_CHECKING:
    import pycurl
    from _typeshed import WriteableBuffer

TIMEOUT_S = 30
"""So long one answer may take to begin or to go on, in seconds."""
WAITS_S = (1.0, 4.0)
"""Waits before the second and the third try, in seconds."""
AHEAD = 4096
"""Bytes that a file read piece by piece fetches at least: some headers of a tar file."""
BUFFER = 512 * 1024
"""Bytes that are taken from a connection at once, at most: an image."""
CERTIFICATES = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
"""Variables of the environment that name a file of certificates."""
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
    return b"".join(_ask(url, start, length).pieces)


def size_and_version(url: str) -> tuple[int, str]:
    """Return the bytes of a file, and what changes when it does, as far as the server says so.

    Args:
        url: Address of the file.

    Raises:
        ZigguratError: If it cannot be had, or the server does not say how large it is.
    """
    headers = _ask(url, 0, 1).headers()
    size = headers.get("content-range", "").rpartition("/")[2]
    if not size.isdecimal():
        raise ZigguratError(
            f"the server of {url} does not say how large the file is; put it on a server that "
            "answers requests for ranges of bytes with Content-Range"
        )
    return int(size), headers.get("etag") or headers.get("last-modified") or ""


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


@dataclass
class _Answer:
    """What a server sends.

    Attributes:
        pieces: The bytes of the file.
        lines: Headers as they come; those of an address that sends on to another stand before.
        status: Number of the last answer, 0 where none came.
    """

    pieces: list[bytes]
    lines: list[bytes]
    status: int = 0

    def headers(self) -> dict[str, str]:
        """Return the last value of each header, by its name in lower case."""
        parts = (line.decode("latin-1").partition(":") for line in self.lines)
        return {name.strip().lower(): value.strip() for name, _, value in parts}


def _ask(url: str, start: int, length: int | None) -> _Answer:
    failure = ""
    for wait in (0.0, *WAITS_S):
        time.sleep(wait)
        answer, failure = _try(url, start, length)
        failure = _refusal(answer, url, length) or failure
        if not failure:
            return answer
    raise ZigguratError(
        f"{url} cannot be had after {1 + len(WAITS_S)} tries: {failure}; check the network and the "
        "server"
    )


def _try(url: str, start: int, length: int | None) -> tuple[_Answer, str]:
    """Ask once; return the answer as far as it came, and what was wrong with it."""
    curl = _connections()
    import pycurl  # only here it is known to be installed

    answer = _Answer([], [])
    curl.setopt(pycurl.URL, url)
    if length is None:
        curl.unsetopt(pycurl.RANGE)
    else:
        curl.setopt(pycurl.RANGE, f"{start}-{start + length - 1}")
    # A server that knows no ranges would send all of a shard.
    curl.setopt(pycurl.MAXFILESIZE_LARGE, length or 0)
    curl.setopt(pycurl.WRITEFUNCTION, answer.pieces.append)
    curl.setopt(pycurl.HEADERFUNCTION, answer.lines.append)
    curl.setopt(pycurl.CONNECTTIMEOUT, TIMEOUT_S)
    curl.setopt(pycurl.LOW_SPEED_TIME, TIMEOUT_S)
    failure = ""
    try:
        curl.perform()
    except pycurl.error as error:
        failure = str(error.args[-1])
    answer.status = curl.getinfo(pycurl.RESPONSE_CODE)
    received = sum(map(len, answer.pieces))
    if not failure and length not in (None, received):
        failure = f"it sent {received} bytes, expected {length}"
    return answer, failure


def _refusal(answer: _Answer, url: str, length: int | None) -> str:
    """Return what passes with time, "" if nothing is wrong with the status.

    Raises:
        ZigguratError: If nothing else is to be expected.
    """
    if answer.status >= 500 or answer.status == 429:
        return f"it answers {answer.status}"
    if answer.status >= 400:
        kind = MissingFileError if answer.status in MISSING else ZigguratError
        raise kind(f"{url} cannot be had: the server answers {answer.status}")
    if length is not None and answer.status == 200:
        raise ZigguratError(
            f"the server of {url} sends whole files only; shards are read by ranges of bytes, "
            "put them on a server that has these"
        )
    return ""


class _Kept(threading.local):
    """The connections of a thread, by process: one must not use those of its parent."""

    def __init__(self) -> None:
        self.of_process: dict[int, pycurl.Curl] = {}


_kept = _Kept()


def _connections() -> "pycurl.Curl":
    """Return this thread's connections, which stay open from one request to the next.

    Proxies and passwords are those of the environment and of .netrc.
    """
    curl = _kept.of_process.get(os.getpid())
    if curl is None:
        curl = _kept.of_process[os.getpid()] = _new_connections()
    return curl


def _new_connections() -> "pycurl.Curl":
    """Make connections that nobody uses.

    Raises:
        ZigguratError: If a package for them is not installed.
    """
    try:
        import certifi
        import pycurl
    except ImportError as error:
        raise ZigguratError(
            f"data on a web server need the package {error.name}, which is not installed; run "
            "`pip install 'ziggurat[data]'`"
        ) from None
    curl = pycurl.Curl()
    named = [os.environ[name] for name in CERTIFICATES if os.environ.get(name)]
    curl.setopt(pycurl.CAINFO, named[0] if named else certifi.where())
    curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
    curl.setopt(pycurl.FOLLOWLOCATION, 1)
    curl.setopt(pycurl.NETRC, pycurl.NETRC_OPTIONAL)
    # Places are those of the bytes as they are stored.
    curl.setopt(pycurl.HTTPHEADER, ["Accept-Encoding: identity"])
    curl.setopt(pycurl.BUFFERSIZE, BUFFER)
    curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
    curl.setopt(pycurl.NOSIGNAL, 1)
    # Ctrl-C is noticed where Python gets a turn.
    curl.setopt(pycurl.NOPROGRESS, 0)
    curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: None)
    return curl
