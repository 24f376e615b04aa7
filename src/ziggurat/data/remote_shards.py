"""Tar shards behind http or https, read image by image.

Every image is fetched by a request for its range of bytes: any order, resuming and evaluation are
as exact as on disk. Shards of `ziggurat data pack` come with an index, which is fetched once.
Others are named by a pattern instead of a split, as in WebDataset: "train-{000000..000146}.tar".
Their headers are read once, a few kilobytes an image, and what they say is kept in the user's
cache.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import quote

from rich.console import Console
from rich.progress import track

from ziggurat.data.list_file import CLASS_NAMES
from ziggurat.data.storage import match_classes, parse_class_names
from ziggurat.data.tar_index import (
    INDEX_FILE,
    TarIndex,
    build_index,
    join_indices,
    keep_index,
    read_index,
    scan_tar,
)
from ziggurat.data.web import MissingFileError, fetch, open_web_file, size_and_version
from ziggurat.errors import ZigguratError

AT_ONCE = 16
"""Shards whose headers are read at a time."""


def remote_url(root: Path) -> str | None:
    """Return the address that a path stands for, or None where it is one of this machine.

    Args:
        root: A path, in which the two slashes of "https://" have become one.

    Raises:
        ZigguratError: If it is an address of another kind.
    """
    found = re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.*)", root.as_posix())
    if found is None or root.exists():
        return None
    url = f"{found[1]}://{found[2]}"
    if found[1] not in ("http", "https"):
        raise ZigguratError(
            f"data are read from disks and over http and https, got {url}; copy or mount them, or "
            "give an https address of the same files"
        )
    return url


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
    """Open the shards of a split by their index, or those of a pattern by their headers.

    Args:
        root: Address of the data set.
        split: Name of the split, or the pattern of its shards, below the root.
        classes: Classes in the order of their labels; None for those of the data.

    Raises:
        ZigguratError: If they cannot be had, or are damaged.
    """
    root = root.rstrip("/")
    if split.endswith(".tar"):
        folder, _, pattern = split.rpartition("/")
        url = f"{root}/{quote(folder)}" if folder else root
        parts = _scan_all(url, shard_names(pattern))
        index = join_indices(parts, f"{url}/{pattern}", _fetch_class_names(root))
        return RemoteShardStorage(url, index, classes)
    url = f"{root}/{quote(split)}"
    address = f"{url}/{INDEX_FILE}"
    try:
        return RemoteShardStorage(url, read_index(fetch(address), address), classes)
    except MissingFileError as error:
        raise ZigguratError(
            f"{error}; give the address of a folder made by `ziggurat data pack --format shards`, "
            "or for other shards their pattern in place of the split, as train-{000..146}.tar"
        ) from error


def has_remote_split(root: str, split: str) -> bool:
    """Tell whether a server has the index of a split.

    Args:
        root: Address of the packed data set.
        split: Name of the split.
    """
    try:
        fetch(f"{root.rstrip('/')}/{quote(split)}/{INDEX_FILE}", 0, 1)
    except MissingFileError:
        return False
    return True


def shard_names(pattern: str) -> list[str]:
    """Write out the names that a pattern stands for.

    Args:
        pattern: A name in which {first..last} stands for all numbers between, each as long as the
            first.

    Raises:
        ZigguratError: If there is another pair of braces in it, or a range that falls.
    """
    names = [pattern]
    while "{" in names[0]:
        found = re.search(r"\{(\d+)\.\.(\d+)\}", names[0])
        if found is None or int(found[1]) > int(found[2]):
            raise ZigguratError(
                f"the pattern of shards {pattern!r} has braces that are no rising range; expected "
                "something like train-{000000..000146}.tar"
            )
        names = [
            name[: found.start()] + str(number).zfill(len(found[1])) + name[found.end() :]
            for name in names
            for number in range(int(found[1]), int(found[2]) + 1)
        ]
    return names


def _fetch_class_names(root: str) -> tuple[str, ...] | None:
    address = f"{root}/{CLASS_NAMES}"
    try:
        return parse_class_names(fetch(address), address)
    except MissingFileError:
        return None


def _scan_all(url: str, names: Sequence[str]) -> list[TarIndex]:
    """Read the headers of shards, several at a time; a bar says how far it is."""
    console = Console(stderr=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(
            track(
                pool.map(lambda name: _scan(f"{url}/{quote(name)}", name), names),
                "reading the headers of shards",
                total=len(names),
                console=console,
                disable=not console.is_terminal or len(names) < 2,
                transient=True,
            )
        )


def _scan(url: str, name: str) -> TarIndex:
    size, version = size_and_version(url)

    def make() -> TarIndex:
        return build_index(name, size, scan_tar(partial(open_web_file, url, size), size, url))

    return keep_index((url, size, version), make)
