"""Draw what a model found onto the image: boxes with names and scores, or a list of classes.

Masks and keypoints are drawn with their boxes.

Every class has its own colour, the same in every picture. Text and lines grow with the image, a
small image is enlarged by a whole factor so that its labels can be read, and no label covers
another: where there is no room left, the surest objects keep theirs.
"""

import colorsys
import math
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from ziggurat.types import ClassScores, Detections
from ziggurat.visualize import text
from ziggurat.visualize.keypoint_overlay import lay_keypoints
from ziggurat.visualize.mask_overlay import Colour, lay_mask

Rectangle = tuple[int, int, int, int]

READABLE_SIDE = 480
"""Images whose long side is shorter than this, in pixels, are enlarged before drawing."""

# Told apart best first (Okabe and Ito's order, brightened for photographs); further classes get
# hues a golden ratio apart, so that neighbours differ.
_FIRST_COLOURS: tuple[Colour, ...] = (
    (255, 159, 28),
    (46, 196, 255),
    (57, 217, 138),
    (255, 99, 132),
    (255, 230, 60),
    (162, 120, 255),
    (255, 120, 30),
    (0, 210, 200),
    (240, 110, 220),
    (170, 225, 60),
)
_GOLDEN_RATIO = 0.618033988749895
_LEAST_BRIGHTNESS = 0.45


def class_colour(label: int) -> Colour:
    """Return the colour of a class, as R, G, B of 0..255."""
    if label < len(_FIRST_COLOURS):
        return _FIRST_COLOURS[label]
    hue = (label * _GOLDEN_RATIO) % 1.0
    lightness = 0.55 + 0.12 * (label % 3)
    colour = colorsys.hls_to_rgb(hue, lightness, 0.85)
    # Pure blue looks dark however light it is: as much white as makes it visible at night.
    white = max(0.0, (_LEAST_BRIGHTNESS - _brightness(colour)) / (1 - _brightness(colour)))
    red, green, blue = (round(255 * (part + white * (1 - part))) for part in colour)
    return red, green, blue


