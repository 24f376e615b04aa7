"""Decode an image file of any kind to 8-bit RGB, upright, or say why not.

An alpha channel is dropped (the colours beneath stay), 16-bit values are scaled by dropping the low
byte as OpenCV does, CMYK is converted as Adobe writes it.

EXIF orientation is applied. Official detection does so too, official classification does not: its
loader takes the pixels as they are stored. Here every task sees an image as a viewer shows it,
since phones often store photos on their side, and a classifier that took them so would depend on
how the phone was held.
"""

import io
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from ziggurat.errors import ZigguratError
from ziggurat.types import ImageSize

Taken = TypeVar("Taken")
Key = TypeVar("Key")

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)
"""A file with one of these suffixes, in lower or upper case, is taken for an image."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright; 1 and unknown values need nothing."""

_SAY_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Metadata in which Pillow looks for the orientation."""


_ERROR_AT = 2
"""Pillow refuses what has this many times as many pixels as its `Image.MAX_IMAGE_PIXELS`."""


class ImageDecodeError(ZigguratError):
    """A file is no image that can be decoded.

    Args:
        path: Name of the file.
        reason: Why it cannot be decoded.
    """

    def __init__(self, path: str, reason: str) -> None:
        # Both go to args, so that the error survives the way out of a worker process.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode image {self.path}: {self.reason}"


def decode_image(source: str | Path | bytes, *, name: str | None = None) -> Image.Image:
    """Read an image as upright 8-bit RGB; of several frames or pages the first.

    Args:
        source: A file, or the bytes of one.
        name: What an error calls bytes.
    """
    return decode_with(source, to_upright_rgb, name=name)


def decode_with(
    source: str | Path | bytes,
    take: Callable[[Image.Image], Taken],
    *,
    name: str | None = None,
) -> Taken:
    """Open an image and take something out of it while it is open.

    Args:
        source: A file, or the bytes of one.
        take: Is given the image, of whatever mode and not loaded yet; a `ValueError` of it is why
            the file cannot be used.
        name: What an error calls bytes.

    Raises:
        ImageDecodeError: If there is no such file, or it is no whole image.
        MemoryError: If the image does not fit into memory.
    """
    if name is None:
        name = f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else read_file(Path(source))
    if not data:
        raise ImageDecodeError(name, "it is empty (0 bytes)")
    try:
        with without_pillow_warnings(), Image.open(io.BytesIO(data)) as image:
            return take(image)
    except UnidentifiedImageError:
        raise ImageDecodeError(name, _what_else(data)) from None
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise ImageDecodeError(name, _too_large()) from None
    except Exception as error:
        # A damaged file makes Pillow's many readers raise nearly anything: OSError, SyntaxError,
        # struct.error, zlib.error, IndexError and more.
        raise ImageDecodeError(name, str(error) or type(error).__name__) from error


def allow_megapixels(megapixels: float) -> None:
    """Let files have more pixels, or fewer, than Pillow allows, in the whole process.

    A file of kilobytes can stand for an image that fills the memory, hence the limit.

    Args:
        megapixels: Most millions of pixels of an image.

    Raises:
        ZigguratError: If it is not above 0.
    """
    if not (math.isfinite(megapixels) and megapixels > 0):
        raise ZigguratError(f"an image may have a number of megapixels above 0, got {megapixels:g}")
    Image.MAX_IMAGE_PIXELS = math.ceil(1e6 * megapixels / _ERROR_AT)


def _too_large() -> str:
    limit = _ERROR_AT * (Image.MAX_IMAGE_PIXELS or math.inf) / 1e6
    return (
        f"it has more than {limit:.0f} megapixels, with which a damaged or hostile file could fill "
        "the memory; cut or shrink it (`ziggurat predict` takes larger ones with --max_megapixels)"
    )


class _Quiet:
    """The filters that were there before the first of the threads that decode now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.before = warnings.catch_warnings()


_quiet = _Quiet()


@contextmanager
def without_pillow_warnings() -> Iterator[None]:
    """Ignore Pillow's warnings of odd but harmless metadata; what cannot be decoded raises.

    `warnings.catch_warnings` changes the whole process, and threads whose stretches overlap would
    put back each other's filters. Here the first thread to come changes them and the last to go
    puts them back.

    Yields:
        Nothing.
    """
    with _quiet.lock:
        if _quiet.users == 0:
            _quiet.before = warnings.catch_warnings()
            _quiet.before.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet.users += 1
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.users -= 1
            if _quiet.users == 0:
                _quiet.before.__exit__(None, None, None)


def read_many(
    read: Callable[[Key], Taken],
    keys: Sequence[Key],
    on_progress: Callable[[int], None] | None = None,
) -> list[Taken]:
    """Read many image files, several at a time; returns what was read, in order.

    Args:
        read: Reads one.
        keys: What it is given.
        on_progress: Is told that another one was read.
    """
    results = []
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        with without_pillow_warnings():  # once for all files
            for result in pool.map(read, keys):
                results.append(result)
                if on_progress is not None:
                    on_progress(1)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the files still queued
    return results


def is_image_file(path: Path) -> bool:
    """Tell an image by its name; hidden files (".", "._" of macOS) are none."""
    return is_image_name(path.name)


def has_images(folder: Path, pattern: str = "*") -> bool:
    """Tell whether there are image files at some depth of a folder.

    Args:
        folder: Where to look; it may be absent.
        pattern: Which files, relative to it, as `Path.glob` takes it.
    """
    return any(is_image_file(path) for path in folder.glob(pattern))


def is_image_name(name: str) -> bool:
    """Tell an image by its name alone, as `is_image_file`; a million of them take a second."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def read_file(path: Path) -> bytes:
    """Read a file whole.

    Args:
        path: The file.

    Raises:
        ImageDecodeError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageDecodeError(str(path), "there is no such file") from None
    except IsADirectoryError:
        raise ImageDecodeError(str(path), "it is a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageDecodeError(str(path), reason or str(error)) from error


def _what_else(data: bytes) -> str:
    head = data[:512]
    if all(byte >= 32 or byte in b"\t\n\r" for byte in head):
        return "it is text, not an image"
    return "it is not in an image format that Pillow reads"


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Return an open image as 8-bit RGB, turned as its EXIF orientation says.

    Args:
        image: An image of any mode.
    """
    image.load()
    upright = _to_rgb(_turn_upright(image))
    for name in _SAY_ORIENTATION:  # else whoever is given the result would turn it again
        upright.info.pop(name, None)
    return upright


def upright_size(image: Image.Image) -> ImageSize:
    """Height and width of an open image when it is upright; its pixels are not read.

    Args:
        image: An image of any mode.
    """
    is_on_its_side = orientation(image) in (5, 6, 7, 8)
    return (image.width, image.height) if is_on_its_side else (image.height, image.width)


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an open image, 1 where it is upright or says nothing.

    Args:
        image: An image of any mode.
    """
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged metadata says nothing, and the pixels are whole
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def _turn_upright(image: Image.Image) -> Image.Image:
    operation = _UPRIGHT.get(orientation(image))
    return image if operation is None else image.transpose(operation)


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB":
        return image.copy()  # of its own, when the file is closed
    if mode.startswith("I"):
        return _from_16_bit(image)
    if mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
    if mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette's transparency may be a list of bytes
    elif mode in ("La", "RGBa"):
        image = image.convert("LA" if mode == "La" else "RGBA")  # undo premultiplied alpha
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError(
            f"its pixels are integers from {values.min()} to {values.max()}, beyond 16 bits"
        )
    grey = (values.astype(np.uint16) >> 8).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")
