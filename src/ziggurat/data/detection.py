"""Image pipeline of detection: resize and crop 8-bit -> flip -> normalise; `collate` pads.

The order is the official one: padding is zero after normalisation, that is, of mean colour.

    1x    resize to a short side of 800 and a long side of 1333 at most, flip
    DETR  the same with a short side drawn from several
    3x    flip, then half of the images as DETR; the others are resized to a smaller short side, a
          random part is cut out, and that is resized as DETR. GPViT then cuts out at most 1024 x
          1024 pixels.

Large-scale jitter (Ghiasi et al., arXiv:2012.07177) resizes by a factor drawn from a wide range
and cuts out a square of fixed size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ziggurat.data.channels import normalize
from ziggurat.data.geometry import Scene, crop_scene, flip_scene, resize_scene
from ziggurat.data.resize import fit_size, resize_exact, resize_fast
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections, ImageSize


@dataclass(frozen=True)
class CropFirst:
    """Before an image is resized, cut a random part out of it, at a smaller scale.

    Attributes:
        probability: Share of the images.
        short_sides: Short sides in pixels of which one is drawn, to cut at that scale.
        sides: Smallest and largest height and width of the part, in pixels of that scale.
    """

    probability: float
    short_sides: tuple[int, ...]
    sides: tuple[int, int]


@dataclass(frozen=True)
class ScaleJitter:
    """Resize by a random factor, then cut out a square.

    Attributes:
        factors: Smallest and largest factor, applied to the size that just fits into the square.
        side: Side of the square in pixels; smaller images stay whole.
    """

    factors: tuple[float, float]
    side: int


class DetectionTransform:
    """Makes a normalised tensor of an image, and moves its boxes, masks and keypoints along.

    Args:
        preprocessing: The limits of the size, mean and standard deviation.
        flip: Probability of a horizontal flip; 0 in evaluation.
        scales: Short sides of which one is drawn for each image in training, instead of the one
            in `preprocessing`; None draws nothing.
        exact_resize: Whether to resize as OpenCV does, equal in every value, or several times as
            fast and at most one level of 255 off.
        crop_first: The crop before resizing, or None.
        max_side: Out of a resized image that is higher or wider, in pixels, a random part is cut;
            None cuts nothing.
        jitter: Takes the place of all other resizing and cropping; or None.

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
        crop_first: CropFirst | None = None,
        max_side: int | None = None,
        jitter: ScaleJitter | None = None,
    ) -> None:
        if not 0 <= flip <= 1:
            raise ValueError(f"flip must be a probability, got {flip}")
        if scales is not None and (not scales or min(scales) < 1):
            raise ValueError(f"scales must be short sides in pixels or None, got {scales}")
        self.preprocessing = preprocessing
        self.flip = flip
        self.scales = scales or (preprocessing.short_side,)
        self.resize = resize_exact if exact_resize else resize_fast
        self.crop_first = crop_first
        self.max_side = max_side
        self.jitter = jitter

    def __call__(
        self, image: Image.Image, target: Detections
    ) -> tuple[Float[Tensor, "3 H W"], Detections]:
        """Transform an image and its objects; draws from torch's global generator.

        Args:
            image: RGB image.
            target: Its objects, in its pixels.
        """
        scene = Scene(np.asarray(image), target)
        is_flipped = self.flip > 0 and _happens(self.flip)
        # Where images are cut, they are flipped first, else last: so officially.
        is_first = self.crop_first is not None
        if is_flipped and is_first:
            scene = flip_scene(scene)
        scene = self._scale(scene)
        if is_flipped and not is_first:
            scene = flip_scene(scene)
        return normalize(scene.pixels, self.preprocessing), scene.objects

    def _scale(self, scene: Scene) -> Scene:
        if self.jitter is not None:
            return self._jitter(scene, self.jitter)
        long_side = self.preprocessing.long_side
        first = self.crop_first
        if first is not None and _happens(first.probability):
            size = fit_size(scene.size, _choice(first.short_sides), long_side)
            scene = resize_scene(scene, size, self.resize)
            low, high = first.sides
            height, width = (_between(min(low, s), min(high, s)) for s in scene.size)
            scene = _random_crop(scene, (height, width))
        size = fit_size(scene.size, _choice(self.scales), long_side)
        scene = resize_scene(scene, size, self.resize)
        if self.max_side is not None:
            scene = _random_crop(scene, _at_most(scene.size, self.max_side))
        return scene

    def _jitter(self, scene: Scene, jitter: ScaleJitter) -> Scene:
        low, high = jitter.factors
        side = jitter.side * (low + (high - low) * float(torch.rand(())))
        size = fit_size(scene.size, round(side), round(side))
        scene = resize_scene(scene, size, self.resize)
        return _random_crop(scene, _at_most(size, jitter.side))


def _happens(probability: float) -> bool:
    return float(torch.rand(())) < probability


def _choice(values: tuple[int, ...]) -> int:
    return values[_between(0, len(values) - 1)]


def _between(low: int, high: int) -> int:
    """Draw a whole number, both ends included."""
    return low + int(torch.randint(high - low + 1, ()))


def _at_most(size: ImageSize, side: int) -> ImageSize:
    return min(size[0], side), min(size[1], side)


def _random_crop(scene: Scene, size: ImageSize) -> Scene:
    if size == scene.size:
        return scene
    top, left = (_between(0, old - new) for old, new in zip(scene.size, size, strict=True))
    return crop_scene(scene, left, top, size)


def eval_image(image: Image.Image, preprocessing: FitInside) -> Float[Tensor, "3 H W"]:
    """Make the tensor that a detector is evaluated on: exact resize, no flip.

    Args:
        image: RGB image.
        preprocessing: The limits of the size, mean and standard deviation.
    """
    size = fit_size((image.height, image.width), preprocessing.short_side, preprocessing.long_side)
    return normalize(resize_exact(np.asarray(image), size), preprocessing)
