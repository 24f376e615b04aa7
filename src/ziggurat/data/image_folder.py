"""Classification data in the layout of ImageNet: root/<split>/<class>/<any depth>/*.jpg."""

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ziggurat.data.decode import decode_image, is_image_file
from ziggurat.data.items import KeyedDataset
from ziggurat.errors import ZigguratError
from ziggurat.types import BadFile, ImageInfo, Sample


class ImageFolder(KeyedDataset):
    """Images whose folder is their class.

    Classes and files are in sorted order, so that a label means the same on every machine.
    Files that are no images by name are left aside.

    Args:
        root: Folder of the splits.
        split: Name of the split's folder.
        transform: Makes a normalised tensor of an image.
        train: Whether another image takes the place of one that cannot be decoded.
        classes: Classes in the order of their labels; by default the folders of the split. An
            evaluation split must be given those of the training split.
        seed: Seed of the random transforms.

    Raises:
        ZigguratError: If a folder is missing, has no images, or is no class.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        transform: Callable[[Image.Image], Tensor],
        *,
        train: bool,
        classes: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        folder = _split_folder(root, split)
        found = sorted(
            entry.name
            for entry in folder.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
        if not found:
            raise ZigguratError(
                f"{folder} has no class folders; expected {folder}/<class>/<image>.jpg"
            )
        self.classes: tuple[str, ...] = tuple(found if classes is None else classes)
        _check_known(folder, found, self.classes)
        files: list[bytes] = []
        labels: list[int] = []
        for name in found:
            images = _images_below(folder, name)
            if not images and classes is None:
                raise ZigguratError(
                    f"class folder {folder / name} has no images; add some or remove the folder"
                )
            files += images
            labels += [self.classes.index(name)] * len(images)
        if not files:
            raise ZigguratError(f"{folder} has class folders but no images in them")
        self.folder = folder
        # Two arrays: a million Python objects would be copied into every worker process, since
        # looking at one already writes to its memory (the reference count).
        self._files = np.array(files)
        self.labels = np.array(labels)
        self.transform = transform
        self.train = train
        self.seed = seed

    def __len__(self) -> int:
        return len(self._files)

    def path(self, index: int) -> Path:
        """File of an image."""
        return self.folder / os.fsdecode(bytes(self._files[index]))

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        path = self.path(index)
        image = decode_image(path)
        info = ImageInfo(index, str(path), (image.height, image.width))
        return Sample(self.transform(image), int(self.labels[index]), info, skipped)


def _split_folder(root: Path, split: str) -> Path:
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ZigguratError(
            f"data folder {root} {what}; expected a folder with {split}/<class>/<image>.jpg"
        )
    folder = root / split
    if not folder.is_dir():
        present = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        raise ZigguratError(
            f"{root} has no split folder {split!r}; its folders are "
            f"{', '.join(present[:10]) or 'none'}, and {split}/<class>/<image>.jpg is expected"
        )
    return folder


def _check_known(folder: Path, found: Sequence[str], classes: Sequence[str]) -> None:
    unknown = [name for name in found if name not in set(classes)]
    if unknown:
        near = get_close_matches(unknown[0], classes, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ZigguratError(
            f"class folder {folder / unknown[0]} is none of the {len(classes)} known "
            f"classes{hint}; rename or remove it ({len(unknown)} such in all)"
        )


def _images_below(folder: Path, name: str) -> list[bytes]:
    """Files of a class, relative to the split's folder and sorted."""
    found = [
        (Path(parent) / file).relative_to(folder).as_posix()
        for parent, _, files in os.walk(folder / name, followlinks=True)
        for file in files
        if is_image_file(Path(file))
    ]
    return [os.fsencode(path) for path in sorted(found)]
