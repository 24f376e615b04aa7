"""Check classification data that are a list, an LMDB or tar shards."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ziggurat.data.decode import ImageDecodeError, decode_image, without_pillow_warnings
from ziggurat.data.findings import (
    SPLITS,
    TRAIN_SPLITS,
    DatasetCheck,
    Example,
    Finding,
    Progress,
    Severity,
    SplitCount,
    evenly,
    in_order,
    plural,
    some,
)
from ziggurat.data.labelled_images import StorageKind, open_storage, storage_kind
from ziggurat.data.remote_shards import has_remote_split, remote_url
from ziggurat.data.storage import Storage

_NUM_EXAMPLES = 12
_BLOCK = 256
"""Images read at a time: encoded ones, which fit into memory."""


def stored_splits(root: Path, kind: StorageKind) -> list[str]:
    """Name the usual splits that a folder has in one kind of storage.

    Args:
        root: Folder of the data set.
        kind: The storage.
    """
    url = remote_url(root)
    if url is not None:
        return [split for split in SPLITS if has_remote_split(url, split)]
    return [split for split in SPLITS if storage_kind(root, split) == kind]


def find_storage(root: Path) -> StorageKind | None:
    """Recognise packed or listed images, or return None where there are none.

    Args:
        root: Folder of the data set.
    """
    kinds: tuple[StorageKind, ...] = ("image_lmdb", "image_shards", "image_list")
    return next((kind for kind in kinds if stored_splits(root, kind)), None)


def check_storage(
    root: Path, kind: StorageKind, on_progress: Progress | None = None
) -> DatasetCheck:
    """Look at every image of every split.

    Args:
        root: Folder of the data set.
        kind: How it is stored.
        on_progress: Called as images are looked at.
    """
    counts: list[SplitCount] = []
    findings: list[Finding] = []
    examples: list[Example] = []
    classes: tuple[str, ...] | None = None
    for split in stored_splits(root, kind):
        storage = open_storage(root, split, classes)
        classes = storage.classes
        bad = _look(storage, split, findings, on_progress)
        numbers = storage.labels.bincount(minlength=len(classes)).tolist()
        per_class = dict(zip(classes, numbers, strict=True))
        counts.append(SplitCount(split, len(storage.labels), "images", per_class))
        missing = [name for name, number in per_class.items() if not number]
        if missing:
            reason = f"{plural(len(missing), 'class')} without an image: {some(missing)}"
            severity: Severity = "fault" if split in TRAIN_SPLITS else "note"
            findings.append(Finding(split, reason, severity))
        good = [index for index in range(len(storage.labels)) if index not in bad]
        for chosen in (good[place] for place in evenly(len(good), _NUM_EXAMPLES)):
            name = classes[int(storage.labels[chosen])]
            examples.append(Example(storage.read(chosen), f"{split}: {name}", (name,)))
    return DatasetCheck(root, kind, tuple(counts), in_order(findings), tuple(examples))


def _look(
    storage: Storage, split: str, findings: list[Finding], on_progress: Progress | None
) -> set[int]:
    """Decode every image, several at a time; return those that are damaged."""
    bad = set()
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        with without_pillow_warnings():
            for start in range(0, len(storage.labels), _BLOCK):
                block = range(start, min(start + _BLOCK, len(storage.labels)))
                reasons: Iterable[str | None] = pool.map(lambda i: _fault(storage, i), block)
                for index, reason in zip(block, reasons, strict=True):
                    if reason is not None:
                        bad.add(index)
                        findings.append(Finding(storage.name(index), f"{split}: {reason}"))
                    if on_progress is not None:
                        on_progress(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return bad


def _fault(storage: Storage, index: int) -> str | None:
    try:
        decode_image(storage.read(index))
    except ImageDecodeError as error:
        return error.reason
    return None
