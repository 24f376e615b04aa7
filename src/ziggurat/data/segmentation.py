"""Image pipelines of semantic segmentation, image and label map always together.

Training: resize by a random factor, crop, flip, change colours, normalise, pad with ignored pixels.
Evaluation: resize to fit inside the limits, then once more, up to multiples of 32, instead of
padding.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ziggurat.data.channels import normalize
from ziggurat.data.photometric import distort
from ziggurat.data.resize import fit_size, resize_exact, resize_fast
from ziggurat.ops.label_counts import count_labels
from ziggurat.ops.nearest import nearest_positions
from ziggurat.ops.padding import aligned_size
from ziggurat.preprocessing import FitAligned
from ziggurat.types import UNLABELLED, ImageSize, LabelMap

CROP_TRIES = 10
"""Crops that are looked at before one is taken whatever it shows."""

Labels = UInt8[np.ndarray, "H W"]


@dataclass(frozen=True)
class SegmentationTransform:
    """Makes a normalised tensor and a label map of one size for training.

    Attributes:
        preprocessing: The limits of the size at factor 1, mean and standard deviation.
        crop: Height and width of what is cut out, in pixels.
        scale: Range of the factor of the size.
        flip: Probability of a horizontal flip.
        largest_share: A crop is drawn again if one class fills more of it, of what is labelled.
        is_distorted: Whether colours are changed at random.
        is_fast: Whether images are resized faster, by at most a level beside the published pixels.
    """

    preprocessing: FitAligned
    crop: ImageSize
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    largest_share: float = 0.75
    is_distorted: bool = True
    is_fast: bool = False

    def __call__(
        self, image: Image.Image, labels: Labels
    ) -> tuple[Float[Tensor, "3 _ _"], LabelMap]:
        """Transform an image and its labels; draws from torch's global generator.

        Args:
            image: RGB image.
            labels: Class of each pixel, 255 where it does not count.
        """
        low, high = self.scale
        factor = low + (high - low) * float(torch.rand(()))
        limits = self.preprocessing
        size = fit_size(
            (image.height, image.width),
            int(limits.short_side * factor),
            int(limits.long_side * factor),
        )
        resize = resize_fast if self.is_fast else resize_exact
        pixels = resize(np.asarray(image), size)
        labels = resize_labels(labels, size)
        height, width = self.crop
        top, left = draw_crop(labels, self.crop, self.largest_share)
        pixels = pixels[top : top + height, left : left + width]
        labels = labels[top : top + height, left : left + width]
        if float(torch.rand(())) < self.flip:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        if self.is_distorted:
            pixels = distort(pixels)
        tensor, label_map = to_tensors(pixels, labels, self.preprocessing)
        return pad(tensor, label_map, self.crop)


@dataclass(frozen=True)
class EvalSegmentation:
    """Makes the tensor that a segmenter is evaluated on; labels stay as large as the photo.

    Attributes:
        preprocessing: The limits of the size, mean and standard deviation.
    """

    preprocessing: FitAligned

    def __call__(
        self, image: Image.Image, labels: Labels
    ) -> tuple[Float[Tensor, "3 h w"], LabelMap]:
        """Transform an image.

        Args:
            image: RGB image.
            labels: Class of each pixel, 255 where it does not count.
        """
        return eval_image(image, self.preprocessing), LabelMap(torch.from_numpy(labels.copy()))


def eval_image(image: Image.Image, preprocessing: FitAligned) -> Float[Tensor, "3 H W"]:
    """Make the tensor that a segmenter is evaluated on.

    Args:
        image: RGB image.
        preprocessing: The limits of the size, mean and standard deviation.
    """
    return normalize(resize_aligned(np.asarray(image), preprocessing), preprocessing)


def resize_aligned(
    pixels: UInt8[np.ndarray, "H W 3"], preprocessing: FitAligned
) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to fit inside the limits and then, by a second resize, up to multiples.

    Args:
        pixels: RGB levels.
        preprocessing: The limits, and what divides both sides in the end.
    """
    size = fit_size(
        (pixels.shape[0], pixels.shape[1]), preprocessing.short_side, preprocessing.long_side
    )
    return resize_exact(resize_exact(pixels, size), aligned_size(size, preprocessing.divisor))


def resize_labels(labels: Labels, size: ImageSize) -> UInt8[np.ndarray, "h w"]:
    """Resize labels to the nearest pixel, as OpenCV's INTER_NEAREST does.

    Args:
        labels: Class of each pixel.
        size: Height and width of the result.
    """
    rows, columns = (
        nearest_positions(old, new) for old, new in zip(labels.shape, size, strict=True)
    )
    return labels.take(columns, axis=1).take(rows, axis=0)  # at once it takes ten times as long


def draw_crop(labels: Labels, size: ImageSize, largest_share: float) -> tuple[int, int]:
    """Choose top and left of a crop in which no class is all there is.

    A crop is taken when it holds at least two classes and none fills more than `largest_share` of
    what is labelled; after ten draws in vain one more is taken as it is.

    Args:
        labels: Class of each pixel.
        size: Height and width of the crop; a smaller image is taken whole along that side.
        largest_share: From 0 to 1.
    """
    for _ in range(CROP_TRIES):
        top, left = _draw_corner(labels.shape, size)
        if is_varied(labels[top : top + size[0], left : left + size[1]], largest_share):
            return top, left
    return _draw_corner(labels.shape, size)


def _draw_corner(whole: tuple[int, ...], size: ImageSize) -> tuple[int, int]:
    top, left = (
        int(torch.randint(max(full - part, 0) + 1, ()))
        for full, part in zip(whole, size, strict=True)
    )
    return top, left


def is_varied(labels: Labels, largest_share: float) -> bool:
    """Tell whether a crop has several classes and none of them nearly everywhere.

    Args:
        labels: Class of each pixel.
        largest_share: From 0 to 1.
    """
    counts = count_labels(labels, UNLABELLED)
    return bool((counts > 0).sum() > 1 and counts.max() < largest_share * counts.sum())


def to_tensors(
    pixels: UInt8[np.ndarray, "H W 3"], labels: Labels, preprocessing: FitAligned
) -> tuple[Float[Tensor, "3 H W"], LabelMap]:
    """Normalise the image, and wrap the labels.

    Args:
        pixels: RGB levels.
        labels: Class of each pixel.
        preprocessing: Gives mean and standard deviation.
    """
    # Copied: NumPy calls a mirrored map of one column contiguous, PyTorch refuses its stride.
    label_map = LabelMap(torch.from_numpy(labels.copy()))
    return normalize(pixels, preprocessing), label_map


def pad(
    image: Float[Tensor, "3 _ _"], target: LabelMap, size: ImageSize
) -> tuple[Float[Tensor, "3 H W"], LabelMap]:
    """Append zeros to the image and ignored pixels to the labels, at the right and the bottom.

    Args:
        image: Normalised image.
        target: Its labels.
        size: Height and width of the result, at least those of the image.
    """
    missing = (0, size[1] - image.shape[2], 0, size[0] - image.shape[1])
    if not any(missing):
        return image, target
    labels = torch.nn.functional.pad(target.labels, missing, value=UNLABELLED)
    return torch.nn.functional.pad(image, missing), LabelMap(labels)
