"""What a model expects of an image; it belongs to the weights and is saved with them."""

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

ChannelOrder = Literal["rgb", "bgr"]


@dataclass(frozen=True)
class Pixels:
    """The numbers that an image is made of where a backbone was trained.

    Attributes:
        mean: Mean of R, G, B, as fractions of the full value.
        std: Standard deviation of R, G, B, likewise.
        channel_order: Order in which the model gets the channels.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: ChannelOrder


IMAGENET_PIXELS = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "rgb")
"""Of PyTorch's models: torchvision, timm, and all that were trained from them."""

CAFFE_PIXELS = Pixels(
    (122.7717 / 255, 115.9465 / 255, 102.9801 / 255), (1 / 255, 1 / 255, 1 / 255), "bgr"
)
"""Of Caffe's and Detectron's: levels 0..255 less their mean, not divided, blue first."""


@dataclass(frozen=True)
class CenterCrop:
    """Classification: resize the short side, cut the middle square out.

    Attributes:
        resize: Short side after resizing, in pixels.
        crop: Side of the square, in pixels.
        mean: Mean of R, G, B, as fractions of the full value.
        std: Standard deviation of R, G, B, likewise.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FitInside:
    """Detection: resize, aspect ratio kept, as large as both limits allow; pad to a multiple.

    Attributes:
        short_side: Largest short side, in pixels.
        long_side: Largest long side, in pixels.
        divisor: The padded height and width are multiples of this.
        mean: Mean of R, G, B, as fractions of the full value.
        std: Standard deviation of R, G, B, likewise.
        channel_order: Order in which the model gets the channels.
    """

    short_side: int = 800
    long_side: int = 1333
    divisor: int = 32
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: ChannelOrder = "rgb"


@dataclass(frozen=True)
class FitAligned:
    """Semantic segmentation: as `FitInside`, then enlarge to multiples instead of padding.

    Attributes:
        short_side: Largest short side, in pixels.
        long_side: Largest long side, in pixels.
        divisor: Height and width are resized a second time, up to multiples of this.
        mean: Mean of R, G, B, as fractions of the full value.
        std: Standard deviation of R, G, B, likewise.
        channel_order: Order in which the model gets the channels.
    """

    short_side: int = 512
    long_side: int = 2048
    divisor: int = 32
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: ChannelOrder = "rgb"


Preprocessing = CenterCrop | FitInside | FitAligned
"""What a model expects of an image; it belongs to the weights and is saved with them."""

Limits = TypeVar("Limits", bound=FitInside | FitAligned)


def scaled_limits(preprocessing: Limits, factor: float) -> Limits:
    """Return the same with both limits of the size multiplied, to at least one pixel.

    Args:
        preprocessing: Gives the limits and all the rest.
        factor: What they are multiplied by.
    """
    return replace(
        preprocessing,
        short_side=max(1, round(preprocessing.short_side * factor)),
        long_side=max(1, round(preprocessing.long_side * factor)),
    )
