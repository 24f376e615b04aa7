"""Views of an image: which part of it, how large, and whether mirrored.

A detector is shown one view at a time. What it finds is turned back into pixels of the image, so
that tiles (`tiles.py`) and test-time augmentation (`augmented.py`) only choose views and put
together what was found in them.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ziggurat.data.detection import eval_image
from ziggurat.inference.mask_windows import move_masks
from ziggurat.ops.object_masks import flip_masks
from ziggurat.preprocessing import FitInside, scaled_limits
from ziggurat.types import Detections, ImageInfo, ImageSize, Sample

Region = tuple[int, int, int, int]
"""left, top, width, height of a part of an image, in pixels."""


@dataclass(frozen=True)
class View:
    """How a detector is shown an image, or a part of it.

    Attributes:
        region: What part.
        scale: Factor on the limits of the size that the model expects.
        is_mirrored: Whether left and right are exchanged.
    """

    region: Region
    scale: float = 1.0
    is_mirrored: bool = False

    def sample(self, image: Image.Image, preprocessing: FitInside) -> Sample:
        """Make what the model gets to see.

        Args:
            image: RGB image.
            preprocessing: What the model expects.
        """
        left, top, width, height = self.region
        if (width, height) != image.size:
            image = image.crop((left, top, left + width, top + height))
        tensor = eval_image(image, scaled_limits(preprocessing, self.scale))
        if self.is_mirrored:
            tensor = tensor.flip(2)
        return Sample(tensor, None, ImageInfo(0, "", (height, width)))

    def undo(self, found: Detections, image_size: ImageSize) -> Detections:
        """Turn objects in pixels of the view into objects in pixels of the image.

        Args:
            found: Objects in pixels of the region, mirrored where the view is.
            image_size: Height and width of the image.
        """
        left, top, width, _ = self.region
        boxes, masks, keypoints = found.boxes, found.masks, found.keypoints
        if self.is_mirrored:
            boxes = self._mirror(boxes)
            masks = None if masks is None else flip_masks(masks)
            keypoints = None if keypoints is None else keypoints.flip(width)
        boxes = boxes + boxes.new_tensor([left, top, left, top])
        if masks is not None:
            masks = move_masks(masks, left, top, image_size)
        keypoints = None if keypoints is None else keypoints.move(left, top)
        return replace(found, boxes=boxes, masks=masks, keypoints=keypoints)

    def redo(self, boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
        """Turn boxes in pixels of the image into boxes in pixels of the view's region.

        Args:
            boxes: Boxes in pixels of the image.
        """
        left, top, _, _ = self.region
        moved = boxes - boxes.new_tensor([left, top, left, top])
        return self._mirror(moved) if self.is_mirrored else moved

    def _mirror(self, boxes: Float[Tensor, "N 4"]) -> Float[Tensor, "N 4"]:
        width = self.region[2]
        x1, y1, x2, y2 = boxes.unbind(dim=1)
        return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def whole(image_size: ImageSize) -> Region:
    """Return the region that is the image itself."""
    return 0, 0, image_size[1], image_size[0]
