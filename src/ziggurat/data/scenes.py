"""Synthetic scenes: shapes of a few classes on textured ground, with the pixels of each.

Only the shape tells the class; colour, pattern, size, rotation and place are drawn without regard
to it. Later objects lie over earlier ones, and the mask of an object is what can be seen of it.

Shapes: H x W the scene.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image, ImageFilter

from ziggurat.data.shapes import CLASSES, KEYPOINTS, Patch, Pose, cover, place_keypoints
from ziggurat.data.textures import clouds, contrasting_colour, random_colour, random_texture
from ziggurat.types import ImageSize

MIN_VISIBLE = 0.3
"""Share of an object that must be seen for it to be annotated."""

_MAX_OTHERS = 5
_MAIN_DIAMETER = (0.32, 0.55)
_DIAMETER = (0.2, 0.48)
_CROWD_DIAMETER = (0.05, 0.09)
# Shapes stand nearly upright, as things in photographs do; in radians.
_TILT = 0.35
_CROWD_PROBABILITY = 0.04
_INWARD = 0.15
"""Diameters are shares of the shorter side of the scene."""


@dataclass(frozen=True)
class SceneObject:
    """One annotated object, or a crowd of small ones that nobody counted.

    Attributes:
        label: Class, an index into `CLASSES`.
        mask: Pixels in which it is seen.
        visible: Share of it that is seen; the rest is covered or outside the image.
        is_crowd: Whether it stands for several objects.
        keypoints: x, y in pixels of the points of `KEYPOINTS` and COCO's visibility: 2 seen, 1
            covered by another object, 0 outside of the scene, and of a crowd all 0.
    """

    label: int
    mask: Bool[np.ndarray, "H W"]
    visible: float
    is_crowd: bool
    keypoints: Float[np.ndarray, "P 3"]


@dataclass(frozen=True)
class DrawnScene:
    """A picture and all that is known of it.

    Attributes:
        image: RGB.
        label_map: 0 for the ground, 1 + label elsewhere; annotated or not.
        objects: Annotated objects; the first one is the main object, which is almost whole.
    """

    image: UInt8[np.ndarray, "H W 3"]
    label_map: UInt8[np.ndarray, "H W"]
    objects: tuple[SceneObject, ...]


class _Canvas:
    """A scene in the making: painted so far, and which object is on top in each pixel."""

    def __init__(self, rng: np.random.Generator, size: ImageSize) -> None:
        height, width = size
        self.rng = rng
        self.size = size
        self.ground = random_colour(rng, (0.05, 0.6), (0.15, 0.95))
        self.pixels = random_texture(rng, size, self.ground, rng.uniform(0.1, 0.4), min(size) / 8)
        self.pixels += 0.12 * (clouds(rng, size, min(size) / 5)[:, :, None] - 0.5)
        self.owner = np.full((height, width), -1, dtype=np.int16)
        self.labels: list[int] = []
        self.full_areas: list[int] = []
        self.crowds: list[bool] = []
        self.poses: list[Pose | None] = []

    def seen_areas(self) -> np.ndarray:
        """Count the pixels of each object that are seen."""
        counts = np.bincount(self.owner.ravel() + 1, minlength=len(self.labels) + 1)
        return counts[1:]

    def crop(self, patch: Patch) -> tuple[tuple[slice, slice], Float32[np.ndarray, "h w"]]:
        """Cut a patch at the border of the scene: where it lies, and what is left of it."""
        height, width = self.size
        rows, columns = patch.coverage.shape
        top, left = max(patch.top, 0), max(patch.left, 0)
        bottom, right = min(patch.top + rows, height), min(patch.left + columns, width)
        bottom, right = max(bottom, top), max(right, left)
        inside = patch.coverage[top - patch.top : bottom - patch.top][
            :, left - patch.left : right - patch.left
        ]
        return (slice(top, bottom), slice(left, right)), inside

    def add(
        self, label: int, patches: list[Patch], pose: Pose | None = None, *, is_crowd: bool
    ) -> None:
        """Paint one object, or a crowd, over everything that is there."""
        colour = contrasting_colour(self.rng, self.ground)
        index = len(self.labels)
        for patch in patches:
            _paint(self, patch, colour)
            area, coverage = self.crop(patch)
            self.owner[area][coverage >= 0.5] = index
        self.labels.append(label)
        self.full_areas.append(sum(int((patch.coverage >= 0.5).sum()) for patch in patches))
        self.crowds.append(is_crowd)
        self.poses.append(pose)

    def is_place_free(self, patch: Patch, max_hidden: list[float]) -> bool:
        """Tell whether the patch leaves enough of itself and of every object to be seen."""
        area, coverage = self.crop(patch)
        is_set = coverage >= 0.5
        whole = int((patch.coverage >= 0.5).sum())
        if is_set.sum() < 0.5 * whole:
            return False
        covered = np.bincount(self.owner[area][is_set] + 1, minlength=len(self.labels) + 1)[1:]
        hidden = 1 - (self.seen_areas() - covered) / np.array(self.full_areas)
        return not (hidden > np.array(max_hidden))[covered > 0].any()


def _darken(canvas: _Canvas, patch: Patch, diameter: int) -> None:
    """Cast a soft shadow of a patch, in a random direction."""
    blur = 0.05 * diameter
    room = 1 + int(3 * blur)  # or the shadow would end at the edge of the patch
    grey = Image.fromarray((np.pad(patch.coverage, room) * 255).astype(np.uint8))
    soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255
    right, down = canvas.rng.integers(-diameter, diameter, 2, endpoint=True) // 10
    shadow = Patch(soft, patch.left - room + int(right), patch.top - room + int(down))
    area, coverage = canvas.crop(shadow)
    canvas.pixels[area] *= 1 - 0.45 * coverage[:, :, None]


def _paint(canvas: _Canvas, patch: Patch, colour: Float32[np.ndarray, "3"]) -> None:
    """Blend a patch in, with a pattern, and perhaps an outline and a shadow."""
    rng = canvas.rng
    rows, columns = patch.coverage.shape
    diameter = min(rows, columns)
    if rng.random() < 0.5:
        _darken(canvas, patch, diameter)
    fill = random_texture(rng, (rows, columns), colour, rng.uniform(0.15, 0.6), diameter / 4)
    if rng.random() < 0.4:
        grey = Image.fromarray((patch.coverage * 255).astype(np.uint8))
        inner = grey.filter(ImageFilter.MinFilter(2 * max(1, round(0.03 * diameter)) + 1))
        rim = 1 - np.asarray(inner, dtype=np.float32)[:, :, None] / 255
        line = np.float32(0.15) * colour if rng.random() < 0.6 else 0.25 * colour + 0.75
        fill = fill * (1 - rim) + line * rim
    # A fall of light from one side to the other, so that flat shapes look less like stickers.
    light = np.linspace(1.12, 0.85, rows, dtype=np.float32)[:, None, None]
    area, coverage = canvas.crop(patch)
    top, left = area[0].start - patch.top, area[1].start - patch.left
    lit = (fill * light)[top : top + coverage.shape[0], left : left + coverage.shape[1]]
    alpha = coverage[:, :, None]
    canvas.pixels[area] = canvas.pixels[area] * (1 - alpha) + lit * alpha


def _random_pose(
    rng: np.random.Generator, size: ImageSize, diameters: tuple[float, float], margin: float
) -> Pose:
    """Draw a pose; the centre keeps `margin` radii away from the border."""
    height, width = size
    # A scene of the smallest size still shows shapes of some pixels.
    radius = max(0.5 * min(size) * rng.uniform(*diameters), 1.5)
    keep = min(margin * radius, 0.5 * min(size))
    x, y = rng.uniform(keep, width - keep), rng.uniform(keep, height - keep)
    angle = rng.uniform(-_TILT, _TILT)
    return Pose(x, y, radius, angle, float(np.exp(rng.uniform(-0.25, 0.25))))


def _crowd(rng: np.random.Generator, size: ImageSize, label: int) -> list[Patch]:
    centre = _random_pose(rng, size, _MAIN_DIAMETER, 0.5)
    patches = []
    for _ in range(rng.integers(6, 12)):
        pose = _random_pose(rng, size, _CROWD_DIAMETER, 0.0)
        x, y = (centre.x, centre.y) + rng.normal(0, 0.45 * centre.radius, 2)
        patches.append(cover(label, Pose(float(x), float(y), pose.radius, pose.angle, 1.0)))
    return patches


def make_scene(
    rng: np.random.Generator, size: ImageSize, main_label: int, num_classes: int = len(CLASSES)
) -> DrawnScene:
    """Draw one scene.

    Args:
        rng: Where every choice comes from.
        size: Height and width, at least 32 pixels each.
        main_label: Class of the main object.
        num_classes: Classes that there are, the first ones of `CLASSES`.
    """
    canvas = _Canvas(rng, size)
    max_hidden: list[float] = []
    if rng.random() < _CROWD_PROBABILITY:
        label = int(rng.integers(num_classes))
        canvas.add(label, _crowd(rng, size, label), is_crowd=True)
        max_hidden.append(1.0)
    main = len(canvas.labels)
    pose = _random_pose(rng, size, _MAIN_DIAMETER, 1.2)
    canvas.add(main_label, [cover(main_label, pose)], pose, is_crowd=False)
    max_hidden.append(0.12)
    for _ in range(rng.integers(0, _MAX_OTHERS + 1)):
        label = int(rng.integers(num_classes))
        for _ in range(8):
            pose = _random_pose(rng, size, _DIAMETER, 0.3)
            patch = cover(label, pose)
            if canvas.is_place_free(patch, max_hidden):
                canvas.add(label, [patch], pose, is_crowd=False)
                # Most objects stay almost whole; a few end up well hidden.
                max_hidden.append(float(rng.choice([0.15, 0.4, 0.85], p=[0.6, 0.3, 0.1])))
                break
    return _finish(canvas, main)


def _finish(canvas: _Canvas, main: int) -> DrawnScene:
    """Add noise and read the annotations off."""
    rng = canvas.rng
    pixels = canvas.pixels * rng.uniform(0.85, 1.1)
    sigma = rng.uniform(0.005, 0.045)
    pixels += sigma * rng.standard_normal(pixels.shape, dtype=np.float32)
    image = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    values = np.array([0, *(label + 1 for label in canvas.labels)], dtype=np.uint8)
    order = [main, *(index for index in range(len(canvas.labels)) if index != main)]
    seen = canvas.seen_areas()
    objects = tuple(
        SceneObject(
            canvas.labels[index],
            canvas.owner == index,
            float(seen[index] / canvas.full_areas[index]),
            canvas.crowds[index],
            _keypoints(canvas, index),
        )
        for index in order
        if seen[index] >= MIN_VISIBLE * canvas.full_areas[index]
    )
    return DrawnScene(image, values[canvas.owner + 1], objects)


def _keypoints(canvas: _Canvas, index: int) -> Float[np.ndarray, "P 3"]:
    """Return the points of an object and how visible each is."""
    pose = canvas.poses[index]
    if pose is None:
        return np.zeros((len(KEYPOINTS), 3))
    height, width = canvas.size
    points = place_keypoints(canvas.labels[index], pose)
    # A little inside of the outline, where the object owns the pixel unless something covers it.
    inner = np.floor(points + _INWARD * ((pose.x, pose.y) - points)).astype(np.int64)
    x, y = points.T
    is_inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    column, row = inner.clip(0, (width - 1, height - 1)).T
    is_seen = np.equal(canvas.owner[row, column], index)
    visibility = is_inside * (1 + is_seen)
    return np.column_stack([points * is_inside[:, None], visibility])
