"""Colours and patterns of synthetic scenes; none of them depends on a class.

Shapes: H x W a picture or a part of it.
"""

import colorsys

import numpy as np
from jaxtyping import Float32
from PIL import Image

Colour = Float32[np.ndarray, "3"]
"""Red, green, blue in [0, 1]."""

_PATTERNS = ("plain", "gradient", "stripes", "checks", "dots", "clouds")


def random_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Colour:
    """Draw a colour of any hue."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return np.array(rgb, dtype=np.float32)


def contrasting_colour(rng: np.random.Generator, background: Colour) -> Colour:
    """Draw a strong colour that can be told from the one behind it."""
    colours = [random_colour(rng, (0.35, 0.95), (0.3, 1.0)) for _ in range(6)]
    distances = [float(np.linalg.norm(colour - background)) for colour in colours]
    far = [i for i, distance in enumerate(distances) if distance > 0.45]
    return colours[far[0] if far else int(np.argmax(distances))]


def random_texture(
    rng: np.random.Generator, shape: tuple[int, int], colour: Colour, contrast: float, scale: float
) -> Float32[np.ndarray, "H W 3"]:
    """Fill an area with a pattern between a colour and a relative of it.

    Args:
        rng: Where the choices come from.
        shape: Height and width of the area, in pixels.
        colour: One end of the pattern; the other is mixed from it and a random one.
        contrast: Share of the random one.
        scale: Typical size of a stripe, a field or a cloud, in pixels.
    """
    other = colour + contrast * (random_colour(rng, (0.0, 0.8), (0.0, 1.0)) - colour)
    pattern = _pattern(rng, shape, scale)
    return colour + pattern[:, :, None] * (other - colour)


def _pattern(
    rng: np.random.Generator, shape: tuple[int, int], scale: float
) -> Float32[np.ndarray, "H W"]:
    height, width = shape
    kind = _PATTERNS[rng.integers(len(_PATTERNS))]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi, 2)
    period = max(3.0, scale * rng.uniform(0.7, 1.6))
    y, x = np.ogrid[:height, :width]
    u = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32)
    v = (y * np.cos(angle) - x * np.sin(angle)).astype(np.float32)
    if kind == "plain":
        return np.zeros(shape, dtype=np.float32)
    if kind == "gradient":
        return (u - u.min()) / max(float(u.max() - u.min()), 1.0)
    if kind == "clouds":
        return clouds(rng, shape, period)
    wave_u = np.sin(2 * np.pi / period * u + phase[0], dtype=np.float32)
    if kind == "stripes":
        return _soft_step(wave_u)
    wave_v = np.sin(2 * np.pi / period * v + phase[1], dtype=np.float32)
    if kind == "checks":
        return _soft_step(wave_u * wave_v * 1.5)
    return _soft_step((wave_u + wave_v - 1.1) * 2)


def _soft_step(field: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Turn waves into areas with soft edges."""
    return np.clip(field * 2.0 + 0.5, 0.0, 1.0).astype(np.float32)


def clouds(
    rng: np.random.Generator, shape: tuple[int, int], scale: float
) -> Float32[np.ndarray, "H W"]:
    """Mix smooth noise of three sizes, each half as strong as the one before."""
    height, width = shape
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(3):
        step = max(2.0, 2 * scale / 2**octave)
        grid = rng.random((int(height / step) + 2, int(width / step) + 2), dtype=np.float32)
        smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(smooth, dtype=np.float32) / 2**octave
    return np.clip(total / 1.75, 0.0, 1.0)
