"""The images whose pixels went most wrong, kept while an evaluation runs, and drawn after it.

Only the worst are kept, and small, so that an evaluation of any length needs no more memory. No
model runs again, so that label maps of other programs have pictures, too.
"""

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from PIL import Image

from ziggurat.data.decode import ImageDecodeError, decode_image
from ziggurat.data.segmentation import resize_labels
from ziggurat.metrics.segmentation import ImageScore
from ziggurat.types import ClassMasks, LabelMap
from ziggurat.visualize.label_comparison import LabelPictures, compare_labels, panel
from ziggurat.visualize.report import Comparison, Gallery
from ziggurat.visualize.tables import percent
from ziggurat.visualize.visible_labels import ComparedLabels, compared

WORST_IMAGES = 12
LONGEST_SIDE = 960
"""Pictures are at most this long, in pixels."""


@dataclass(frozen=True)
class WorstImage:
    """An image with its true and predicted classes, small.

    Attributes:
        score: How many of its pixels are wrong.
        labels: True and predicted class of each pixel.
    """

    score: ImageScore
    labels: ComparedLabels


@dataclass(frozen=True)
class EvaluatedLabels:
    """What an evaluation of label maps found, to be drawn and listed.

    Attributes:
        classes: Name of each class.
        colours: Red, green and blue of each class.
        images: Every image that was counted.
        worst: Those with the largest share of wrong pixels, the worst first.
    """

    classes: tuple[str, ...]
    colours: Integer[np.ndarray, "K 3"]
    images: tuple[ImageScore, ...]
    worst: tuple[WorstImage, ...]


class WorstImages:
    """Keeps the images with the largest share of wrong pixels.

    Args:
        limit: So many are kept.
    """

    def __init__(self, limit: int = WORST_IMAGES) -> None:
        self.limit = limit
        self._kept: list[WorstImage] = []

    @property
    def images(self) -> tuple[WorstImage, ...]:
        """What is kept, the worst first."""
        return tuple(self._kept)

    def offer(
        self,
        score: ImageScore,
        truth: LabelMap | ClassMasks,
        prediction: LabelMap | ClassMasks,
    ) -> None:
        """Keep an image if it is among the worst so far.

        Args:
            score: How many of its pixels are wrong; with none it is not kept.
            truth: Its true classes.
            prediction: Its predicted classes.
        """
        is_full = len(self._kept) == self.limit
        if not score.wrong or (is_full and score.share_wrong <= self._kept[-1].score.share_wrong):
            return
        found = WorstImage(score, _small(compared(truth, prediction)))
        insort(self._kept, found, key=lambda image: -image.score.share_wrong)
        del self._kept[self.limit :]


def _small(labels: ComparedLabels) -> ComparedLabels:
    height, width = labels.truth.shape
    # Never enlarged, and no side becomes less than a pixel.
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return ComparedLabels(
        resize_labels(labels.truth, size),
        resize_labels(labels.prediction, size),
        resize_labels(labels.wrong.view(np.uint8), size).view(bool),
        resize_labels(labels.ignored.view(np.uint8), size).view(bool),
    )


def draw_worst_labels(labels: EvaluatedLabels) -> Gallery:
    """Draw the images with the largest share of wrong pixels: truth, prediction, difference.

    Args:
        labels: What an evaluation found.
    """
    items = [
        comparison(_title(image.score), pictures, labels.classes, labels.colours)
        for image, pictures in _pictures(labels)
    ]
    note = (
        f"The {len(items)} images with the largest share of wrong pixels among those that are "
        "labelled; what nobody labelled is dark."
    )
    return Gallery("Worst images", note, items)


def comparison(
    title: str,
    pictures: LabelPictures,
    classes: Sequence[str],
    colours: Integer[np.ndarray, "K 3"],
) -> Comparison:
    """Put pictures of an image onto a page, with the classes that occur.

    Args:
        title: Words below.
        pictures: Truth, prediction and difference.
        classes: Name of each class.
        colours: Red, green and blue of each class.
    """
    legend = [(classes[label], _rgb(colours[label])) for label in pictures.labels]
    return Comparison(title, pictures.truth, pictures.prediction, pictures.difference, legend)


def worst_panels(labels: EvaluatedLabels) -> Iterator[tuple[str, Image.Image]]:
    """Draw each of the worst images as one picture.

    Args:
        labels: What an evaluation found.

    Yields:
        A file name, the worst first, and the picture.
    """
    for place, (image, pictures) in enumerate(_pictures(labels), start=1):
        name = f"{place:02}_{Path(image.score.path).stem}.png"
        yield name, panel(pictures, labels.classes, labels.colours, title=_title(image.score))


def _pictures(labels: EvaluatedLabels) -> Iterator[tuple[WorstImage, LabelPictures]]:
    """Draw one image after the other; those that cannot be decoded any more are left out.

    Yields:
        What is known of an image, and its pictures.
    """
    for image in labels.worst:
        try:
            photo = decode_image(Path(image.score.path))
        except ImageDecodeError:
            continue
        height, width = image.labels.truth.shape
        photo = photo.resize((width, height), Image.Resampling.LANCZOS)
        yield image, compare_labels(photo, image.labels, labels.colours)


def _title(score: ImageScore) -> str:
    return (
        f"{Path(score.path).name}: {percent(score.share_wrong)} % of the pixels are wrong, "
        f"mIoU {percent(score.iou)} %"
    )


def _rgb(colour: Integer[np.ndarray, "3"]) -> tuple[int, int, int]:
    red, green, blue = (int(level) for level in colour)
    return red, green, blue


def image_rows(images: Sequence[ImageScore]) -> list[list[str | int]]:
    """Return a heading and a row of numbers for each image, the worst first.

    Args:
        images: Images that were counted.
    """
    heading = ["image", "labelled_pixels", "wrong_pixels", "share_wrong", "mIoU"]
    rows: list[list[str | int]] = [[*heading]]
    for image in sorted(images, key=lambda image: -image.share_wrong):
        iou = "" if image.iou is None else f"{image.iou:.6f}"
        rows.append([image.path, image.pixels, image.wrong, f"{image.share_wrong:.6f}", iou])
    return rows