def draw_detections(
    image: Image.Image,
    detections: Detections,
    classes: Sequence[str],
    *,
    show_scores: bool = True,
) -> Image.Image:
    """Draw boxes, masks and keypoints where there are some, and labels.

    Args:
        image: Picture in RGB.
        detections: Objects in pixels of the picture.
        classes: Name of each label.
        show_scores: Write the score behind the name; off for true objects, which have none.

    Returns:
        A new picture, enlarged by a whole factor if its long side is below `READABLE_SIDE`.
    """
    factor = _enlargement(image)
    canvas = image.convert("RGB").resize((image.width * factor, image.height * factor))
    order = detections.scores.argsort(descending=True, stable=True).tolist()
    labels = detections.labels.tolist()
    scores = detections.scores.tolist()
    line = _line_width(canvas)
    if detections.masks is not None:
        crops = detections.masks.crops()
        windows = detections.masks.windows.tolist()
        for index in reversed(order):
            corner = (windows[index][0], windows[index][1])
            colour = class_colour(labels[index])
            lay_mask(canvas, crops[index].cpu().numpy(), corner, factor, colour, line)
        line = max(1, line // 2)  # the masks say more than the boxes
    boxes = [_to_pixels(box, factor, canvas.size) for box in detections.boxes.tolist()]
    draw = ImageDraw.Draw(canvas)
    for index in reversed(order):
        _outline(draw, boxes[index], class_colour(labels[index]), line)
    if detections.keypoints is not None:
        points = detections.keypoints.points.tolist()
        skeleton = detections.keypoints.skeleton
        for index in reversed(order):
            lay_keypoints(draw, points[index], skeleton, factor, line, is_true=not show_scores)
    font = text.font(_text_height(canvas))
    taken: list[Rectangle] = []
    for index in order:
        caption = classes[labels[index]]
        if show_scores:
            caption = f"{caption} {scores[index]:.2f}"
        place = _free_place(canvas, font, caption, boxes[index], line, taken)
        if place is not None:
            taken.append(place)
            _write_label(draw, place, caption, font, class_colour(labels[index]))
    return canvas


def draw_classes(
    image: Image.Image, scores: ClassScores, classes: Sequence[str], count: int = 5
) -> Image.Image:
    """Write the most probable classes below the image, a bar for each probability.

    Args:
        image: Picture in RGB.
        scores: Probability of each class.
        classes: Name of each class.
        count: Classes to show, at most.

    Returns:
        A new picture with a panel below, enlarged as `draw_detections` does.
    """
    factor = _enlargement(image)
    picture = image.convert("RGB").resize((image.width * factor, image.height * factor))
    # A narrow picture is centred on a panel that is wide enough to read.
    width = max(picture.width, READABLE_SIDE * 2 // 3)
    text_height = max(_text_height(picture), 13)
    font, bold = text.font(text_height), text.font(text_height, bold=True)
    row, margin = round(text_height * 1.9), round(text_height * 0.8)
    best = scores.top(count)
    canvas = Image.new("RGB", (width, picture.height + row * len(best) + margin), (24, 26, 31))
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    number_width = round(bold.getlength("100.0 %"))
    bar_left = margin + round((width - 2 * margin) * 0.48)
    bar_right = width - margin - number_width - margin
    for place, (label, score) in enumerate(best):
        middle = picture.height + margin // 2 + row * place + row // 2
        first = bold if place == 0 else font
        name = text.shorten(classes[label], first, bar_left - 2 * margin)
        draw.text((margin, middle), name, (236, 238, 242), first, anchor="lm")
        top, bottom = middle - text_height // 3, middle + text_height // 3
        draw.rectangle((bar_left, top, bar_right, bottom), (52, 56, 66))
        share = 0.0 if math.isnan(score) else score  # weights that are no numbers find none
        filled = bar_left + round((bar_right - bar_left) * share)
        if filled > bar_left:
            draw.rectangle((bar_left, top, filled, bottom), class_colour(label))
        number = f"{100 * score:.1f} %"
        draw.text((width - margin, middle), number, (236, 238, 242), first, anchor="rm")
    return canvas


def _brightness(colour: Sequence[float]) -> float:
    """Luma as in ITU-R BT.601, on the scale of the colour."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _enlargement(image: Image.Image) -> int:
    return max(1, -(-READABLE_SIDE // max(image.size)))


def _line_width(canvas: Image.Image) -> int:
    return max(2, round(max(canvas.size) / 400))


def _text_height(canvas: Image.Image) -> int:
    # The geometric mean, so that a panorama gets neither huge nor tiny text.
    # It grows slower than the picture, which is looked at whole.
    side = (canvas.width * canvas.height) ** 0.5
    return max(12, round(12 * (side / 500) ** 0.8))


def _to_pixels(box: Sequence[float], factor: int, size: tuple[int, int]) -> Rectangle:
    x1, y1, x2, y2 = (round(value * factor) for value in box)
    right, bottom = size[0] - 1, size[1] - 1
    x1, y1 = min(max(x1, 0), right), min(max(y1, 0), bottom)
    return x1, y1, min(max(x2 - 1, x1), right), min(max(y2 - 1, y1), bottom)


def _outline(draw: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, line: int) -> None:
    # A dark edge on both sides keeps the line visible on any background.
    edge = max(1, line // 2)
    x1, y1, x2, y2 = box
    outer = (x1 - edge, y1 - edge, x2 + edge, y2 + edge)
    draw.rectangle(outer, outline=(20, 20, 20), width=line + 2 * edge)
    draw.rectangle(box, outline=colour, width=line)


def _free_place(
    canvas: Image.Image,
    font: ImageFont.FreeTypeFont,
    text: str,
    box: Rectangle,
    line: int,
    taken: Sequence[Rectangle],
) -> Rectangle | None:
    """Find room for a label near its box: above, inside at the top, below, then at the right."""
    pad = max(2, round(font.size * 0.25))
    width = min(round(font.getlength(text)) + 2 * pad, canvas.width)
    height = round(font.size * 1.3)
    for left, top in _corners(box, width, height, line):
        x = min(max(left, 0), canvas.width - width)
        if top < 0 or top + height > canvas.height:
            continue
        place = (x, top, x + width, top + height)
        if not any(_overlap(place, other) for other in taken):
            return place
    return None


def _corners(box: Rectangle, width: int, height: int, line: int) -> Iterator[tuple[int, int]]:
    x1, y1, x2, y2 = box
    for left in (x1 - line // 2, x2 - width):
        yield left, y1 - height
        yield left, y1
        yield left, y2 + 1
        yield left, y2 - height
    yield x2 + 1, y1
    yield x1 - width, y1


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )


def _write_label(
    draw: ImageDraw.ImageDraw,
    place: Rectangle,
    label: str,
    font: ImageFont.FreeTypeFont,
    colour: Colour,
) -> None:
    x1, y1, x2, y2 = place
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), colour)
    pad = max(2, round(font.size * 0.25))
    label = text.shorten(label, font, x2 - x1 - 2 * pad + 1)
    # Every class's colour is bright enough for dark letters.
    draw.text((x1 + pad, (y1 + y2) // 2), label, (16, 16, 16), font, anchor="lm")
