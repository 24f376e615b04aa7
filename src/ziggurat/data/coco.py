"""Detection data in the layout of COCO: annotations/instances_<split>.json and <split>/*.jpg.

Keypoints are in annotations/person_keypoints_<split>.json, or where that is missing in the former.
Where there are no such files, <split>/_annotations.coco.json beside <split>/*.jpg, as tools export
it.

The file is read once and checked whole: whatever is wrong in it is said before training starts,
with the file and the id.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from PIL import Image
from torch import Tensor

from ziggurat.data.coco_file import Annotations, CocoFile, read_coco_file
from ziggurat.data.copy_paste import paste_objects
from ziggurat.data.decode import ImageDecodeError, decode_image
from ziggurat.data.items import KeyedDataset
from ziggurat.data.splits import names_of
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Keypoints
from ziggurat.types import BadFile, Detections, ImageInfo, ImageSize, Sample

MIN_TRAIN_SIDE = 32
"""Images with a shorter side, in pixels, are left out of training, as officially."""


class CocoDetection(KeyedDataset):
    """Images with their objects; crowds and boxes thinner than a pixel are left out.

    Args:
        annotations: The JSON file, or what was read from another format.
        images: Folder that its file names are relative to.
        transform: Makes a normalised tensor and boxes in its pixels of an image and its boxes.
        train: Whether another image takes the place of one that cannot be decoded, and images with
            a side shorter than 32 pixels are left out.
        keep_empty: Whether images without a usable box, or without a labelled keypoint where
            those are read, stay in: yes for evaluation, where every image counts.
        with_masks: Whether the objects have their masks; each needs one in the file then.
        copy_paste: Probability that objects of another image are pasted onto an image; needs
            `with_masks`.
        with_keypoints: Whether the objects have their keypoints.
        seed: Seed of the random transforms.

    Attributes:
        rows: Place in the file of each image.
        num_small: Images left out for their size.
        num_empty: Images left out since nothing is marked in them.

    Raises:
        ValueError: If objects are to be pasted without masks.
        ZigguratError: If the file or the folder is missing or wrong, or no image is left.
    """

    def __init__(
        self,
        annotations: Path | Annotations,
        images: Path,
        transform: Callable[[Image.Image, Detections], tuple[Tensor, Detections]],
        *,
        train: bool,
        keep_empty: bool,
        with_masks: bool = False,
        copy_paste: float = 0.0,
        with_keypoints: bool = False,
        seed: int = 0,
    ) -> None:
        if copy_paste and not with_masks:
            raise ValueError("copy_paste needs with_masks=True")
        path = annotations if isinstance(annotations, Path) else annotations.path
        if not images.is_dir():
            raise ZigguratError(f"image folder {images} does not exist; {path} needs it")
        self.file: CocoFile = read_coco_file(
            annotations, with_masks=with_masks, with_keypoints=with_keypoints
        )
        self.folder = images
        self.classes: tuple[str, ...] = self.file.classes
        self.category_ids: tuple[int, ...] = self.file.category_ids
        is_small = (self.file.sizes.sides.min(axis=1) < MIN_TRAIN_SIDE) & train
        is_empty = ~_has_objects(self.file) & ~is_small & (not keep_empty)
        self.rows: Int64[np.ndarray, " n"] = np.flatnonzero(~is_small & ~is_empty)
        self.num_small, self.num_empty = int(is_small.sum()), int(is_empty.sum())
        if not len(self.rows):
            labelled = ", a labelled keypoint" if with_keypoints else ""
            objects = "" if keep_empty else f"a box of at least 1 x 1 pixel{labelled} and "
            raise ZigguratError(
                f"{path} has {len(self.file.image_ids)} images but none with {objects}sides of at "
                f"least {MIN_TRAIN_SIDE} pixels to train on"
            )
        self.transform = transform
        self.train = train
        self.copy_paste = copy_paste
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> list[ImageSize]:
        """Height and width of every image, as the file says."""
        return self.file.sizes.take(self.rows)

    def target(self, index: int) -> Detections:
        """Objects of an image, in its own pixels."""
        row = self.rows[index]
        start, stop = self.file.offsets[row : row + 2]
        boxes = torch.from_numpy(self.file.boxes[start:stop].copy())
        labels = torch.from_numpy(self.file.labels[start:stop].copy())
        segments = self.file.segments
        masks = None
        if segments is not None:
            masks = segments.masks(int(start), int(stop), self.file.sizes[row])
        keypoints = None
        if self.file.points is not None and self.file.skeleton is not None:
            points = torch.from_numpy(self.file.points[start:stop].copy())
            keypoints = Keypoints(points, self.file.skeleton)
        return Detections(boxes, torch.ones(len(labels)), labels, masks, keypoints)

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        row = int(self.rows[index])
        tensor, target = self.transform(self._decode(row), self.target(index))
        if self.copy_paste > 0 and float(torch.rand(())) < self.copy_paste:
            other = int(torch.randint(len(self), ()))
            source = self.transform(self._decode(int(self.rows[other])), self.target(other))
            tensor, target = paste_objects(tensor, target, *source)
        path = self.folder / self.file.file_names[row]
        size = self.file.sizes[row]
        info = ImageInfo(self.file.image_ids[row], str(path), size)
        return Sample(tensor, target, info, skipped)

    def _decode(self, row: int) -> Image.Image:
        path = self.folder / self.file.file_names[row]
        image = decode_image(path)
        size = (image.height, image.width)
        if size != self.file.sizes[row]:
            # Boxes of another size or of an unrotated image would be in the wrong places.
            height, width = self.file.sizes[row]
            raise ImageDecodeError(
                str(path),
                f"upright it is {size[1]} x {size[0]} pixels, "
                f"but {self.file.path.name} says {width} x {height}",
            )
        return image


def _has_objects(file: CocoFile) -> Bool[np.ndarray, " N"]:
    """Tell which images have a box, or a labelled keypoint where those are read."""
    num_images = len(file.image_ids)
    image_of = np.repeat(np.arange(num_images), np.diff(file.offsets))
    if file.points is not None:
        image_of = image_of[file.points[:, :, 2].any(axis=1)]
    return np.bincount(image_of, minlength=num_images) > 0


PREFIXES = ("instances_", "person_keypoints_")
"""What the names of annotation files begin with; either kind has boxes."""

EXPORTED_FILE = "_annotations.coco.json"
"""Name of the annotation file of a split beside its images."""


def is_coco(root: Path) -> bool:
    """Tell whether a folder has annotation files named as COCO's."""
    return bool(annotation_files(root))


