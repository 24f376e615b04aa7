"""How often the classes of a data set occur, for weights that make rare ones count more."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.label_files import read_labels
from ziggurat.data.label_rules import LabelRule
from ziggurat.ops.label_counts import count_labels

MOST_FILES = 5000
"""Label files that are read at most, evenly spread: shares of classes need no more."""


def class_pixels(
    pairs: Sequence[tuple[Path, Path]], rule: LabelRule
) -> tuple[Int64[Tensor, " K"], Int64[Tensor, " K"]]:
    """Return the pixels of each class, and all labelled pixels of the images that show it.

    Files that cannot be decoded are left out, as training leaves them out and reports them. The
    same files give the same numbers in every process.

    Args:
        pairs: Image and label file of each image.
        rule: What the values of the label files mean.
    """
    num_classes = len(rule.classes)
    own = np.zeros(num_classes, dtype=np.int64)
    beside = np.zeros(num_classes, dtype=np.int64)
    for _, path in pairs[:: -(-len(pairs) // MOST_FILES) or 1]:
        try:
            counts = count_labels(read_labels(path, rule), num_classes)
        except ImageDecodeError:
            continue
        own += counts
        beside[counts > 0] += counts.sum()
    return torch.from_numpy(own), torch.from_numpy(beside)
