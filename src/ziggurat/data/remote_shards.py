"""Tar shards of `ziggurat data pack` behind http or https, read image by image.

The index is fetched once, and every image by a request for its range of bytes: any order, resuming
and evaluation are as exact as on disk, and nothing is kept on this machine. A server that does not
answer stops the run after some tries, for its images must not pass for damaged ones.
"""

import os
import re
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ziggurat.data.storage import match_classes
from ziggurat.data.tar_index import INDEX_FILE, TarIndex, read_index
from ziggurat.errors import ZigguratError

TIMEOUT_S = 30.0
"""So long one answer may take to begin or to go on, in seconds."""
WAITS_S = (1.0, 4.0)
"""Waits before the second and the third try, in seconds."""


def remote_url(root: Path) -> str | None:
    """Return the address that a path stands for, or None where it is one of this machine.

    Args:
        root: A path, in which the two slashes of "https://" have become one.
    """
    found = re.fullmatch(r"(https?):/+(.*)", root.as_posix())
    return f"{found[1]}://{found[2]}" if found else None


class RemoteShardStorage:
    """Images by their place in the tar files of a server.

    Args:
        url: Address of the shards' folder.
        index: Where the images are.
        classes: Classes in the order of their labels; None for those of the data.
    """

    def __init__(self, url: str, index: TarIndex, classes: Sequence[str] | None) -> None:
        self.url = url
        self.index = index
        self.names = index.names
        self.labels, self.classes = match_classes(url, index.labels, index.classes, classes)

    def name(self, index: int) -> str:
        """Address of the shard, and name of an image."""
        return f"{self._shard(index)}/{os.fsdecode(self.names[index])}"

    def read(self, index: int) -> bytes:
        """Fetch the file of an image."""
        start, length = int(self.index.offsets[index]), int(self.index.lengths[index])
        return fetch(self._shard(index), start, length)

    def _shard(self, index: int) -> str:
        return f"{self.url}/{quote(self.index.shards[int(self.index.shard[index])])}"


def open_remote_shards(
    root: str, split: str, classes: Sequence[str] | None = None
) -> RemoteShardStorage:
    """Open the shards of a split by their index.

    Args:
        root: Address of the packed data set.
        split: Name of the split.
        classes: Classes in the order of their labels; None for those of the data.
    """
    url = f"{root.rstrip('/')}/{quote(split)}"
    address = f"{url}/{INDEX_FILE}"
    return RemoteShardStorage(url, read_index(fetch(address), address), classes)


def has_remote_split(root: str, split: str) -> bool:
    """Tell whether a server has the index of a split.

    Args:
        root: Address of the packed data set.
        split: Name of the split.

    Raises:
        ZigguratError: If it does not answer.
    """
    address = f"{root.rstrip('/')}/{quote(split)}/{INDEX_FILE}"
    try:
        fetch(address, 0, 1)
    except ZigguratError as error:
        if isinstance(error.__cause__, HTTPError) and error.__cause__.code == 404:
            return False
        raise
    return True


def fetch(url: str, start: int = 0, length: int | None = None) -> bytes:
    """Fetch a file or a part of it, and try again where the server or the network fails.

    Args:
        url: Address of the file.
        start: First byte.
        length: Number of bytes; None for the whole file.

    Raises:
        ZigguratError: If it is not there, or cannot be had.
    """
    headers = {} if length is None else {"Range": f"bytes={start}-{start + length - 1}"}
    failure: Exception
    for wait in (0.0, *WAITS_S):
        time.sleep(wait)
        try:
            with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
                if length is not None and answer.status != 206:
                    raise ZigguratError(
                        f"the server of {url} sends whole files only; shards are read by ranges of "
                        "bytes, put them on a server that has these"
                    )
                data: bytes = answer.read()
        except HTTPError as error:
            error.close()
            if error.code < 500 and error.code != 429:
                raise ZigguratError(
                    f"{url} cannot be had: the server answers {error.code} {error.reason}; give "
                    "the address of a folder made by `ziggurat data pack --format shards`"
                ) from error
            failure = error
        except (OSError, HTTPException) as error:
            failure = error
        else:
            if length is None or len(data) == length:
                return data
            failure = OSError(f"it sent {len(data)} bytes, expected {length}")
    raise ZigguratError(
        f"{url} cannot be had after {1 + len(WAITS_S)} tries: {failure or type(failure).__name__}; "
        "check the network and the server"
    ) from failure
