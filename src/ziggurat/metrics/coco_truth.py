"""What an evaluation reads of a COCO annotation file: images, objects, masks, keypoints.

The masks become run lengths once, when the file is read: polygons are filled by COCO's own rule.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import mask as coco_mask
from jaxtyping import Bool, Float, Int64

from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Skeleton
from ziggurat.ops.flags import read_flag
from ziggurat.ops.image_names import with_file_name
from ziggurat.ops.run_lengths import read_counts
from ziggurat.ops.skeletons import read_points, read_sigmas, read_skeleton

Table = list[dict[str, Any]]

_OF_IMAGE = ("id", "height", "width", "file_name")
_MAX_CATEGORY_ID = 2**53
"""Beyond it float64, in which categories stand beside boxes, takes two whole numbers for one."""


@dataclass(frozen=True)
class TrueObjects:
    """True objects of one image.

    Attributes:
        category_ids: Category id of each of the G objects.
        boxes: x, y, width, height in pixels.
        masks: Run lengths as hotcoco reads them; empty where the evaluation reads no masks.
        is_crowd: Whether it stands for many objects, which need not be found.
        is_difficult: Whether it need not be found by the rules of Pascal VOC.
        points: x, y in COCO's pixels and visibility of its keypoints; without any where the
            evaluation reads none.
    """

    category_ids: Int64[np.ndarray, " G"]
    boxes: Float[np.ndarray, "G 4"]
    masks: list[dict[str, Any]]
    is_crowd: Bool[np.ndarray, " G"]
    is_difficult: Bool[np.ndarray, " G"]
    points: Float[np.ndarray, "G P 3"]


@dataclass(frozen=True)
class CocoTruth:
    """Content of an annotation file.

    Attributes:
        name: The file, for messages.
        images: id, and height, width and file_name, as far as the file has them.
        objects: All annotations, numbered anew from 1.
        categories: id and name.
        has_masks: Whether every object has run lengths in "segmentation".
        skeleton: What the keypoints in "keypoints" of every object are; None where there are none.
        sigmas: How far apart people put each point, as a share of the object's size.
        ignored: Run lengths, by image id, of pixels that the rules of Cityscapes leave out; read
            with the masks, where the file has them.
    """

    name: str
    images: Table
    objects: Table
    categories: Table
    has_masks: bool
    skeleton: Skeleton | None = None
    sigmas: tuple[float, ...] = ()
    ignored: Mapping[int, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def by_image(self) -> dict[int, TrueObjects]:
        """True objects of each image id."""
        entries: dict[int, Table] = {image["id"]: [] for image in self.images}
        for entry in self.objects:
            entries.setdefault(entry["image_id"], []).append(entry)
        num_points = 0 if self.skeleton is None else len(self.skeleton)
        return {image_id: _arrays(table, num_points) for image_id, table in entries.items()}


def read_truth(
    annotations: Path | Mapping[str, Any], *, with_masks: bool, with_keypoints: bool = False
) -> CocoTruth:
    """Read an annotation file.

    Args:
        annotations: The file, or its content.
        with_masks: Whether the masks are read; every object needs one then.
        with_keypoints: Whether the keypoints are read.

    Raises:
        ZigguratError: If it cannot be read or lacks what is needed.
    """
    name, content = "the annotations", annotations
    if isinstance(content, Path):
        name = str(content)
        try:
            content = json.loads(content.read_bytes())  # with a byte-order mark, too
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ZigguratError(
                f"{name} cannot be read as a COCO annotation file ({error}): give a JSON file "
                "with images, annotations and categories"
            ) from error
    try:
        truth = _keep(name, content, with_masks)
        return _keep_keypoints(truth, content) if with_keypoints else truth
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ZigguratError(
            f"{name} has no COCO layout ({type(error).__name__}: {error}): expected images, "
            "annotations with image_id, category_id and bbox, and categories; `ziggurat data "
            "check` names every fault"
        ) from error


def _keep(name: str, content: Any, with_masks: bool) -> CocoTruth:  # noqa: ANN401  any JSON
    needed = ("id", "height", "width") if with_masks else ("id",)
    images: Table = [
        {key: entry[key] for key in _OF_IMAGE if key in entry or key in needed}
        for entry in map(with_file_name, content["images"])
    ]
    image_of = {entry["id"]: entry for entry in images}
    # Ids are counted anew from 1: the evaluation takes an object with the id 0 for "not matched",
    # and nothing else depends on them.
    objects = []
    for number, entry in enumerate(content["annotations"], start=1):
        kept = {
            "id": number,
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": entry["bbox"],
            **{key: _flag(name, entry, key) for key in ("iscrowd", "difficult")},
        }
        area = entry["bbox"][2] * entry["bbox"][3]
        if with_masks:
            kept["segmentation"] = _run_lengths(name, entry, image_of)
            area = int(coco_mask.area(kept["segmentation"]))
        kept["area"] = entry.get("area", area)
        if type(kept["area"]) not in (int, float) or not math.isfinite(kept["area"]):
            raise ZigguratError(
                f"{name}: annotation {entry.get('id')} of image {entry['image_id']} has the area "
                f"{kept['area']!r}; expected a finite number"
            )
        objects.append(kept)
    categories = [{"id": entry["id"], "name": entry["name"]} for entry in content["categories"]]
    for entry in categories:
        if abs(entry["id"]) > _MAX_CATEGORY_ID:
            raise ZigguratError(
                f"{name}: category {entry['name']!r} has the id {entry['id']}; an evaluation reads "
                "ids of categories from -2^53 to 2^53, so number the categories anew, from 1 on"
            )
    ignored = {
        entry["id"]: _ignored(name, entry)
        for entry in content["images"]
        if with_masks and "ignored" in entry
    }
    return CocoTruth(name, images, objects, categories, with_masks, ignored=ignored)


def _flag(name: str, entry: Mapping[str, Any], key: str) -> int:
    """Return 0 or 1.

    Raises:
        ZigguratError: If the file says something else.
    """
    try:
        return int(read_flag(entry, key))
    except ValueError as error:
        raise ZigguratError(
            f"{name}: {error} in annotation {entry.get('id')} of image {entry['image_id']}"
        ) from error


def _ignored(name: str, image: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pixels of an image that are left out.

    Raises:
        ZigguratError: If they are no run lengths of the size of the image.
    """
    mask, size = image["ignored"], [image["height"], image["width"]]
    found = checked_run_lengths(mask) if isinstance(mask, dict) else None
    if found is None or list(found["size"]) != size:
        raise ZigguratError(
            f"{name}: 'ignored' of image {image['id']} cannot be read; expected the run lengths of "
            f"a mask of {size[0]} x {size[1]} pixels (height x width)"
        )
    return found


