"""True and predicted label map of one photo side by side, and where they differ.

The first two pictures have the colours of the classes on the photo. The third has one colour for
every wrong pixel, on the photo in grey: where both maps have similar colours, or a class is a few
pixels wide, nothing else shows the mistakes. What nobody labelled is dark in all three, since
nothing there is right or wrong.

Shapes: H x W pixels, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from ziggurat.visualize.text import font, shorten
from ziggurat.visualize.visible_labels import NOTHING, ComparedLabels

WRONG: tuple[int, int, int] = (255, 0, 170)
"""Colour of wrong pixels: none of the usual palettes gives it to a class of large areas."""
_COVERS = 0.6
"""How much of a class's colour hides of the photo."""
_WRONG_COVERS = 0.85
_DIMMED = 0.25
"""Brightness of the photo where nobody labelled."""
_GREY = 0.8
"""Brightness of the grey photo below the differences."""
_MARGIN = 8
_LEAST_SIDE = 200
"""Room for the caption of each picture, however small the photo."""
_NAMES = ("truth", "prediction", "difference")
_BACKGROUND = (24, 26, 31)
_TEXT = (236, 238, 242)

Labels = UInt8[np.ndarray, "H W"]
Colours = Integer[np.ndarray, "K 3"]


@dataclass(frozen=True)
class LabelPictures:
    """A photo with its truth, its prediction and the difference of the two.

    Attributes:
        truth: The photo below the true classes.
        prediction: The photo below the predicted classes.
        difference: The photo in grey below the wrong pixels.
        labels: Classes that occur, the largest first.
    """

    truth: Image.Image
    prediction: Image.Image
    difference: Image.Image
    labels: tuple[int, ...]


def compare_labels(image: Image.Image, labels: ComparedLabels, colours: Colours) -> LabelPictures:
    """Draw truth, prediction and difference.

    Args:
        image: RGB image of the size of the labels.
        labels: True and predicted class of each pixel.
        colours: Red, green and blue of each class.

    Raises:
        ValueError: If the sizes differ.
    """
    size = (image.height, image.width)
    truth, prediction = labels.truth, labels.prediction
    if not truth.shape == prediction.shape == size:
        raise ValueError(
            f"image and label maps must have one size, got {size}, {truth.shape} and "
            f"{prediction.shape}"
        )
    photo = np.asarray(image.convert("RGB"), dtype=np.float32)
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2) * _GREY
    marked = np.where(
        labels.wrong[..., None], _mix(grey, np.array(WRONG, dtype=np.float32), _WRONG_COVERS), grey
    )
    counts = np.bincount(truth[~labels.ignored], minlength=NOTHING + 1)
    counts += np.bincount(prediction[~labels.ignored], minlength=NOTHING + 1)
    present = np.flatnonzero(counts[:NOTHING])
    return LabelPictures(
        _picture(_coloured(photo, truth, colours), photo, labels.ignored),
        _picture(_coloured(photo, prediction, colours), photo, labels.ignored),
        _picture(marked, photo, labels.ignored),
        tuple(int(label) for label in present[np.argsort(-counts[present], kind="stable")]),
    )


def panel(
    pictures: LabelPictures, classes: Sequence[str], colours: Colours, *, title: str
) -> Image.Image:
    """Put the three pictures side by side, a title above and the names of the classes below.

    Pictures of few pixels are enlarged by a whole factor.

    Args:
        pictures: What `compare_labels` drew.
        classes: Name of each class.
        colours: Red, green and blue of each class.
        title: Words above.
    """
    factor = max(1, _LEAST_SIDE // max(pictures.truth.size))
    width, height = (factor * length for length in pictures.truth.size)
    side = max(width, _LEAST_SIDE)
    letters = font(max(13, round(side / 36)))
    bold = font(round(letters.size), bold=True)
    line = round(letters.size * 1.7)
    total = 3 * side + 4 * _MARGIN
    names = legend(pictures.labels, classes, colours, letters, total)
    canvas = Image.new("RGB", (total, 2 * line + height + names.height + _MARGIN), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    title = shorten(title, bold, total - 2 * _MARGIN)
    draw.text((_MARGIN, line // 2), title, _TEXT, bold, anchor="lm")
    parts = (pictures.truth, pictures.prediction, pictures.difference)
    for place, (name, picture) in enumerate(zip(_NAMES, parts, strict=True)):
        left = _MARGIN + place * (side + _MARGIN)
        draw.text((left, line + line // 2), name, _TEXT, letters, anchor="lm")
        picture = picture.resize((width, height), Image.Resampling.NEAREST)
        canvas.paste(picture, (left + (side - width) // 2, 2 * line))
    canvas.paste(names, (0, 2 * line + height + _MARGIN))
    return canvas


def legend(
    labels: Sequence[int],
    classes: Sequence[str],
    colours: Colours,
    letters: ImageFont.FreeTypeFont,
    width: int,
    *,
    rows: int | None = None,
) -> Image.Image:
    """Draw a box of its colour and the name of each class.

    Args:
        labels: Classes to name, in order.
        classes: Name of each class.
        colours: Red, green and blue of each class.
        letters: Font of the names.
        width: Width of the picture, in pixels.
        rows: Rows of the picture; what has no place in them is left out. By default as many as the
            names need.
    """
    box = round(letters.size)
    line = round(1.7 * box)
    places, left, top = [], _MARGIN, 0
    for label in labels:
        name = shorten(classes[label], letters, width - 2 * _MARGIN - 2 * box)
        needed = 3 * box + round(letters.getlength(name))
        if left > _MARGIN and left + needed > width:
            left, top = _MARGIN, top + line
            if top == (rows or -1) * line:
                break
        places.append((label, name, left, top))
        left += needed
    height = (top + line if places else 1) if rows is None else rows * line
    strip = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for label, name, left, top in places:
        red, green, blue = (int(level) for level in colours[label])
        corners = (left, top + (line - box) // 2, left + box, top + (line + box) // 2)
        draw.rectangle(corners, (red, green, blue), _TEXT)
        draw.text((left + box * 3 // 2, top + line // 2), name, _TEXT, letters, anchor="lm")
    return strip


def _coloured(
    photo: Float[np.ndarray, "H W 3"], labels: Labels, colours: Colours
) -> Float[np.ndarray, "H W 3"]:
    """Lay the colours of the classes on a photo."""
    table = np.zeros((NOTHING + 1, 3), dtype=np.float32)
    table[: len(colours)] = colours
    return np.where((labels == NOTHING)[..., None], photo, _mix(photo, table[labels], _COVERS))


def _mix(
    below: Float[np.ndarray, "H W 3"], above: Float[np.ndarray, "*_ 3"], covers: float
) -> Float[np.ndarray, "H W 3"]:
    return (1 - covers) * below + covers * above


def _picture(
    pixels: Float[np.ndarray, "H W 3"],
    photo: Float[np.ndarray, "H W 3"],
    ignored: Bool[np.ndarray, "H W"],
) -> Image.Image:
    """Make a picture that is dark where nobody labelled."""
    levels = np.where(ignored[..., None], _DIMMED * photo, pixels)
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
