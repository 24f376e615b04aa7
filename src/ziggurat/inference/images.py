"""What a user calls an image, as upright RGB: a file, its bytes, a PIL image, array or tensor."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ziggurat.data import decode
from ziggurat.errors import ZigguratError

ImageLike = str | Path | bytes | Image.Image | np.ndarray | Tensor
"""File name; bytes of a file; PIL image; uint8 array (H, W, 3) or (H, W); tensor (3, H, W), uint8
or 0..1."""


def to_image(source: ImageLike) -> Image.Image:
    """Return an image as 8-bit RGB.

    Args:
        source: Any of `ImageLike`.

    Raises:
        ZigguratError: If a file cannot be decoded, or shape, type or range are others.
    """
    if isinstance(source, (str, Path, bytes)):
        return decode.decode_image(source)
    if isinstance(source, Image.Image):
        return _from_pil(source)
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Tensor):
        return _from_tensor(source)
    raise ZigguratError(
        "an image must be a file name, the bytes of a file, a PIL image, an array or a tensor, got "
        f"{type(source)}"
    )


def _from_pil(image: Image.Image) -> Image.Image:
    try:
        image.load()
        return _not_empty(decode.to_upright_rgb(image))
    except (OSError, ValueError) as error:
        raise ZigguratError(f"the PIL image cannot be read as RGB: {error}") from error


def _from_array(array: np.ndarray) -> Image.Image:
    is_grey = array.ndim == 2
    is_colour = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (is_grey or is_colour):
        raise ZigguratError(
            "an array must hold an image as uint8 of shape (height, width, 3) in the order RGB, or "
            f"(height, width), got {array.dtype} of shape {array.shape}"
        )
    if not array.size:
        raise ZigguratError(f"an image needs pixels, got an array of shape {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _from_tensor(tensor: Tensor) -> Image.Image:
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        raise ZigguratError(
            f"a tensor must hold an image of shape (3, height, width), got {tuple(tensor.shape)}"
        )
    pixels = tensor.detach().cpu()
    if pixels.is_floating_point():
        if pixels.numel() and not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ZigguratError(
                "a tensor of floating-point numbers must lie in 0..1 and not be normalised, got "
                f"values from {float(pixels.min()):.3g} to {float(pixels.max()):.3g}"
            )
        return _from_array((pixels.float() * 255).round().byte().permute(1, 2, 0).numpy())
    return _from_array(pixels.permute(1, 2, 0).numpy())


def _not_empty(image: Image.Image) -> Image.Image:
    if not image.width or not image.height:
        raise ZigguratError(f"an image needs pixels, got {image.width} x {image.height}")
    return image
