"""One step of a model: inference, or forward, backward and AdamW; and what it costs in FLOPs.

A step of a detector or segmenter is the whole of it: post-processing included, its own losses of
drawn objects or label maps.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ziggurat.bench.detection import (
    AnyDetector,
    TorchvisionDetector,
    detector_loss,
    draw_objects,
    enliven,
    predict,
)
from ziggurat.bench.results import Dtype, Setting, Variant
from ziggurat.fast.inference import optimize_for_inference
from ziggurat.fast.training import optimize_for_training
from ziggurat.losses.total import total_loss
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.ops.tensors import tensors_in
from ziggurat.types import Detections, LabelMap, full_sizes

Step = Callable[[], None]

MEMORY_FORMATS = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}
DRAWN_CLASSES = 80
"""Classes of drawn objects, as detectors of COCO have."""
LEARNING_RATE = 1e-6
"""Small, so that weights stay what they are: training must not drift into infinite values."""


def make_images(setting: Setting, device: torch.device, memory_format: str) -> Tensor:
    """Draw a batch of images, always the same.

    Args:
        setting: Says how many and how large.
        device: Where they lie.
        memory_format: Order of the values in memory, a key of `MEMORY_FORMATS`.
    """
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(setting.batch, 3, *setting.image_size, generator=draw)
    return images.to(device, memory_format=MEMORY_FORMATS[memory_format])


def make_ready(
    model: nn.Module, setting: Setting, device: torch.device, memory_format: str
) -> Tensor:
    """Put a model on its device and into its mode, and return a batch for it.

    Args:
        model: A model as it was built; it is changed, and a detector finds objects afterwards.
        setting: What a step is.
        device: Where it runs.
        memory_format: Order of images and weights in memory, a key of `MEMORY_FORMATS`.
    """
    model.train(setting.is_training).to(device).to(memory_format=MEMORY_FORMATS[memory_format])
    images = make_images(setting, device, memory_format)
    if isinstance(model, Detector | TorchvisionDetector) and not setting.is_training:
        enliven(model, images)
    return images


def count_flops(model: nn.Module, setting: Setting, images: Tensor) -> int:
    """Count the operations of one step in products and convolutions, on the meta device.

    A training step is taken as three times the forward pass, as is usual: each product of it has
    two of the same size in the backward pass. PyTorch's own counter overstates the gradients of
    depthwise convolutions by their number of channels.

    Detectors are counted while they work, since what they find decides how much there is to do.

    Args:
        model: A model that `make_ready` has seen.
        setting: What a step is.
        images: What `make_ready` returned.
    """
    # Frozen: under no_grad the counter fails where a module is given a view of a parameter.
    twin = copy.deepcopy(model).requires_grad_(False)
    if isinstance(twin, Detector | TorchvisionDetector):
        return _count_flops_of_detector(twin, setting, images)
    twin = twin.eval().to("meta")
    counter = FlopCounterMode(display=False)
    with counter:
        twin(images.to("meta"))
    forward = int(counter.get_total_flops())
    return 3 * forward if setting.is_training else forward


def _count_flops_of_detector(model: AnyDetector, setting: Setting, images: Tensor) -> int:
    counter = FlopCounterMode(display=False)
    if setting.is_training:
        with counter:
            detector_loss(model, images, _objects_for(model, images))
        return 3 * int(counter.get_total_flops())
    with counter:
        predict(model, images)
    return int(counter.get_total_flops())


def _objects_for(model: nn.Module, images: Tensor) -> list[Detections]:
    """Draw objects that a detector can be trained on."""
    if isinstance(model, Detector):
        return draw_objects(images, model.identity.num_classes, model.skeleton)
    return draw_objects(images, DRAWN_CLASSES)


def make_variant(model: nn.Module, variant: Variant, dtype: Dtype) -> nn.Module:
    """Return the model in the form that is measured.

    Args:
        model: The model as written, on its device and in its mode.
        variant: Form of the model.
        dtype: Precision that it is measured in.
    """
    if variant == "compiled" and isinstance(
        model, Detector | TorchvisionDetector | SemanticSegmenter
    ):
        model.compile(dynamic=False)
        return model  # it keeps its type, and with it what follows the forward pass
    if variant == "compiled":
        compiled: nn.Module = torch.compile(model, dynamic=False)  # type: ignore[assignment]
        return compiled
    if variant == "fast" and model.training:
        return optimize_for_training(model)
    if variant == "fast":
        return optimize_for_inference(model, autocast=torch.bfloat16 if dtype == "bf16" else None)
    return model


def make_step(model: nn.Module, images: Tensor, setting: Setting) -> Step:
    """Return a function that takes one step.

    Args:
        model: The model, in the mode of the setting.
        images: The batch, the same for each step.
        setting: Precision, and whether to train.
    """
    autocast = autocast_of(setting, images.device)
    if not setting.is_training:

        def infer() -> None:
            with torch.inference_mode(), autocast:
                if isinstance(model, Detector | TorchvisionDetector):
                    predict(model, images)
                elif isinstance(model, SemanticSegmenter):
                    model.decode(model(images), full_sizes(images))
                else:
                    model(images)

        return infer

    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    objects = _objects_for(model, images)

    def train() -> None:
        with autocast:
            if isinstance(model, Detector | TorchvisionDetector):
                loss = detector_loss(model, images, objects)
            elif isinstance(model, SemanticSegmenter):
                losses = model.loss(model(images), draw_label_maps(images, len(model.classes)))
                loss = total_loss(losses)
            else:
                loss = stand_in_loss(model(images))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


def draw_label_maps(images: Tensor, num_classes: int) -> list[LabelMap]:
    """Return label maps with all classes, in squares of 32 pixels.

    Args:
        images: Say how many, how large and where.
        num_classes: Number of classes.
    """
    rows, columns = (torch.arange(side, device=images.device) // 32 for side in images.shape[2:])
    labels = (7 * rows[:, None] + columns) % num_classes
    return [LabelMap((labels + number) % num_classes) for number in range(len(images))]


def autocast_of(setting: Setting, device: torch.device) -> torch.autocast:
    """Return the context that gives products and convolutions their precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=setting.dtype == "bf16")


def stand_in_loss(raw: object) -> Tensor:
    """Return the mean square of each tensor in a model's raw output, added up.

    It stands in for losses that need targets, alike for classifiers and backbones.
    """
    return torch.stack([t.float().square().mean() for t in tensors_in(raw)]).sum()
