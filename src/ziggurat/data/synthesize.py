"""A data set of synthetic scenes in the standard layouts of four tasks, from one seed.

    detection/       annotations/instances_{train,val}.json, {train,val}/*.jpg
    classification/  {train,val}/<class>/*.jpg: the main object of each scene
    segmentation/    {images,annotations}/{training,validation}/*, objectInfo150.txt

They are those of COCO, of an ImageFolder and of ADE20K (label 0 = other, 1.. = classes).

Boxes with masks and keypoints serve detection, instance segmentation and keypoint detection. A mask
is a polygon, or run lengths where it has a hole or is a crowd. The keypoints are the uppermost
point of each shape and three others. The same seed gives the same bytes, and a larger number of
images only adds scenes to those of a smaller one.
"""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from ziggurat.data.masks import outlines, run_lengths
from ziggurat.data.scenes import DrawnScene, SceneObject, make_scene
from ziggurat.data.shapes import CLASSES, EDGES, KEYPOINTS
from ziggurat.errors import ZigguratError
from ziggurat.ops.skeletons import PIXEL_CENTRE
from ziggurat.types import ImageSize

MIN_SIDE = 32
"""Below this the smallest shapes are no longer told apart."""

_PARTS = ("detection", "classification", "segmentation")
_UNFINISHED = ".unfinished-"
"""The data set grows in a hidden folder of this name beside its final place."""

_ADE_SPLITS = {"train": "training", "val": "validation"}
_JPEG_QUALITY = 92


