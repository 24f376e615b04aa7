"""Training images with less work: decoded as small as the crop allows, resized in 8 bits.

The same random numbers are drawn as on the exact way, so that the same seed gives the same crop,
flip and augmentation, and pixels differ by few levels of 255:

    decoding      libjpeg-turbo without Pillow around it, the same pixels; where the crop is at
                  least twice as large as what comes out, at 1/2, 1/4 or 1/8 in the DCT, which
                  smooths otherwise
    resizing      PyTorch's bicubic on bytes, Pillow's algorithm with shorter numbers: by a level,
                  in a few of a thousand values when shrinking and in a quarter of them when
                  enlarging; at hard edges by up to four
    augmentation  timm's operations by OpenCV (`fast_augment`): a level off at most, except turns
                  and shears, which are half a level off on average and more at edges
    normalising   in the memory layout of the batch, by one product and one sum: a rounding off

A file that is anything but an intact JPEG in colour or grey is decoded by Pillow, which also says
what is wrong with it.
"""

import io
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from timm.data.transforms import MaybeToTensor, RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision import transforms

from ziggurat.data.decode import decode_image, orientation, without_pillow_warnings
from ziggurat.errors import ZigguratError
from ziggurat.types import ImageSize

Pixels = UInt8[np.ndarray, "H W 3"]
Box = tuple[int, int, int, int]
"""top, left, height, width in pixels of the upright image."""

_FACTORS = (8, 4, 2)

_START_OF_SCAN = b"\xff\xda"
_NEEDS_PILLOW = (b"Exif", b"tiff:Orientation", b"MPF\0")
"""In front of a JPEG's pixels: it may lie on its side, or hold several pictures."""


class FastTrainTransform:
    """From the bytes of an image to a normalised training tensor.

    Args:
        exact: What `train_transform` made; its parts are taken over, the operations
            of its policy replaced.

    Raises:
        ZigguratError: If simplejpeg or OpenCV is not installed.
    """

    def __init__(self, exact: transforms.Compose) -> None:
        try:
            import simplejpeg

            from ziggurat.data.fast_augment import on_pixels
        except ImportError as error:
            raise ZigguratError(
                f"data.decoder fast needs the package {error.name}, which is not installed; run "
                "`pip install 'ziggurat[data]'` or set data.decoder to exact"
            ) from None
        self.decode_jpeg = simplejpeg.decode_jpeg
        self.decode_jpeg_header = simplejpeg.decode_jpeg_header
        crop, *steps = exact.transforms
        assert isinstance(crop, RandomResizedCropAndInterpolation)
        kinds = [type(step) for step in steps]
        bound = kinds.index(MaybeToTensor)
        self.crop = crop
        is_flipping = kinds[0] is transforms.RandomHorizontalFlip
        self.flip_probability = steps[0].p if is_flipping else 0.0
        self.on_pixels = [on_pixels(step) for step in steps[is_flipping:bound]]
        normalize, *self.on_tensors = steps[bound + 1 :]
        width = crop.size[1]
        # Of a row of pixels, channels last.
        self.scale = (1 / (255 * normalize.std)).repeat(width)
        self.shift = (-normalize.mean / normalize.std).repeat(width)

    def __call__(self, data: bytes, name: str) -> tuple[Float[Tensor, "3 h w"], ImageSize]:
        """Return the tensor, and the height and width of the upright image.

        Args:
            data: File of the image.
            name: What an error calls it.
        """
        header = self._read_header(data)
        box = None
        if header is not None:
            turn, size = header
            box = self._draw(size)
            pixels = self._decode_part(data, size, turn, box)
            if pixels is not None:
                return self._augment(pixels), size
        image = decode_image(data, name=name)
        size = (image.height, image.width)
        top, left, height, width = box or self._draw(size)
        return self._augment(np.array(image)[top : top + height, left : left + width]), size

    def _read_header(self, data: bytes) -> tuple[int, ImageSize] | None:
        """Return orientation and upright size of a JPEG in colour or grey, None for others."""
        start = data[: data.find(_START_OF_SCAN)]
        if any(mark in start for mark in _NEEDS_PILLOW):
            return _read_header_by_pillow(data)
        try:
            height, width, colours, _ = self.decode_jpeg_header(data)
        except ValueError:
            return None
        return (1, (height, width)) if colours in ("YCbCr", "RGB", "Gray") else None

    def _draw(self, size: ImageSize) -> Box:
        box: Box = self.crop.get_params(_blank(size), self.crop.scale, self.crop.ratio)
        return box

    def _decode_part(self, data: bytes, size: ImageSize, turn: int, box: Box) -> Pixels | None:
        """Decode and cut out a part, small where that suffices; None where the file is damaged."""
        top, left, height, width = box
        wanted = self.crop.size
        factor = next(
            (k for k in _FACTORS if height >= k * wanted[0] and width >= k * wanted[1]), 1
        )
        stored = size if turn < 5 else (size[1], size[0])
        try:
            pixels = self.decode_jpeg(
                data,
                min_height=-(-stored[0] // factor),
                min_width=-(-stored[1] // factor),
                min_factor=factor,
            )
        except ValueError:
            return None
        edges = (top, left, top + height, left + width)
        top, left, bottom, right = (round(edge / factor) for edge in edges)
        return upright(pixels, turn)[top:bottom, left:right]

    def _augment(self, part: Pixels) -> Float[Tensor, "3 h w"]:
        # torchvision draws for its flip in the same way.
        is_flipped = self.flip_probability > 0 and bool(torch.rand(1) < self.flip_probability)
        pixels = _resize(part, self.crop.size, is_flipped=is_flipped)
        for change in self.on_pixels:
            pixels = change(pixels)
        height, width, _ = pixels.shape
        rows = torch.from_numpy(pixels).view(height, -1).float()
        torch.addcmul(self.shift, rows, self.scale, out=rows)
        image = rows.view(height, width, 3).permute(2, 0, 1)
        for step in self.on_tensors:
            image = step(image)
        return image


@lru_cache(maxsize=1024)
def _blank(size: ImageSize) -> Tensor:
    """Return an image without pixels: timm asks it for nothing but its size."""
    return torch.empty(1, *size, device="meta")


def _read_header_by_pillow(data: bytes) -> tuple[int, ImageSize] | None:
    try:
        with without_pillow_warnings(), Image.open(io.BytesIO(data)) as image:
            if image.format != "JPEG" or image.mode not in ("RGB", "L"):
                return None
            turn = orientation(image)
            is_on_its_side = turn >= 5
            size = (image.width, image.height) if is_on_its_side else (image.height, image.width)
            return turn, size
    except Exception:  # whatever is wrong is said when the file is decoded
        return None


def upright(pixels: Pixels, turn: int) -> UInt8[np.ndarray, "h w 3"]:
    """Turn an image as its EXIF orientation says; a view of the same pixels.

    Args:
        pixels: The image as it is stored.
        turn: The orientation, 1 to 8.
    """
    if turn >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _resize(pixels: Pixels, size: ImageSize, *, is_flipped: bool) -> UInt8[np.ndarray, "h w 3"]:
    if min(pixels.strides) < 0:
        pixels = pixels.copy()  # PyTorch goes through memory forwards only
    # A batch first and channels forward then: strides of channels_last, which come out, too.
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = F.interpolate(batch, size=size, mode="bicubic", antialias=True)
    if is_flipped:
        resized = resized.flip(3)
    result: np.ndarray = resized.permute(0, 2, 3, 1)[0].contiguous().numpy()
    return result
