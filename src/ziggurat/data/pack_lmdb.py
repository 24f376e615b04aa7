"""Write images into an LMDB of ours; its layout is told in `lmdb_storage`."""

import errno
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ziggurat.data.lmdb_storage import FORMAT, image_key, import_lmdb

_MAP_BYTES = 1 << 30
_BATCH_BYTES = 64 << 20
"""Images of one transaction, held in memory to be written again where the map was too small."""

Entries = list[tuple[bytes, bytes]]


def write_lmdb(
    folder: Path, images: Iterable[tuple[bytes, int, bytes]], classes: Sequence[str]
) -> None:
    """Write all images of a split.

    Args:
        folder: An empty folder.
        images: Name, label and file of each.
        classes: Name of each label.

    Raises:
        OSError: If the disk is full or fails.
    """
    lmdb = import_lmdb()
    # Only at the end on disk: an attempt that breaks off is begun anew.
    environment = lmdb.open(str(folder), map_size=_MAP_BYTES, sync=False, lock=False)
    names, ends, labels = bytearray(), [], []
    batch: Entries = []
    batch_bytes = 0

    def flush() -> None:
        while True:
            try:
                with environment.begin(write=True) as transaction:
                    for key, data in batch:
                        transaction.put(key, data)
                break
            except lmdb.MapFullError:
                environment.set_mapsize(2 * environment.info()["map_size"])
        batch.clear()

    try:
        for index, (name, label, data) in enumerate(images):
            names += name
            ends.append(len(names))
            labels.append(label)
            batch.append((image_key(index), data))
            batch_bytes += len(data)
            if batch_bytes > _BATCH_BYTES:
                flush()
                batch_bytes = 0
        batch += [
            (b"classes", json.dumps(list(classes)).encode()),
            (b"labels", np.array(labels, dtype="<i8").tobytes()),
            (b"names", bytes(names)),
            (b"name_ends", np.array(ends, dtype="<i8").tobytes()),
            (b"format", FORMAT),
        ]
        flush()
        environment.sync(True)
    except lmdb.DiskError as error:
        raise OSError(errno.ENOSPC, str(error)) from error
    finally:
        environment.close()
