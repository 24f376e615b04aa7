"""Where a Feature Pyramid Transformer looks in a photo, as a picture."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ziggurat.errors import ZigguratError
from ziggurat.inference.images import ImageLike, to_image
from ziggurat.inference.predictor import Predictor
from ziggurat.necks.fpt import FeaturePyramidTransformer, find_transformer
from ziggurat.types import ImageSize
from ziggurat.visualize.attention import Panel, draw_attention

MIDDLE = (0.5, 0.5)


def explain(
    predictor: Predictor, image: ImageLike, place: tuple[float, float] = MIDDLE
) -> Image.Image:
    """Draw where the pixels at a place of a photo look, on every map of the pyramid.

    A row for each map that the pixel is of, a column for each that it looks at: itself
    (self-transformer) and all coarser ones (grounding).

    Args:
        predictor: Has a model with a Feature Pyramid Transformer.
        image: The photo.
        place: From the left and from the top, as shares of its width and height. A place outside,
            or a model without such a neck, is a `ZigguratError`.
    """
    transformer = transformer_of(predictor)
    check_place(place)
    photo = to_image(image)
    inputs: list[Any] = []
    features: list[Sequence[Tensor]] = []
    handles = [
        predictor.model.register_forward_pre_hook(lambda _, given: inputs.append(given)),
        transformer.register_forward_pre_hook(lambda _, given: features.append(given[0])),
    ]
    try:
        predictor(photo)
    finally:
        for handle in handles:
            handle.remove()
    images = inputs[0][0]
    sizes: list[ImageSize] | None = inputs[0][1] if len(inputs[0]) > 1 else None
    padded: ImageSize = (images.shape[2], images.shape[3])
    size = padded if sizes is None else sizes[0]
    # The network's input is the photo and what pads it, at the right and below.
    share_x, share_y = size[1] / padded[1], size[0] / padded[0]
    with torch.inference_mode():
        looks = transformer.looks(features[0], place[0] * share_x, place[1] * share_y)
    panels = []
    for look in looks:
        height, width = look.weights.shape
        shown = look.weights[: max(1, round(height * share_y)), : max(1, round(width * share_x))]
        panels.append(Panel(look.level, look.other, shown.float().cpu().numpy()))
    return draw_attention(photo, panels, place, transformer.out_strides)


def check_place(place: tuple[float, float]) -> None:
    """Raise if a place lies outside of the photo.

    Args:
        place: From the left and from the top, as shares of its width and height.

    Raises:
        ZigguratError: If it does.
    """
    if not all(0 <= share <= 1 for share in place):
        raise ZigguratError(f"a place has two shares from 0 to 1, got {place[0]:g} {place[1]:g}")


def transformer_of(predictor: Predictor) -> FeaturePyramidTransformer:
    """Return the neck whose looks can be drawn.

    Args:
        predictor: Has the model.

    Raises:
        ZigguratError: If the model has no such neck.
    """
    transformer = find_transformer(predictor.model)
    if transformer is not None:
        return transformer
    raise ZigguratError(
        f"{predictor.model.identity.name} has no Feature Pyramid Transformer, whose looks could be "
        "drawn; train a model with --model.neck fpt"
    )
