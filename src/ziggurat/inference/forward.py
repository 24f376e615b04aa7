"""A batch through a model to results: the same for prediction and evaluation."""

from collections.abc import Sequence

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
    images = batch.images.to(device, memory_format=torch.channels_last)
    raw = model(images, batch.image_sizes)
    original_sizes = [info.original_size for info in batch.infos]
    if isinstance(model, Detector):
        return [
            found.to("cpu")
            for found in model.decode(raw, batch.image_sizes, original_sizes, suppression)
        ]
    results: Sequence[Result] = model.decode(raw, batch.image_sizes, original_sizes)
    if keep_pixels and isinstance(model, SemanticSegmenter):
        return list(results)
    return [
        ClassScores(result.scores.cpu()) if isinstance(result, ClassScores) else result.to("cpu")
        for result in results
    ]
