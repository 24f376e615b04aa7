"""Image pipeline of detection: resize 8-bit -> flip -> normalise; `collate` pads with zeros.

The order is the official one: padding is zero after normalisation, that is, of mean colour.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ziggurat.data.resize import fit_size, resize_exact, resize_fast
from ziggurat.types import Detections, FitInside, ImageSize


class DetectionTransform:
    """Makes a normalised tensor of an image, and moves its boxes along.

    Args:
        preprocessing: The limits of the size, mean and standard deviation.
        flip: Probability of a horizontal flip; 0 in evaluation.
        scales: Short sides of which one is drawn for each image in training, instead of the one
            in `preprocessing`; None draws nothing.
        exact_resize: Whether to resize as OpenCV does, equal in every value, or several times as
            fast and at most one level of 255 off.

    Raises:
        ValueError: If `scales` is empty or `flip` no probability.
    """

    def __init__(
        self,
        preprocessing: FitInside,
        *,
        flip: float,
        scales: tuple[int, ...] | None,
        exact_resize: bool,
    ) -> None:
        if not 0 <= flip <= 1:
            raise ValueError(f"flip must be a probability, got {flip}")
        if scales is not None and (not scales or min(scales) < 1):
            raise ValueError(f"scales must be short sides in pixels or None, got {scales}")
        self.preprocessing = preprocessing
        self.flip = flip
        self.scales = scales
        self.resize = resize_exact if exact_resize else resize_fast

    def __call__(
        self, image: Image.Image, target: Detections
    ) -> tuple[Float[Tensor, "3 H W"], Detections]:
        """Transform an image and its boxes; draws from torch's global generator.

        Args:
            image: RGB image.
            target: Its objects, in its pixels.

        Raises:
            ValueError: If the objects have masks, which this does not move along.
        """
        if target.masks is not None:
            raise ValueError("DetectionTransform moves boxes only, got objects with masks")
        short_side = self.preprocessing.short_side
        if self.scales is not None:
            short_side = self.scales[int(torch.randint(len(self.scales), ()))]
        is_flipped = self.flip > 0 and float(torch.rand(())) < self.flip
        original = (image.height, image.width)
        size = fit_size(original, short_side, self.preprocessing.long_side)
        pixels = self.resize(np.asarray(image), size)
        boxes = _resize_boxes(target.boxes, original, size)
        if is_flipped:
            pixels = pixels[:, ::-1]
            boxes = torch.stack(
                [size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], dim=1
            )
        return normalize(pixels, self.preprocessing), Detections(
            boxes, target.scores, target.labels
        )


def eval_image(image: Image.Image, preprocessing: FitInside) -> Float[Tensor, "3 H W"]:
    """Make the tensor that a detector is evaluated on: exact resize, no flip.

    Args:
        image: RGB image.
        preprocessing: The limits of the size, mean and standard deviation.
    """
    size = fit_size((image.height, image.width), preprocessing.short_side, preprocessing.long_side)
    return normalize(resize_exact(np.asarray(image), size), preprocessing)


def normalize(
    pixels: UInt8[np.ndarray, "H W 3"], preprocessing: FitInside
) -> Float[Tensor, "3 H W"]:
    """Subtract the mean and divide by the standard deviation; channels_last memory.

    Args:
        pixels: RGB levels 0..255.
        preprocessing: Gives mean and standard deviation.
    """
    mean = np.asarray(preprocessing.mean, dtype=np.float64) * 255
    std = np.asarray(preprocessing.std, dtype=np.float64) * 255
    values = pixels.astype(np.float32)
    values -= mean.astype(np.float32)
    values *= (1 / std).astype(np.float32)
    return torch.from_numpy(values).permute(2, 0, 1)


def _resize_boxes(
    boxes: Float[Tensor, "N 4"], original: ImageSize, size: ImageSize
) -> Float[Tensor, "N 4"]:
    factors = [size[1] / original[1], size[0] / original[0]] * 2
    limits = [size[1], size[0]] * 2
    scaled = boxes * torch.tensor(factors, dtype=torch.float32)
    return scaled.clamp(min=0).minimum(torch.tensor(limits, dtype=torch.float32))
