"""Images in tar shards on disk, each one read by itself: order and resuming are exact."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.list_file import find_class_names
from ziggurat.data.storage import match_classes
from ziggurat.data.tar_index import INDEX_FILE, TarIndex, read_index, scan_shards
from ziggurat.errors import ZigguratError


class ShardStorage:
    """Images by their place in uncompressed tar files.

    Args:
        folder: Folder of the shards.
        index: Where the images are; its labels are those of `classes`.
        classes: Name of each label.
    """

    def __init__(self, folder: Path, index: TarIndex, classes: Sequence[str] | None) -> None:
        own = index.classes or find_class_names(folder) or find_class_names(folder.parent)
        self.folder = folder
        self.index = index
        self.names = index.names
        self.labels, self.classes = match_classes(folder, index.labels, own, classes)

    def name(self, index: int) -> str:
        """Shard and name of an image."""
        return os.path.join(self._shard(index), os.fsdecode(self.names[index]))

    def read(self, index: int) -> bytes:
        """Return the file of an image.

        Raises:
            ImageDecodeError: If the shard is gone or too short.
        """
        length = int(self.index.lengths[index])
        try:
            # Opened for every image: a thousand open shards are more than a process may have.
            with open(self._shard(index), "rb") as file:
                file.seek(int(self.index.offsets[index]))
                data = file.read(length)
        except OSError as error:
            raise ImageDecodeError(self.name(index), error.strerror or str(error)) from error
        if len(data) < length:
            raise ImageDecodeError(self.name(index), "its shard is cut short")
        return data

    def _shard(self, index: int) -> str:
        return os.path.join(self.folder, self.index.shards[int(self.index.shard[index])])


def find_shards(root: Path, split: str) -> tuple[Path, ...]:
    """Return the shards of a split in their order, none where there are none.

    Archives from which files were unpacked may lie beside them, and are none.

    Args:
        root: Folder of the data set.
        split: Name of the split.
    """
    inside = root / split
    if inside.is_dir():
        visible = [path for path in inside.iterdir() if not path.name.startswith(".")]
        tars = [path for path in visible if path.suffix == ".tar"]
        found = [path for path in tars if not path.with_suffix("").is_dir()]
        if found or (inside / INDEX_FILE).is_file():
            return tuple(sorted(found)) or (inside / INDEX_FILE,)
        if visible:  # train.tar and ILSVRC2012_img_train.tar beside it are where this comes from
            return ()
    # As published: imagenet1k-train-0000.tar and train-000000.tar, beside those of other splits.
    if not root.is_dir():
        return ()
    parts = [path for path in root.glob("*.tar") if split in re.split("[-_]", path.stem)]
    return tuple(sorted(parts))


def open_shards(
    root: Path, split: str, shards: Sequence[Path], classes: Sequence[str] | None = None
) -> ShardStorage:
    """Open shards, by their index where they have one.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        shards: As `find_shards` says.
        classes: Classes in the order of their labels; by default those of the data.

    Raises:
        ZigguratError: If a shard is missing, of another size than packed, or wrong inside.
    """
    folder = shards[0].parent
    path = folder / INDEX_FILE
    if folder != root / split or not path.is_file():
        return ShardStorage(folder, scan_shards(shards), classes)
    index = read_index(path.read_bytes(), path)
    for name, size in zip(index.shards, index.sizes, strict=True):
        found = (folder / name).stat().st_size if (folder / name).is_file() else None
        if found != size:
            what = "is missing" if found is None else f"has {found} bytes, expected {size}"
            raise ZigguratError(f"the shard {folder / name} {what}; pack or copy it again")
    unknown = [shard.name for shard in shards if shard.name not in {*index.shards, INDEX_FILE}]
    if unknown:
        raise ZigguratError(
            f"{folder / unknown[0]} is not in the index {path}; move it away, or remove the index "
            "to read all shards"
        )
    return ShardStorage(folder, index, classes)