def synthesize(
    root: str | Path,
    *,
    num_images: int,
    size: ImageSize,
    seed: int,
    val_fraction: float = 0.2,
    num_classes: int = len(CLASSES),
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a data set for all tasks, whole or not at all.

    Args:
        root: Folder to write to; it may exist but must not hold a data set yet.
        num_images: Number of scenes, both splits together.
        size: Height and width of the scenes, in pixels.
        seed: Any number from 0; everything follows from it.
        val_fraction: Share of the scenes that go to the split "val"; with 0 there is none.
        num_classes: Number of classes of shapes; the fewer, the easier.
        on_progress: Called with the number of scenes written and the number of all.

    Raises:
        ZigguratError: If an argument is out of range or the data set cannot be written.
    """
    root = Path(root)
    num_val = _check(root, num_images, size, seed, val_fraction)
    if not 1 <= num_classes <= len(CLASSES):
        raise ZigguratError(f"num_classes must be 1 to {len(CLASSES)}, got {num_classes}")
    is_ours = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=_UNFINISHED, dir=root) as unfinished:
            _write(
                Path(unfinished),
                CLASSES[:num_classes],
                {"train": num_images - num_val, "val": num_val},
                size,
                seed,
                on_progress,
            )
            for name in _PARTS:
                (Path(unfinished) / name).rename(root / name)
    except OSError as error:
        if is_ours:
            with suppress(OSError):
                root.rmdir()
        raise ZigguratError(
            f"cannot write a data set to {root}: {error.strerror}; free some space or name another "
            "folder (nothing unfinished was left in this one)"
        ) from error


def _write(
    root: Path,
    classes: tuple[str, ...],
    counts: dict[str, int],
    size: ImageSize,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    writer = _Writer(root, classes)
    num_images = sum(counts.values())
    done = 0
    for number, (split, count) in enumerate(counts.items()):
        if count == 0:
            continue
        coco = _CocoFile(classes)
        for index in range(count):
            # A generator for each scene: it does not matter how many come before.
            rng = np.random.default_rng((seed, number, index))
            scene = make_scene(rng, size, index % len(classes), len(classes))
            writer.write(split, f"{split}_{index + 1:06d}", scene)
            # Ids are unique over both splits.
            coco.add(done + 1, f"{split}_{index + 1:06d}.jpg", scene)
            done += 1
            if on_progress is not None:
                on_progress(done, num_images)
        writer.write_annotations(split, coco.content())
    writer.write_class_list()


def _check(root: Path, num_images: int, size: ImageSize, seed: int, val_fraction: float) -> int:
    """Check the arguments and return the number of scenes of "val".

    Raises:
        ZigguratError: If a number is out of range or the folder already holds a data set.
    """
    if min(size) < MIN_SIDE:
        raise ZigguratError(
            f"synthetic scenes need a height and width of at least {MIN_SIDE} pixels, "
            f"got {size[0]} x {size[1]}"
        )
    if not 0 <= val_fraction < 1:
        raise ZigguratError(f"val_fraction must be at least 0 and below 1, got {val_fraction}")
    least = 1 if val_fraction == 0 else 2
    if num_images < least:
        raise ZigguratError(
            f"num_images must be at least {least} with val_fraction={val_fraction}, "
            f"got {num_images}"
        )
    if seed < 0:
        raise ZigguratError(f"seed must not be negative, got {seed}")
    if root.exists() and not root.is_dir():
        raise ZigguratError(f"cannot write a data set to {root}: it is a file; name a folder")
    taken = [name for name in _PARTS if (root / name).exists()]
    if taken:
        raise ZigguratError(
            f"{root} already holds {', '.join(taken)}; name another folder or remove it first"
        )
    if val_fraction == 0:
        return 0
    return min(max(round(num_images * val_fraction), 1), num_images - 1)


class _Writer:
    """Writes the images of all layouts."""

    def __init__(self, root: Path, classes: tuple[str, ...]) -> None:
        self.root = root
        self.classes = classes
        self.pixels_of_class = {split: np.zeros(len(classes) + 1) for split in _ADE_SPLITS}
        self.images_with_class = {
            split: np.zeros(len(classes) + 1, dtype=np.int64) for split in _ADE_SPLITS
        }

    def write(self, split: str, name: str, scene: DrawnScene) -> None:
        """Write one scene three times: whole, with its label map, and the main object alone."""
        jpeg = _encode(scene.image)
        self._put(f"detection/{split}/{name}.jpg", jpeg)
        self._put(f"segmentation/images/{_ADE_SPLITS[split]}/{name}.jpg", jpeg)
        stream = io.BytesIO()
        Image.fromarray(scene.label_map).save(stream, format="PNG")
        self._put(f"segmentation/annotations/{_ADE_SPLITS[split]}/{name}.png", stream.getvalue())
        main = scene.objects[0]
        self._put(
            f"classification/{split}/{self.classes[main.label]}/{name}.jpg",
            _encode(_close_up(scene)),
        )
        counts = np.bincount(scene.label_map.ravel(), minlength=len(self.classes) + 1)
        self.pixels_of_class[split] += counts
        self.images_with_class[split] += counts > 0

    def write_annotations(self, split: str, content: dict[str, object]) -> None:
        """Write the annotation file of a split."""
        text = json.dumps(content, separators=(",", ":"))
        self._put(f"detection/annotations/instances_{split}.json", text.encode())

    def write_class_list(self) -> None:
        """Write ADE20K's table: index, share of the labelled pixels, images of each split, name."""
        pixels = np.sum(list(self.pixels_of_class.values()), axis=0)[1:]
        shares = pixels / pixels.sum()
        rows = ["Idx\tRatio\tTrain\tVal\tName"]
        for label, name in enumerate(self.classes):
            train, val = (self.images_with_class[split][label + 1] for split in ("train", "val"))
            rows.append(f"{label + 1}\t{shares[label]:.4f}\t{train}\t{val}\t{name}")
        self._put("segmentation/objectInfo150.txt", ("\n".join(rows) + "\n").encode())

    def _put(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _encode(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()


def _close_up(scene: DrawnScene) -> np.ndarray:
    """Cut a square around the main object and enlarge it to the shorter side of the scene."""
    x, y, width, height = _box(scene.objects[0])
    rows, columns = scene.image.shape[:2]
    side = min(round(1.3 * max(width, height)), rows, columns)
    left = min(max(x + (width - side) // 2, 0), columns - side)
    top = min(max(y + (height - side) // 2, 0), rows - side)
    cut = Image.fromarray(scene.image[top : top + side, left : left + side])
    whole = min(rows, columns)
    return np.asarray(cut.resize((whole, whole), Image.Resampling.BICUBIC))


def _box(found: SceneObject) -> tuple[int, int, int, int]:
    """Return x, y, width, height of the pixels that are seen."""
    columns = np.flatnonzero(found.mask.any(axis=0))
    rows = np.flatnonzero(found.mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


@dataclass
class _CocoFile:
    """The growing content of one annotation file."""

    classes: tuple[str, ...]
    images: list[dict[str, object]] = field(default_factory=list)
    annotations: list[dict[str, object]] = field(default_factory=list)

    def add(self, image_id: int, file_name: str, scene: DrawnScene) -> None:
        height, width = scene.image.shape[:2]
        self.images.append(
            {"id": image_id, "file_name": file_name, "height": height, "width": width}
        )
        for found in scene.objects:
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image_id,
                    "category_id": found.label + 1,
                    "bbox": list(_box(found)),
                    "area": int(found.mask.sum()),
                    "iscrowd": int(found.is_crowd),
                    "segmentation": _segmentation(found),
                    "keypoints": _keypoints(found),
                    "num_keypoints": int((found.keypoints[:, 2] > 0).sum()),
                }
            )

    def content(self) -> dict[str, object]:
        """Return the whole file as COCO lays it out."""
        return {
            "info": {"description": "synthetic scenes made by ziggurat data synthesize"},
            "images": self.images,
            "annotations": self.annotations,
            "categories": [
                {
                    "id": label + 1,
                    "name": name,
                    "supercategory": "shape",
                    "keypoints": list(KEYPOINTS),
                    "skeleton": [[first + 1, second + 1] for first, second in EDGES],
                }
                for label, name in enumerate(self.classes)
            ],
        }


def _keypoints(found: SceneObject) -> list[int | float]:
    """Write the points as COCO does, which counts pixels."""
    x, y, visibility = found.keypoints.T
    is_labelled = visibility > 0
    shifted = [np.round(side - PIXEL_CENTRE, 2) * is_labelled for side in (x, y)]
    numbers: list[int | float] = np.column_stack([*shifted, visibility]).ravel().tolist()
    return [int(number) if number == int(number) else number for number in numbers]


def _segmentation(found: SceneObject) -> object:
    polygons, has_hole = outlines(found.mask)
    if has_hole or found.is_crowd:
        return {"size": list(found.mask.shape), "counts": run_lengths(found.mask)}
    return polygons
