"""Pictures of what an evaluation found, truth beside prediction, drawn from what it kept.

No model runs again, so that a results file without its model has pictures, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hotcoco import mask as coco_mask
from jaxtyping import Float, Int64

from ziggurat.data.coco_file import CocoFile
from ziggurat.data.decode import ImageDecodeError, decode_image
from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.metrics.coco_counts import FoundObjects
from ziggurat.metrics.coco_truth import CocoTruth
from ziggurat.metrics.errors import ErrorBreakdown
from ziggurat.ops.skeletons import PIXEL_CENTRE
from ziggurat.types import Detections, ImageSize, ObjectMasks
from ziggurat.visualize.draw import draw_detections
from ziggurat.visualize.report import Comparison, Gallery


@dataclass(frozen=True)
class EvaluatedObjects:
    """Found and true objects of an evaluation, and where its images are.

    Attributes:
        truth: True objects.
        found: What was found, by image id.
        category_ids: Category id of each class; None for one that the data do not know.
        classes: Names of the classes.
        images: File of each image id; empty where there are no images.
    """

    truth: CocoTruth
    found: Mapping[int, FoundObjects]
    category_ids: Sequence[int | None]
    classes: Sequence[str]
    images: Mapping[int, Path]


def draw_worst(objects: EvaluatedObjects, breakdown: ErrorBreakdown) -> Gallery:
    """Draw the images with most mistakes; those that cannot be decoded are left out.

    Args:
        objects: What was found.
        breakdown: Names the images, and the score from which on objects are drawn.
    """
    items = []
    for worst in breakdown.worst:
        path = objects.images.get(worst.image_id)
        if path is None:
            continue
        try:
            image = decode_image(path)
        except ImageDecodeError:
            continue
        size = (image.height, image.width)
        found = objects.found[worst.image_id]
        sure = np.flatnonzero(found.rows[:, 5] >= breakdown.threshold)
        masks = found.run_lengths()
        truth = true_detections(objects.truth, objects.category_ids, worst.image_id, size)
        prediction = _detections(
            objects.category_ids,
            found.rows[sure, 1:5],
            found.rows[sure, 5],
            found.rows[sure, 6].astype(np.int64),
            [masks[number] for number in sure] if masks else [],
            size,
        )
        points = None if found.points is None else found.points[sure]
        prediction = _add_points(
            prediction, points, found.rows[sure, 6], objects.category_ids, objects.truth.skeleton
        )
        mistakes = ", ".join(f"{count} {name}" for name, count in worst.mistakes.items())
        items.append(
            Comparison(
                f"{path.name}: {mistakes}",
                draw_detections(image, truth, objects.classes, show_scores=False),
                draw_detections(image, prediction, objects.classes),
            )
        )
    note = (
        f"The {len(items)} images with most mistakes among {breakdown.of} with a score of at least "
        f"{breakdown.threshold:.2f}, where precision and recall are in balance."
    )
    return Gallery("Worst images", note, items)


def image_paths(file: CocoFile, folder: Path) -> dict[int, Path]:
    """Return the file of each image id.

    Args:
        file: Content of an annotation file.
        folder: What its file names are relative to.
    """
    return dict(zip(file.image_ids, (folder / name for name in file.file_names), strict=True))


def true_detections(
    truth: CocoTruth, category_ids: Sequence[int | None], image_id: int, size: ImageSize
) -> Detections:
    """Return the true objects of an image, crowds included, in its pixels.

    Args:
        truth: True objects of all images.
        category_ids: Category id of each class; None for one that the data do not know.
        image_id: The image.
        size: Its height and width.
    """
    true = truth.by_image[image_id]
    scores = np.ones(len(true.boxes))
    objects = _detections(category_ids, true.boxes, scores, true.category_ids, true.masks, size)
    return _add_points(objects, true.points, true.category_ids, category_ids, truth.skeleton)


def _detections(
    known: Sequence[int | None],
    boxes: Float[np.ndarray, "N 4"],
    scores: Float[np.ndarray, " N"],
    category_ids: Int64[np.ndarray, " N"],
    masks: Sequence[Mapping[str, Any]],
    size: ImageSize,
) -> Detections:
    """Turn boxes as x, y, width, height and run lengths into what can be drawn."""
    label_of = {category: label for label, category in enumerate(known) if category is not None}
    keep = [n for n, category in enumerate(category_ids.tolist()) if category in label_of]
    corners = boxes[keep].copy()
    corners[:, 2:] += corners[:, :2]
    labels = [label_of[category] for category in category_ids[keep].tolist()]
    return Detections(
        torch.from_numpy(corners),
        torch.from_numpy(scores[keep]),
        torch.tensor(labels, dtype=torch.int64),
        _decode([masks[number] for number in keep], size) if masks else None,
    )


def _add_points(
    objects: Detections,
    points: Float[np.ndarray, "N P 3"] | None,
    category_ids: Int64[np.ndarray, " N"] | Float[np.ndarray, " N"],
    known: Sequence[int | None],
    skeleton: Skeleton | None,
) -> Detections:
    """Give objects their keypoints, which are counted in COCO's pixels."""
    if points is None or skeleton is None:
        return objects
    kept = points[np.isin(category_ids, [number for number in known if number is not None])]
    moved = torch.from_numpy(kept + [PIXEL_CENTRE, PIXEL_CENTRE, 0])
    return replace(objects, keypoints=Keypoints(moved, skeleton))


def _decode(masks: Sequence[Mapping[str, Any]], size: ImageSize) -> ObjectMasks:
    """Cut the windows out of masks, one after the other: never are all of them full-size."""
    parts = []
    for mask in masks:
        full = torch.from_numpy(np.asarray(coco_mask.decode(dict(mask)), dtype=bool))
        parts.append(ObjectMasks.from_full(full[None]))
    if not parts:
        return ObjectMasks.from_full(torch.zeros((0, *size), dtype=torch.bool))
    return ObjectMasks(
        torch.cat([part.pixels for part in parts]),
        torch.cat([part.windows for part in parts]),
        parts[0].size,
    )
