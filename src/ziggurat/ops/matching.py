"""Which anchor is responsible for which true object."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import box_iou

BACKGROUND = -1
IGNORED = -2


def match_by_iou(
    anchors: Float[Tensor, "N 4"],
    boxes: Float[Tensor, "G 4"],
    *,
    foreground_iou: float,
    background_iou: float,
    least_forced_iou: float | None = 0.0,
    max_pairs: int = 2_000_000,
) -> Int[Tensor, " N"]:
    """Give each anchor the index of its object, or BACKGROUND, or IGNORED.

    The rule of the published systems: the best object of an anchor if their IoU is at least
    `foreground_iou`; background below `background_iou`; ignored between. Besides, every anchor
    that ties for the best IoU of an object gets that object (a later object wins over an earlier
    one), so that few objects are left without an anchor.

    Differs from mmdet/max_iou_assigner: an object that touches no anchor gets none; there it
    would get all of them, since they tie at an IoU of zero.

    Args:
        anchors: Anchors in pixels.
        boxes: True boxes in pixels.
        foreground_iou: Least IoU of a foreground anchor.
        background_iou: IoU below which an anchor is background.
        least_forced_iou: IoU from which on the best anchors of an object get it in any case; None
            forces nothing.
        max_pairs: Anchor-object pairs held in memory at once; more are taken in turns.
    """
    matches = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    if len(boxes) == 0 or len(anchors) == 0:
        return matches
    best_iou = anchors.new_full((len(anchors),), -1.0)
    best_object = torch.zeros_like(matches)
    forced = torch.full_like(matches, BACKGROUND)
    turn = max(1, max_pairs // len(anchors))
    for first in range(0, len(boxes), turn):
        iou = box_iou(boxes[first : first + turn], anchors)
        values, objects = iou.max(dim=0)
        better = values > best_iou  # strictly: a tie stays with the earlier object
        best_iou = torch.where(better, values, best_iou)
        best_object = torch.where(better, objects + first, best_object)
        of_object = iou.max(dim=1, keepdim=True).values
        ties = (iou == of_object) & (of_object > 0)
        if least_forced_iou is not None:
            ties &= of_object >= least_forced_iou
        number = torch.arange(first, first + len(iou), device=anchors.device)[:, None]
        last = torch.where(ties, number, BACKGROUND).max(dim=0).values
        forced = torch.maximum(forced, last)
    matches[best_iou >= background_iou] = IGNORED
    matches = torch.where(best_iou >= foreground_iou, best_object, matches)
    if least_forced_iou is None:
        return matches
    return torch.where(forced >= 0, forced, matches)
