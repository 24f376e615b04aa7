"""Several views of an image, whose candidates go through one suppression together.

What `augmented.py` fuses has been suppressed view by view. Here, as in Detectron, the boxes of all
views are candidates of one image: a soft rule takes score from the boxes of other views, too, and
all views vote. The masks of what is left are drawn in every view, and their probabilities averaged;
its keypoints are looked for in every view and put together as `augmented.py` does.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ziggurat.data.loading import collate
from ziggurat.heads.keypoint_rcnn import KeypointRCNNHead
from ziggurat.inference.joined_points import mean_points
from ziggurat.inference.views import View
from ziggurat.keypoints import Keypoints
from ziggurat.models.detector import Detector, MaskHead, RawDetections
from ziggurat.ops.nms import BoxCandidates, Suppression
from ziggurat.ops.region_masks import paste_masks
from ziggurat.types import Batch, Detections, ImageSize


@dataclass(frozen=True)
class _Looks:
    """Views that went through the model together.

    Attributes:
        views: The views.
        raw: What the model said; None where nobody will ask again.
        image_sizes: Sizes of the views without their padding.
        original_sizes: Sizes of their regions in the image.
    """

    views: Sequence[View]
    raw: RawDetections | None
    image_sizes: list[ImageSize]
    original_sizes: list[ImageSize]


@torch.inference_mode()
def detect_united(
    model: Detector,
    image: Image.Image,
    views: Sequence[View],
    suppression: Suppression,
    *,
    device: torch.device,
    batch_size: int,
) -> Detections:
    """Return what several views of one part of an image show, in pixels of the image, best first.

    Args:
        model: A detector in eval mode on the device.
        image: RGB image.
        views: Views of the part.
        suppression: What is done about duplicates.
        device: Where to compute.
        batch_size: Views of one forward pass; of different sizes they are never put together.
    """
    size = (image.height, image.width)
    looks: list[_Looks] = []
    candidates: list[BoxCandidates] = []
    for some, batch in _batches(model, image, views, batch_size):
        raw = model(batch.images.to(device, memory_format=torch.channels_last), batch.image_sizes)
        originals = [info.original_size for info in batch.infos]
        found = model.candidates(raw, batch.image_sizes, originals)
        candidates += [_undo(view, one, size) for view, one in zip(some, found, strict=True)]
        kept = raw if isinstance(model.head, MaskHead | KeypointRCNNHead) else None
        looks.append(_Looks(some, kept, batch.image_sizes, originals))
    objects = BoxCandidates(
        torch.cat([one.boxes for one in candidates]),
        torch.cat([one.scores for one in candidates]),
        torch.cat([one.labels for one in candidates]),
        candidates[0].iou,
        candidates[0].max_detections,
    ).suppress(suppression)
    if isinstance(model.head, MaskHead):
        drawn = [mask for look in looks for mask in _draw(model.head, look, objects)]
        masks = paste_masks(torch.stack(drawn).mean(dim=0), objects.boxes, size)
        objects = replace(objects, masks=masks)
    if isinstance(model.head, KeypointRCNNHead):
        seen = [part for look in looks for part in _find(model.head, look, objects, size)]
        objects = replace(objects, keypoints=_together(seen, objects))
    return objects.to("cpu")


def _batches(
    model: Detector, image: Image.Image, views: Iterable[View], batch_size: int
) -> Iterator[tuple[list[View], Batch]]:
    """Prepare views, neighbours of one size together.

    Yields:
        Views, and what the model gets to see of them.
    """
    samples = ((view, view.sample(image, model.preprocessing)) for view in views)
    for _, alike in groupby(samples, lambda pair: tuple(pair[1].image.shape)):
        while pairs := list(islice(alike, batch_size)):
            some = [view for view, _ in pairs]
            yield some, collate([sample for _, sample in pairs], model.preprocessing.divisor)


def _undo(view: View, found: BoxCandidates, size: ImageSize) -> BoxCandidates:
    boxes = view.undo(Detections(found.boxes, found.scores, found.labels), size).boxes
    return replace(found, boxes=boxes)


def _find(
    head: KeypointRCNNHead, looks: _Looks, objects: Detections, size: ImageSize
) -> list[Keypoints]:
    """Return the keypoints in each view, in pixels of the image."""
    shown = [replace(objects, boxes=view.redo(objects.boxes)) for view in looks.views]
    found = head.find(looks.raw, shown, looks.image_sizes, looks.original_sizes)  # type: ignore[arg-type]
    undone = [
        view.undo(replace(one, keypoints=points), size).keypoints
        for view, one, points in zip(looks.views, shown, found, strict=True)
    ]
    return [points for points in undone if points is not None]


def _together(seen: Sequence[Keypoints], objects: Detections) -> Keypoints:
    """Join what the views say of the keypoints of the same objects."""
    count = len(objects)
    groups = [[count * view + number for view in range(len(seen))] for number in range(count)]
    everything = replace(seen[0], points=torch.cat([part.points for part in seen]))
    boxes = objects.boxes.repeat(len(seen), 1)
    return mean_points(everything, boxes, groups, torch.ones_like(boxes[:, 0]))


def _draw(head: MaskHead, looks: _Looks, objects: Detections) -> list[Float[Tensor, "N 28 28"]]:
    """Return the probabilities of the masks in each view, as the image is turned."""
    assert looks.raw is not None
    shown = [replace(objects, boxes=view.redo(objects.boxes)) for view in looks.views]
    drawn = head.draw(looks.raw, shown, looks.image_sizes, looks.original_sizes)  # type: ignore[arg-type]
    return [
        mask.flip(2) if view.is_mirrored else mask
        for view, mask in zip(looks.views, drawn, strict=True)
    ]
