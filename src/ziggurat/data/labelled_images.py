"""Classification data of any storage: recognised by where it is, handed out as samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from ziggurat.data.classification import ImageTransform
from ziggurat.data.decode import decode_image
from ziggurat.data.fast_decode import FastTrainTransform
from ziggurat.data.image_folder import open_image_folder
from ziggurat.data.items import KeyedDataset
from ziggurat.data.list_file import find_list, open_list
from ziggurat.data.lmdb_storage import find_lmdb, open_lmdb
from ziggurat.data.remote_shards import open_remote_shards, remote_url
from ziggurat.data.shards import find_shards, open_shards
from ziggurat.data.storage import Storage
from ziggurat.errors import ZigguratError
from ziggurat.types import BadFile, ImageInfo, Sample

StorageKind = Literal["image_lmdb", "image_shards", "image_list", "image_folder"]


class LabelledImages(KeyedDataset):
    """Images with one class each.

    Args:
        storage: The images and their labels.
        transform: Makes a normalised tensor of an image.
        train: Whether another image takes the place of one that cannot be decoded.
        seed: Seed of the random transforms.
    """

    def __init__(
        self,
        storage: Storage,
        transform: ImageTransform | FastTrainTransform,
        *,
        train: bool,
        seed: int = 0,
    ) -> None:
        self.storage = storage
        self.transform = transform
        self.train = train
        self.seed = seed

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.storage.classes

    def __len__(self) -> int:
        return len(self.storage.labels)

    def picture(self, index: int) -> Image.Image:
        """Decode an image as it is stored.

        Args:
            index: Number of the image.
        """
        return decode_image(self.storage.read(index), name=self.storage.name(index))

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        name = self.storage.name(index)
        if isinstance(self.transform, FastTrainTransform):
            image, size = self.transform(self.storage.read(index), name)
        else:
            picture = self.picture(index)
            image, size = self.transform(picture), (picture.height, picture.width)
        label = int(self.storage.labels[index])
        return Sample(image, label, ImageInfo(index, name, size), skipped)


def storage_kind(root: Path, split: str) -> StorageKind:
    """Recognise how a split is stored; what is nothing else is taken for class folders.

    Args:
        root: Folder of the data set.
        split: Name of the split.
    """
    if remote_url(root) is not None:
        return "image_shards"
    if find_lmdb(root, split) is not None:
        return "image_lmdb"
    if find_shards(root, split):
        return "image_shards"
    # Before the folders, which may hold all images of a split together.
    return "image_folder" if find_list(root, split) is None else "image_list"


def has_class_names(root: Path, split: str) -> bool:
    """Tell whether a split says what its classes are called, and not their numbers only.

    Args:
        root: Folder of the data set.
        split: Name of the split.
    """
    if storage_kind(root, split) == "image_folder":
        return True
    storage = open_storage(root, split)
    return any(name != f"class_{label}" for label, name in enumerate(storage.classes))


def open_storage(root: Path, split: str, classes: Sequence[str] | None = None) -> Storage:
    """Open the images of a split, however they are stored.

    Args:
        root: Folder of the data set, or the address of one behind http or https.
        split: Name of the split.
        classes: Classes in the order of their labels; by default those of the split. An
            evaluation split must be given those of the training split.

    Raises:
        ZigguratError: If the split is a pattern of shards, and these are on a disk.
    """
    url = remote_url(root)
    if url is not None:
        return open_remote_shards(url, split, classes)
    if split.endswith(".tar"):
        raise ZigguratError(
            f"{split!r} is a pattern of shards, which is for those of a server, and {root} is on a "
            "disk; name the split, as train: it has the shards train/*.tar, or those with train as "
            "a part of their name (imagenet-train-0001.tar)"
        )
    database = find_lmdb(root, split)
    if database is not None:
        return open_lmdb(root, split, database, classes)
    shards = find_shards(root, split)
    if shards:
        return open_shards(root, split, shards, classes)
    listed = find_list(root, split)
    if listed is not None:
        return open_list(root, split, listed, classes)
    return open_image_folder(root, split, classes)


def open_images(
    root: Path,
    split: str,
    transform: ImageTransform | FastTrainTransform,
    *,
    train: bool,
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> LabelledImages:
    """Open a split as a data set.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        transform: Makes a normalised tensor of an image.
        train: Whether another image takes the place of one that cannot be decoded.
        classes: As for `open_storage`.
        seed: Seed of the random transforms.
    """
    return LabelledImages(open_storage(root, split, classes), transform, train=train, seed=seed)
