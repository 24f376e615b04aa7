"""Pack classification data into one LMDB or into tar shards, every file byte for byte.

What is packed is written beside its place, read back, compared, and only then given its name: an
output folder that exists is whole. A broken attempt is begun anew by the next one.
"""

import errno
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ziggurat.data.check_image_folder import other_splits
from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.findings import SPLITS
from ziggurat.data.image_folder import class_folders
from ziggurat.data.labelled_images import open_storage, storage_kind
from ziggurat.data.lmdb_storage import close_environments
from ziggurat.data.pack_lmdb import write_lmdb
from ziggurat.data.pack_shards import write_shards
from ziggurat.data.storage import Storage
from ziggurat.errors import ZigguratError

PackFormat = Literal["lmdb", "shards"]
PackProgress = Callable[[str, int, int], None]
"""Is told what is being done, and how many of how many images are done."""

_PARTIAL = ".partial"


@dataclass(frozen=True)
class PackedSplit:
    """What became of a split.

    Attributes:
        name: The split.
        num_images: Images in it.
        num_bytes: Bytes of their files.
    """

    name: str
    num_images: int
    num_bytes: int


def pack(
    root: Path,
    output: Path,
    kind: PackFormat,
    *,
    shard_bytes: int,
    on_progress: PackProgress | None = None,
) -> tuple[PackedSplit, ...]:
    """Pack all splits of a data set; they have their usual names.

    Args:
        root: Class folders, lists, LMDB or shards.
        output: Folder to make.
        kind: What to write.
        shard_bytes: A shard is closed when it has this many bytes; LMDB has no shards.
        on_progress: Called after every image.

    Raises:
        ZigguratError: If the output exists, there is nothing to pack, class folders have a split
            of another name, an image cannot be read, the disk is full, or what was written is not
            what was read.
    """
    if output.exists() or output.is_symlink():
        raise ZigguratError(
            f"the output {output} exists already and is not overwritten; name another folder or "
            "remove it"
        )
    if shard_bytes < 1:
        raise ZigguratError(f"a shard needs a size of at least 1 byte, got {shard_bytes}")
    splits = _splits(root)
    partial = output.with_name(output.name + _PARTIAL)
    with _explained(output):
        _remove_broken_attempt(partial)
        partial.mkdir(parents=True)
        done = []
        classes: tuple[str, ...] | None = None
        for split in splits:
            storage = open_storage(root, split, classes)
            classes = storage.classes
            done.append(
                _pack_split(storage, split, partial / split, kind, shard_bytes, on_progress)
            )
        partial.rename(output)
    return tuple(done)


def _splits(root: Path) -> list[str]:
    kinds = {split: storage_kind(root, split) for split in SPLITS}
    found = [
        split
        for split, kind in kinds.items()
        if kind != "image_folder" or class_folders(root / split)
    ]
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ZigguratError(f"data folder {root} {what}; name the folder of a data set")
    if not found:
        raise ZigguratError(
            f"there is nothing to pack in {root}; expected train/<class>/*.jpg, train_list.txt, "
            "train/data.mdb or train/*.tar, and the same for val"
        )
    # Where images are listed or packed, other folders are no splits.
    others = other_splits(root) if {kinds[split] for split in found} == {"image_folder"} else []
    if others:
        raise ZigguratError(
            f"{root} has the splits {', '.join(found)}, and class folders in {', '.join(others)}, "
            f"which would not be packed; call a split one of {', '.join(SPLITS)}, or move what is "
            "none to another folder"
        )
    return found


def _remove_broken_attempt(partial: Path) -> None:
    if not partial.exists():
        return
    strangers = [entry.name for entry in partial.iterdir() if entry.name not in SPLITS]
    if strangers:
        raise ZigguratError(
            f"{partial} is in the way, and {strangers[0]!r} in it is not from packing; move the "
            "folder or name another output"
        )
    shutil.rmtree(partial)


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Turn what the disk may refuse into a sentence.

    Yields:
        Nothing.

    Raises:
        ZigguratError: If the disk is full or cannot be written to.
    """
    try:
        yield
    except OSError as error:
        where = output.with_name(output.name + _PARTIAL)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ZigguratError(
                f"the disk is full, packing stopped; {where} can be removed: free some space or "
                "name an output on another disk"
            ) from error
        raise ZigguratError(f"cannot write {where}: {error.strerror or error}") from error


def _pack_split(
    storage: Storage,
    split: str,
    folder: Path,
    kind: PackFormat,
    shard_bytes: int,
    on_progress: PackProgress | None,
) -> PackedSplit:
    total = len(storage.labels)
    sums: list[int] = []
    num_bytes = 0

    def images() -> Iterator[tuple[bytes, int, bytes]]:
        nonlocal num_bytes
        for index in range(total):
            try:
                data = storage.read(index)
            except ImageDecodeError as error:
                raise ZigguratError(
                    f"{error.path} cannot be packed: {error.reason}; `ziggurat data check` names "
                    "every such file, repair or remove them"
                ) from error
            sums.append(zlib.crc32(data))
            num_bytes += len(data)
            yield storage.names[index], int(storage.labels[index]), data
            if on_progress is not None:
                on_progress(f"pack {split}", index + 1, total)

    folder.mkdir()
    if kind == "lmdb":
        write_lmdb(folder, images(), storage.classes)
    else:
        write_shards(folder, images(), storage.classes, shard_bytes=shard_bytes, prefix=split)
    written = open_storage(folder.parent, split, storage.classes)
    for index, checksum in enumerate(sums):
        same = (
            zlib.crc32(written.read(index)) == checksum
            and written.labels[index] == storage.labels[index]
            and written.names[index] == storage.names[index]
        )
        if not same:
            raise ZigguratError(
                f"{written.name(index)} is not what was written: the disk or its cache is faulty; "
                "pack to another disk"
            )
        if on_progress is not None:
            on_progress(f"verify {split}", index + 1, total)
    close_environments()  # the folder is renamed next
    return PackedSplit(split, total, num_bytes)
