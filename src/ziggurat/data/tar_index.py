"""Where in which tar shard every image is: made by packing, or by reading the shards' headers.

Shards are in the layout of WebDataset: files of one sample share their name up to the first dot,
as `00012.jpg` and `00012.cls`. The label is the number in `.cls`, or `label` in `.json`.
"""

import contextlib
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.decode import is_image_name
from ziggurat.data.names import NameTable
from ziggurat.errors import ZigguratError

INDEX_FILE = "index.npz"
_FORMAT = "ziggurat shards 1"
_MAX_LABEL_BYTES = 1 << 20


@dataclass(frozen=True)
class TarIndex:
    """Places and labels of N images.

    Attributes:
        shards: File name of each shard.
        sizes: Size of each shard in bytes.
        shard: Number of the shard of each image.
        offsets: First byte of each image in its shard.
        lengths: Bytes of each image.
        labels: Label of each image.
        names: Name of each image.
        classes: Name of each label, where they are known.
    """

    shards: tuple[str, ...]
    sizes: tuple[int, ...]
    shard: Int64[Tensor, " N"]
    offsets: Int64[Tensor, " N"]
    lengths: Int64[Tensor, " N"]
    labels: Int64[Tensor, " N"]
    names: NameTable
    classes: tuple[str, ...] | None

    def save(self, file: IO[bytes]) -> None:
        """Write the index; numbers and bytes only, so that reading it runs nothing.

        Args:
            file: Where to.
        """
        head = {
            "format": _FORMAT,
            "shards": self.shards,
            "sizes": self.sizes,
            "classes": self.classes,
        }
        np.savez_compressed(
            file,
            head=np.frombuffer(json.dumps(head).encode(), dtype=np.uint8),
            places=torch.stack([self.shard, self.offsets, self.lengths, self.labels]).numpy(),
            name_ends=self.names.ends.numpy(),
            names=self.names.text.numpy(),
        )


