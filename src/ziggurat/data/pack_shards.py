"""Write images into tar shards in the layout of WebDataset, and the index beside them."""

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import torch

from ziggurat.data.list_file import CLASS_NAMES
from ziggurat.data.names import NameTable
from ziggurat.data.tar_index import INDEX_FILE, TarIndex
from ziggurat.errors import ZigguratError


def write_shards(
    folder: Path,
    images: Iterable[tuple[bytes, int, bytes]],
    classes: Sequence[str],
    *,
    shard_bytes: int,
    prefix: str,
) -> None:
    """Write all images of a split.

    Samples are numbered, since a name with dots would be cut at the first of them; the names as
    they were are in the index.

    Args:
        folder: An empty folder.
        images: Name, label and file of each.
        classes: Name of each label.
        shard_bytes: A shard is closed when it has this many bytes.
        prefix: What the names of shards begin with.
    """
    list_of_classes = _class_list(classes)
    names: list[bytes] = []
    places: list[tuple[int, int, int, int]] = []
    shards: list[Path] = []
    tar: tarfile.TarFile | None = None
    try:
        for index, (name, label, data) in enumerate(images):
            if tar is None or tar.offset >= shard_bytes:
                if tar is not None:
                    tar.close()
                shards.append(folder / f"{prefix}-{len(shards):06d}.tar")
                tar = tarfile.TarFile(shards[-1], "w", format=tarfile.USTAR_FORMAT)
            suffix = PurePosixPath(name.decode(errors="replace")).suffix.lower()
            offset = _add(tar, f"{index:010d}{suffix}", data)
            _add(tar, f"{index:010d}.cls", str(label).encode())
            names.append(name)
            places.append((len(shards) - 1, offset, len(data), label))
    finally:
        if tar is not None:
            tar.close()
    columns = torch.tensor(places).T.contiguous()
    found = TarIndex(
        shards=tuple(path.name for path in shards),
        sizes=tuple(path.stat().st_size for path in shards),
        shard=columns[0],
        offsets=columns[1],
        lengths=columns[2],
        labels=columns[3],
        names=NameTable.of(names),
        classes=tuple(classes),
    )
    (folder / CLASS_NAMES).write_bytes(list_of_classes)
    with (folder / INDEX_FILE).open("wb") as file:
        found.save(file)


def _class_list(classes: Sequence[str]) -> bytes:
    """Write the names of classes down, one a line.

    Raises:
        ZigguratError: If one is no text.
    """
    lines = []
    for name in classes:
        try:
            lines.append(f"{name}\n".encode())
        except UnicodeEncodeError as error:
            raise ZigguratError(
                f"the class {name!r} has a name that is no UTF-8, so that {CLASS_NAMES} cannot "
                "hold it; rename its folder"
            ) from error
    return b"".join(lines)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append a file; return where its bytes begin. Times and owners are left out."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
    # The content ends at the next block of 512 bytes.
    return tar.offset - -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
