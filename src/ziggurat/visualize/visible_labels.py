"""What can be drawn of classes that may overlap: one class a pixel, and where two answers differ.

Shapes: H x W pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from ziggurat.types import UNLABELLED, ClassMasks, LabelMap

NOTHING = UNLABELLED
"""Label of pixels without a class, shown as if nobody had labelled them."""


@dataclass(frozen=True)
class ComparedLabels:
    """True and predicted class of each pixel, and which pixels are wrong.

    Attributes:
        truth: True class, of several the smallest one; 255 where there is none.
        prediction: Predicted class, likewise.
        wrong: Where the two differ in any class, among what somebody labelled.
        ignored: Where nobody labelled.
    """

    truth: UInt8[np.ndarray, "H W"]
    prediction: UInt8[np.ndarray, "H W"]
    wrong: Bool[np.ndarray, "H W"]
    ignored: Bool[np.ndarray, "H W"]


def visible_labels(result: LabelMap | ClassMasks) -> UInt8[np.ndarray, "H W"]:
    """Return the class to show at each pixel, of several the smallest; 255 where there is none.

    Args:
        result: A label map, or masks of classes, on any device.
    """
    if isinstance(result, LabelMap):
        return result.labels.cpu().numpy().astype(np.uint8)
    masks = result.masks.cpu().numpy()
    labels = np.full(masks.shape[1:], NOTHING, dtype=np.uint8)
    for label in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        labels[masks[label]] = label
    return labels


def compared(truth: LabelMap | ClassMasks, prediction: LabelMap | ClassMasks) -> ComparedLabels:
    """Find what is wrong, pixel by pixel.

    Args:
        truth: True classes.
        prediction: Predicted classes: of the same kind and size.

    Raises:
        TypeError: If one is a label map and the other one are masks.
    """
    true, found = visible_labels(truth), visible_labels(prediction)
    if isinstance(truth, LabelMap) and isinstance(prediction, LabelMap):
        ignored = true == NOTHING
        return ComparedLabels(true, found, ~ignored & (true != found), ignored)
    if not isinstance(truth, ClassMasks) or not isinstance(prediction, ClassMasks):
        raise TypeError(f"expected two of a kind, got {type(truth)} and {type(prediction)}")
    ignored = truth.ignored.cpu().numpy()
    differs = (truth.masks.cpu() ^ prediction.masks.cpu()).any(dim=0).numpy()
    return ComparedLabels(true, found, ~ignored & differs, ignored)
