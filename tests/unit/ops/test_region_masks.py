"""Windows give what masks of the whole image give."""

import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from ziggurat.ops.region_masks import masks_in_regions, paste_masks
from ziggurat.types import ObjectMasks


def test_regions_equal_roi_align_of_whole_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(4, 50, 70, dtype=torch.bool)
    masks[0, :10, :12] = True  # at the border, where RoIAlign repeats the last pixel
    masks[1, 40:, 60:] = True
    masks[2, 20:30, 20:45] = torch.rand(10, 25, generator=generator) > 0.4
    objects = torch.arange(40) % 4  # the last one is empty
    corner = torch.rand(40, 2, generator=generator) * 60 - 5
    regions = torch.cat([corner, corner + torch.rand(40, 2, generator=generator) * 40 + 1], dim=1)
    rows = torch.cat([objects[:, None].float(), regions], dim=1)
    whole = roi_align(masks[:, None].float(), rows, 14, aligned=True)[:, 0] >= 0.5
    ours = masks_in_regions(ObjectMasks.from_full(masks), objects, regions, 14)
    assert torch.equal(ours, whole.float())
    assert ours.any()


def test_pasting_equals_sampling_the_whole_image() -> None:
    generator = torch.Generator().manual_seed(1)
    size = (60, 80)
    corner = torch.rand(30, 2, generator=generator) * 70 - 5
    boxes = torch.cat([corner, corner + torch.rand(30, 2, generator=generator) * 40], dim=1)
    probabilities = torch.rand(30, 28, 28, generator=generator)
    y, x = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    pasted = paste_masks(probabilities, boxes, size).full()
    for mask, box, found in zip(probabilities, boxes, pasted, strict=True):
        grid = torch.stack(
            [(x - box[0]) / (box[2] - box[0]) * 2 - 1, (y - box[1]) / (box[3] - box[1]) * 2 - 1], -1
        )
        whole = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0] >= 0.5
        assert torch.equal(found, whole)


def test_boxes_without_area_or_outside_have_empty_masks() -> None:
    boxes = torch.tensor(
        [[5.0, 5.0, 5.0, 9.0], [-20.0, -20.0, -4.0, -4.0], [90.0, 90.0, 95.0, 95.0]]
    )
    masks = paste_masks(torch.ones(3, 28, 28), boxes, (40, 50))
    assert len(masks) == 3
    assert not masks.full().any()