def _keep_keypoints(truth: CocoTruth, content: Any) -> CocoTruth:  # noqa: ANN401  any JSON
    """Add the keypoints; an object without has none labelled.

    Raises:
        ZigguratError: If the file does not say what they are, or some are wrong.
    """
    labelled = next((e["keypoints"] for e in content["annotations"] if e.get("keypoints")), None)
    what = truth.name
    objects = []
    try:
        num_values = len(labelled) if isinstance(labelled, list) else None
        skeleton = read_skeleton(content["categories"], num_values)
        sigmas = read_sigmas(content["categories"], skeleton)
        for kept, entry in zip(truth.objects, content["annotations"], strict=True):
            what = f"{truth.name}: annotation {entry.get('id')} of image {entry['image_id']}"
            points = read_points(entry.get("keypoints"), len(skeleton))
            num_labelled = int((points[:, 2] > 0).sum())
            objects.append(
                kept
                | {
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": entry.get("num_keypoints", num_labelled),
                }
            )
    except ValueError as error:
        raise ZigguratError(f"{what} has no usable keypoints: {error}") from error
    return replace(truth, objects=objects, skeleton=skeleton, sigmas=sigmas)


def _run_lengths(
    name: str, entry: Mapping[str, Any], image_of: Mapping[int, Mapping[str, int]]
) -> dict[str, Any]:
    """Return the mask of an object as compressed run lengths.

    Raises:
        ZigguratError: If it has none, or one that does not fit its image.
    """
    image = image_of[entry["image_id"]]
    height, width = image["height"], image["width"]
    what = f"{name}: annotation {entry.get('id')} of image {entry['image_id']}"
    mask = entry.get("segmentation")
    if not mask and (entry.get("iscrowd") or entry.get("difficult")):
        # It need not be found, so that its box will do.
        mask = [_corners(*map(float, entry["bbox"]))]
    if isinstance(mask, list):
        # A part of one or two points has no area; COCO's tools would take it for a box.
        parts = [part for part in mask if isinstance(part, list) and len(part) >= 6]
        if parts and all(_is_outline(part) for part in parts):
            return dict(coco_mask.merge(coco_mask.fr_py_objects(parts, height, width)))
    elif isinstance(mask, dict):
        found = checked_run_lengths(mask)
        if found is not None:
            if list(found["size"]) != [height, width]:
                raise ZigguratError(
                    f"{what} has a mask of {found['size'][0]} x {found['size'][1]} pixels, but the "
                    f"image has {height} x {width} (height x width); correct one of them"
                )
            return found
    raise ZigguratError(
        f"{what} has no mask that can be read: expected polygons of at least three points, or run "
        "lengths, in 'segmentation'; masks cannot be evaluated without"
    )


def _corners(x: float, y: float, width: float, height: float) -> list[float]:
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def checked_run_lengths(mask: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return compressed run lengths, or None unless they fill their image exactly.

    Args:
        mask: "size" (height, width) and "counts", compressed or not.
    """
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(s) is int for s in size)):
        return None
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts):
            return None
        if sum(counts) != size[0] * size[1]:
            return None
        compressed = coco_mask.fr_py_objects({"size": size, "counts": counts}, *size)
        return {"size": size, "counts": compressed["counts"].decode("ascii")}
    try:
        runs = read_counts(counts) if isinstance(counts, str) else None
    except ValueError:
        return None
    if runs is None or (runs < 0).any() or int(runs.sum()) != size[0] * size[1]:
        return None
    return {"size": size, "counts": counts}


def _is_outline(part: Sequence[Any]) -> bool:
    is_number = all(type(value) in (int, float) and abs(value) < 1e9 for value in part)
    return is_number and len(part) % 2 == 0


def _arrays(table: Table, num_points: int) -> TrueObjects:
    return TrueObjects(
        category_ids=np.array([entry["category_id"] for entry in table], dtype=np.int64),
        boxes=np.array([entry["bbox"] for entry in table], dtype=np.float64).reshape(-1, 4),
        masks=[entry["segmentation"] for entry in table if "segmentation" in entry],
        is_crowd=np.array([entry["iscrowd"] for entry in table], dtype=bool),
        is_difficult=np.array([entry["difficult"] for entry in table], dtype=bool),
        points=np.array(
            [entry["keypoints"] for entry in table] if num_points else [], dtype=np.float64
        ).reshape(len(table), num_points, 3),
    )
