"""How many regions of an image the second stage of a detector learns from.

The published 512, of which up to 128 are on objects, are meant for a thousand proposals of a large
photo. Each goes through the box branch, those on objects through the mask branch as well.
"""

from dataclasses import replace

from ziggurat.errors import ZigguratError
from ziggurat.heads.cascade_mask_rcnn import CascadeMaskRCNNHead
from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.zoo import Model


def limit_regions(model: Model, count: int) -> None:
    """Let the second stage learn from at most so many regions of an image.

    Args:
        model: A detector that proposes regions.
        count: Regions; at most a quarter of them is on objects.

    Raises:
        ZigguratError: If the model proposes no regions.
    """
    found = False
    for part in model.modules():
        if isinstance(part, FasterRCNNHead):
            part.sampler = replace(part.sampler, num_samples=count)
        elif isinstance(part, CascadeMaskRCNNHead):
            part.samplers = [replace(sampler, num_samples=count) for sampler in part.samplers]
        else:
            continue
        found = True
    if not found:
        raise ZigguratError(
            f"model.train_regions must be null for {model.identity.name}, which proposes no "
            f"regions, got {count}; it is for Faster, Mask, Cascade Mask and Keypoint R-CNN and "
            "those with PANet's heads"
        )
