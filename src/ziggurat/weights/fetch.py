"""From an entry of the catalogue to a file on the disk that is what it should be.

A file enters the cache whole, by being renamed, after its size, its hash and its content were
checked: it must be a checkpoint that can be read to the end, and that fits what it is published
for.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ziggurat.checkpoints.read import read_checkpoint
from ziggurat.errors import ZigguratError
from ziggurat.weights.cache import (
    PINS,
    Pin,
    alone,
    cache_folder,
    is_offline,
    read_pin,
    write_pin,
)
from ziggurat.weights.download import Patience, Progress, download
from ziggurat.weights.published_file import PublishedFile

FOLDER = "weights"
HASHED_AT_ONCE = 1 << 22


def fetch(
    file: PublishedFile,
    *,
    check: Callable[[Path], object] = read_checkpoint,
    patience: Patience | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Return the path of a published file, after downloading it if it is not there yet.

    Args:
        file: Entry of the catalogue.
        check: Raises a `ZigguratError` unless what came holds the weights that it should; asked
            before anything of it is kept, its hash included.
        patience: How long to go on with a bad connection.
        on_progress: Is told of every block that arrives.

    Raises:
        ZigguratError: If no program can download it, downloads are forbidden, the download
            failed, or what came or is kept is another file than it should be.
    """
    if file.url is None:
        raise ZigguratError(f"{file.name} cannot be downloaded by a program: {file.how_to_get}")
    folder = cache_folder() / FOLDER
    target = folder / file.name
    # What is there is whole, and is used without a lock, so that the cache may be read-only.
    if not os.path.exists(target):
        with alone(target):
            if not os.path.exists(target):  # else another process has brought it meanwhile
                _bring(file, file.url, target, check, patience, on_progress)
                return target
    pin = read_pin(folder, file.name)
    _check(file, file.url, target, pin, folder, f"remove {target} and run again")
    return target


def _bring(
    file: PublishedFile,
    url: str,
    target: Path,
    check: Callable[[Path], object],
    patience: Patience | None,
    on_progress: Progress | None,
) -> None:
    """Download a file into the cache, where it is not yet.

    Raises:
        ZigguratError: If downloads are forbidden, it failed, or what came is another file.
    """
    folder = target.parent
    pin = read_pin(folder, file.name)
    if is_offline():
        raise ZigguratError(
            f"{file.name} is not in {folder} and downloads are forbidden by ZIGGURAT_OFFLINE "
            f"or HF_HUB_OFFLINE; unset it, or put the file of {url} there"
        )
    # The same ending as the file's, which tells readers what it is.
    part = folder / f"partial-{file.name}"
    download(url, part, patience=patience, on_progress=on_progress)
    try:
        pin = _check(file, url, part, pin, folder, "nothing of it was kept")
        _check_content(url, part, check)
    except ZigguratError:
        part.unlink(missing_ok=True)
        raise
    write_pin(folder, file.name, pin)
    os.replace(part, target)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Args:
        path: The file.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASHED_AT_ONCE):
            digest.update(block)
    return digest.hexdigest()


def _check(
    file: PublishedFile, url: str, path: Path, pin: Pin | None, folder: Path, then: str
) -> Pin:
    """Hold a file against what is published and against what it was before.

    Raises:
        ZigguratError: If it is another one.
    """
    found = Pin(url, path.stat().st_size, sha256_of(path))
    if file.size is not None and found.size != file.size:
        raise ZigguratError(
            f"{path.name} of {url} has {found.size} bytes, published are {file.size}: it is "
            f"damaged or another file; {then}"
        )
    if not found.sha256.startswith(file.sha256_prefix or ""):
        raise ZigguratError(
            f"{path.name} of {url} has the SHA-256 {found.sha256[:16]}..., published is "
            f"{file.sha256_prefix}...: it is damaged or another file; {then}"
        )
    if pin is not None and found.sha256 != pin.sha256:
        raise ZigguratError(
            f"{path.name} of {url} has the SHA-256 {found.sha256[:16]}... and {found.size} bytes, "
            f"but {pin.sha256[:16]}... and {pin.size} bytes when it was first downloaded; {then}, "
            f"and if you trust the new file, remove its entry from {folder / PINS} first"
        )
    return found


def _check_content(url: str, part: Path, check: Callable[[Path], object]) -> None:
    """Read a download to the end.

    Raises:
        ZigguratError: If it is a page, half a file, otherwise no checkpoint, or one of another
            model.
    """
    try:
        check(part)
    except ZigguratError as error:
        raise ZigguratError(
            f"{url} gave something else than the published weights, and nothing of it was kept: "
            f"{error}"
        ) from error