def annotation_files(root: Path) -> list[Path]:
    """List the annotation files of a data set.

    Args:
        root: Its folder.
    """
    files = sorted((root / "annotations").glob("*.json"))
    named = [path for path in files if path.name.startswith(PREFIXES)]
    return named or sorted(root.glob(f"*/{EXPORTED_FILE}"))


def find_coco(root: Path, split: str, *, with_keypoints: bool = False) -> tuple[Path, Path]:
    """Find a split's annotation file and image folder; "train" may be "train2017" on disk.

    Args:
        root: Folder of the data set.
        split: Name of the split: "train", "val", or any other.
        with_keypoints: Whether the file that COCO has keypoints in goes before the other.

    Raises:
        ZigguratError: If one of them is missing.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ZigguratError(
            f"data folder {root} {what}; expected a folder with "
            f"annotations/instances_{split}.json and {split}/"
        )
    listed = annotation_files(root)
    if listed and listed[0].name == EXPORTED_FILE:
        return _find_exported(root, split, listed)
    names = (split, f"{split}2017", *names_of(split)[1:])
    prefixes = reversed(PREFIXES) if with_keypoints else PREFIXES
    files = [root / "annotations" / f"{prefix}{name}.json" for prefix in prefixes for name in names]
    folders = [root / name for name in names]
    folders += [root / "images" / name for name in names]
    found_files = [file for file in files if file.is_file()]
    found_folders = [folder for folder in folders if folder.is_dir()]
    if not found_files:
        raise ZigguratError(
            f"{root} has no annotations of split {split!r}: looked for {_either(files[:2])}"
            f"{_others(root, split)}"
        )
    if not found_folders:
        raise ZigguratError(
            f"{root} has no images of split {split!r}: looked for {_either(folders[:2])}"
        )
    return found_files[0], found_folders[0]


def _find_exported(root: Path, split: str, files: list[Path]) -> tuple[Path, Path]:
    folders = {path.parent.name: path.parent for path in files}
    for name in names_of(split):
        if name in folders:
            return folders[name] / EXPORTED_FILE, folders[name]
    raise ZigguratError(
        f"{root} has no split {split!r} (no {split}/{EXPORTED_FILE}); it has {', '.join(folders)}"
    )


def _others(root: Path, split: str) -> str:
    """Say what else there is to name: files of annotations elsewhere."""
    found = [str(path) for path in sorted((root / "annotations").glob("*.json"))]
    if not found:
        return ""
    has = f"; it has {', '.join(found[:3])}"
    if split not in ("train", "val"):  # it was named, by an option that knows of no other places
        return has
    return (
        f"{has}: another split is named with --data.{split}_split, and "
        f"files in any place with --data.{split}_annotations and --data.{split}_images"
    )


def _either(paths: list[Path]) -> str:
    return " and ".join(str(path) for path in paths)
