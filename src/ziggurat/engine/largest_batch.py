"""Whether the largest batches of a run fit the memory that a Feature Pyramid Transformer needs.

Images differ in size from batch to batch, and the largest may come after hours. How large they can
be is known when a run begins: one that would be refused in the middle is refused there.
"""

import torch

from ziggurat.config.data import ClassificationData, DetectionData, SegmentationData
from ziggurat.config.tree import TrainConfig
from ziggurat.errors import ZigguratError
from ziggurat.necks.fpt import find_transformer
from ziggurat.ops.memory import TooLittleMemoryError
from ziggurat.ops.padding import aligned_size
from ziggurat.types import ImageSize
from ziggurat.zoo import Model


def check_largest_batches(
    model: Model, config: TrainConfig, divisor: int, device: torch.device
) -> None:
    """Refuse a run whose largest batch would not fit; other models than these need no check.

    A `TooLittleMemoryError` says so of a batch to learn from.

    Args:
        model: The model, as it is trained.
        config: The run.
        divisor: Height and width of a batch are multiples of this.
        device: Where it is trained.

    Raises:
        ZigguratError: If a batch to validate on would not fit.
    """
    transformer, data = find_transformer(model), config.data
    if transformer is None or isinstance(data, ClassificationData):
        return
    learned = transformer.sizes_for(aligned_size(largest_to_learn_from(data), divisor))
    with torch.enable_grad():
        transformer.check_memory(learned, data.batch_size, device)
    looked_at = transformer.sizes_for(aligned_size(largest_to_validate_on(data), divisor))
    try:
        with torch.no_grad():
            transformer.check_memory(looked_at, data.eval_batch_size, device)
    except TooLittleMemoryError as error:
        raise ZigguratError(
            "validation would not fit into the memory of its device with data.eval_batch_size "
            f"{data.eval_batch_size} ({error}); lower it, or data.short_side and data.long_side"
        ) from error


def largest_to_learn_from(data: DetectionData | SegmentationData) -> ImageSize:
    """Return height and width that no batch of training exceeds before it is padded.

    A batch of a detector has wide or tall images only. Standing they take as much memory as lying.

    Args:
        data: The data of the run.
    """
    if isinstance(data, SegmentationData):
        return data.crop
    if data.scale_jitter is not None:
        side = min(data.jitter_side, round(data.jitter_side * data.scale_jitter[1]))
        return side, side
    most = data.long_side if data.max_train_side is None else data.max_train_side
    short = max(data.train_short_sides or (data.short_side,))
    # A part that is cut out of a wide image first may be a tall one.
    height = data.long_side if data.crop_first > 0 and data.batch_size > 1 else short
    return min(height, data.long_side, most), min(data.long_side, most)


def largest_to_validate_on(data: DetectionData | SegmentationData) -> ImageSize:
    """Return height and width that no batch of validation exceeds before it is padded.

    Args:
        data: The data of the run.
    """
    if isinstance(data, SegmentationData):
        # Images of different sizes are shown to a segmenter one after the other.
        return aligned_size((data.short_side, data.long_side), data.divisor)
    # Wide and tall images come together.
    is_mixed = data.eval_batch_size > 1
    return data.long_side if is_mixed else data.short_side, data.long_side
