"""A batch through a model to results: the same for prediction and evaluation."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from ziggurat.errors import ZigguratError
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.ops.nms import HARD, Suppression
from ziggurat.types import Batch, ClassScores, Result
from ziggurat.zoo import Model


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is the fastest one there is.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ZigguratError: If there is no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ZigguratError(
            f"this machine has no device {name!r} that can be used; choose auto, cpu, cuda, "
            "cuda:<number> or mps"
        ) from error
    return device


@torch.inference_mode()
def infer(
    model: Model,
    batch: Batch,
    device: torch.device,
    suppression: Suppression = HARD,
    *,
    keep_pixels: bool = False,
) -> list[Result]:
    """Return what the model says of each image, on the CPU; boxes in pixels of the original image.

    Args:
        model: A model in eval mode on the device.
        batch: Images, prepared as the model expects; it may be empty.
        device: Where to compute.
        suppression: What a detector does about duplicates.
        keep_pixels: Leave label maps and masks of classes on the device, to be counted there.
    """
    if not batch.infos:
        return []
    found: list[Result] = []
    for part in seen_at_once(model, batch):
        images = part.images.to(device, memory_format=torch.channels_last)
        raw = model(images, part.image_sizes)
        original_sizes = [info.original_size for info in part.infos]
        if isinstance(model, Detector):
            found += model.decode(raw, part.image_sizes, original_sizes, suppression)
        else:
            found += model.decode(raw, part.image_sizes, original_sizes)
    if keep_pixels and isinstance(model, SemanticSegmenter):
        return found
    return [
        ClassScores(result.scores.cpu()) if isinstance(result, ClassScores) else result.to("cpu")
        for result in found
    ]


def seen_at_once(model: Model, batch: Batch) -> Iterator[Batch]:
    """Divide a batch into parts that a model is shown one after the other, without targets.

    Images of different sizes are padded where they are put together. A segmenter would look at the
    padding, with its pooling and its attention, so that what it says of an image would depend on
    the others: it gets each of them by itself. Others get the batch as it is.

    Args:
        model: Says whether padding changes what it finds.
        batch: Images, prepared as the model expects.

    Yields:
        The parts, in order.
    """
    if not isinstance(model, SemanticSegmenter) or len(set(batch.image_sizes)) == 1:
        yield replace(batch, targets=None)
        return
    for image, (height, width), info in zip(
        batch.images.split(1), batch.image_sizes, batch.infos, strict=True
    ):
        alone = image[:, :, :height, :width].contiguous(memory_format=torch.channels_last)
        yield replace(
            batch, images=alone, image_sizes=[(height, width)], targets=None, infos=[info]
        )