def read_index(data: bytes, where: object) -> TarIndex:
    """Read what `TarIndex.save` wrote.

    Args:
        data: The file.
        where: Its place, for messages.

    Raises:
        ZigguratError: If it is damaged or of another format.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            head = json.loads(file["head"].tobytes())
            shard, offsets, lengths, labels = (torch.from_numpy(row) for row in file["places"])
            names = NameTable.from_bytes(file["names"].tobytes(), file["name_ends"])
        classes = None if head["classes"] is None else tuple(head["classes"])
        shards, sizes = tuple(head["shards"]), tuple(head["sizes"])
    except Exception as error:  # a damaged zip file raises nearly anything
        raise ZigguratError(
            f"the index {where} is damaged or not from `ziggurat data pack` ({error}); pack the "
            "data again, or remove it and the shards are read without"
        ) from error
    if head["format"] != _FORMAT:
        raise ZigguratError(
            f"the index {where} is of the format {head['format']!r}, expected {_FORMAT!r}; pack "
            "the data again"
        )
    return TarIndex(shards, sizes, shard, offsets, lengths, labels, names, classes)


@dataclass
class Member:
    """The files of a sample that count.

    Attributes:
        image: Name, first byte and length of the image.
        label: Its label.
    """

    image: tuple[str, int, int] | None = None
    label: int | None = None
    parts: set[str] = field(default_factory=set)


Samples = dict[str, Member]
"""The samples of a shard by their keys."""


def scan_shards(paths: Sequence[Path]) -> TarIndex:
    """Make the index of shards that came without one, and keep it as long as they do not change.

    Args:
        paths: The shards, in their order.
    """
    facts = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]

    def make() -> TarIndex:
        parts = [build_index(path.name, path.stat().st_size, scan_shard(path)) for path in paths]
        return join_indices(parts, f"the {len(paths)} shards beside {paths[0]}")

    return keep_index(facts, make)


def keep_index(facts: object, make: Callable[[], TarIndex]) -> TarIndex:
    """Make an index once for the same facts, and keep it in the user's cache.

    That is `$XDG_CACHE_HOME/ziggurat/shards`; where it cannot be written the index is made again
    every time.

    Args:
        facts: What the index depends on, as JSON can write it.
        make: Makes the index.
    """
    name = hashlib.sha256(json.dumps([_FORMAT, facts]).encode()).hexdigest()[:32]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = cache / "ziggurat" / "shards" / f"{name}.npz"
    index = None
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(kept.with_suffix(".lock")):  # the processes of a run come at once
            if kept.is_file():
                with contextlib.suppress(ZigguratError):  # a damaged one is made again
                    return read_index(kept.read_bytes(), kept)
            index = make()
            part = kept.with_suffix(".partial")
            with part.open("wb") as file:
                index.save(file)
            part.replace(kept)
            return index
    except OSError:
        return index or make()


def build_index(name: str, size: int, samples: Samples) -> TarIndex:
    """Make the index of one shard, which may be without images.

    Args:
        name: Its file name.
        size: Its bytes.
        samples: What its headers say.
    """
    places: list[tuple[int, int, int]] = []
    names: list[bytes] = []
    for sample in samples.values():
        if sample.image is None:
            continue
        assert sample.label is not None  # `scan_tar` refuses
        image, offset, length = sample.image
        places.append((offset, length, sample.label))
        names.append(os.fsencode(image))
    offsets, lengths, labels = torch.tensor(places, dtype=torch.int64).view(-1, 3).T.contiguous()
    return TarIndex(
        shards=(name,),
        sizes=(size,),
        shard=torch.zeros_like(labels),
        offsets=offsets,
        lengths=lengths,
        labels=labels,
        names=NameTable.of(names),
        classes=None,
    )


def join_indices(
    parts: Sequence[TarIndex], where: str, classes: tuple[str, ...] | None = None
) -> TarIndex:
    """Make one index of those of single shards.

    Args:
        parts: Index of each shard.
        where: What the shards are, for messages.
        classes: Name of each label, where they are known.

    Raises:
        ZigguratError: If there is no image in any of them.
    """
    counts = torch.tensor([len(part.labels) for part in parts])
    if not counts.any():
        raise ZigguratError(
            f"there are no images in {where}; expected samples like 00012.jpg with 00012.cls"
        )
    return TarIndex(
        shards=tuple(name for part in parts for name in part.shards),
        sizes=tuple(size for part in parts for size in part.sizes),
        shard=torch.arange(len(parts)).repeat_interleave(counts),
        offsets=torch.cat([part.offsets for part in parts]),
        lengths=torch.cat([part.lengths for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        names=NameTable.of(part.names[i] for part in parts for i in range(len(part.names))),
        classes=classes,
    )


def scan_shard(path: Path) -> Samples:
    """Read the headers and the labels of one shard on a disk.

    Args:
        path: The shard.
    """
    return scan_tar(lambda: path.open("rb"), path.stat().st_size, str(path))


def scan_tar(open_file: Callable[[], io.BufferedReader], size: int, where: str) -> Samples:
    """Read the headers and the labels of a tar file.

    Args:
        open_file: Opens the file; what is not needed of it is not read.
        size: Its bytes.
        where: Its name.

    Raises:
        ZigguratError: If it is damaged, or has a file or a label that cannot be.
    """
    samples: Samples = {}
    end = 0
    try:
        with open_file() as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for entry in tar:
                # Else tarfile keeps every header.
                tar.members = []  # type: ignore[attr-defined]
                end = entry.offset_data + entry.size
                if entry.isfile() and end <= size:
                    _add(samples, where, tar, entry)
    except (tarfile.TarError, OSError) as error:
        raise ZigguratError(
            f"{where} is damaged, cut short or no tar file ({error}); pack or copy it again"
        ) from error
    if end > size:  # tarfile sees this for all but the last file
        raise ZigguratError(f"{where} is cut short in its last file; pack or copy it again")
    for key, sample in samples.items():
        if sample.image is not None and sample.label is None:
            raise ZigguratError(
                f"{where}: the sample {key!r} has an image but no label; expected {key}.cls with a "
                f"number, or {key}.json with 'label'"
            )
    return samples


def _add(samples: Samples, where: str, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
    key, part = split_name(entry.name)
    is_image = is_image_name(f"image.{part}")
    if not key or not (is_image or part in ("cls", "json")):
        return
    sample = samples.setdefault(key, Member())
    kind = "image" if is_image else part
    if kind in sample.parts:
        what = "two images" if is_image else f"the file {entry.name!r} twice"
        raise ZigguratError(
            f"{where}: the key {key!r} is a duplicate, it has {what}; give every sample a key of "
            "its own"
        )
    sample.parts.add(kind)
    if is_image:
        sample.image = (entry.name, entry.offset_data, entry.size)
        return
    content = tar.extractfile(entry)
    assert content is not None
    label = read_label(content.read(_MAX_LABEL_BYTES), part, f"{where}: {entry.name}")
    if label is not None and (part == "cls" or sample.label is None):
        sample.label = label


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name into the key of its sample and what it is of it.

    Args:
        name: Name in the tar file; the key keeps its folders.
    """
    folder, slash, file = name.rpartition("/")
    key, _, part = file.partition(".")
    return (folder + slash + key if key else ""), part.lower()


def read_label(data: bytes, part: str, where: str) -> int | None:
    """Read the label of a sample; None where a `.json` has none.

    Args:
        data: Content of the file.
        part: "cls" or "json".
        where: Its name, for messages.

    Raises:
        ZigguratError: If it is no label.
    """
    try:
        content = json.loads(data)
    except ValueError:
        content = data[:40].decode(errors="replace")
    label = content.get("label") if part == "json" and isinstance(content, dict) else content
    if part == "json" and (label is None or not isinstance(content, dict)):
        return None
    if not isinstance(label, int) or isinstance(label, bool) or label < 0:
        raise ZigguratError(f"{where} has the label {label!r}, expected a number from 0")
    return label
