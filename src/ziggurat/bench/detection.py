"""Steps of detectors: prediction with its post-processing, and the losses of drawn objects.

A detector's work depends on what it finds. With fresh weights it finds nothing, so that suppression
and masks would cost nothing; `enliven` makes it find something, ours and others' alike.

Shapes: B images, H x W pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.losses.total import total_loss
from ziggurat.models.detector import Detector
from ziggurat.types import Detections, ObjectMasks, full_sizes

NUM_OBJECTS = 8
"""Drawn objects of an image; COCO's photos have seven on average."""

ATTEMPTS = 6
ENOUGH = 20
GROWTH = 1.4
"""Logits are spread further until so many objects are found, so often at most, by this factor."""

LOGIT_SPREAD = {nn.Conv2d: 0.5, nn.Linear: 0.7}
"""Standard deviation of class logits that lets a detector of 80 classes find something: over all
anchors of the dense layers, of which one in thousands must stand out, and over the classes of an
object of those that classify one by one."""


class TorchvisionDetector(nn.Module):
    """A detector of torchvision that takes images as they are, neither resized nor normalised.

    Args:
        model: Takes a list of images, and targets in training.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        transform: Any = model.transform
        transform.image_mean, transform.image_std = [0.0] * 3, [1.0] * 3

    def forward(
        self, images: Float[Tensor, "B 3 H W"], targets: list[dict[str, Tensor]] | None = None
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        """Return an image's results each, or in training the losses by name.

        Args:
            images: Images of one size.
            targets: Boxes, labels and masks of each image, in training.
        """
        height, width = images.shape[2:]
        transform: Any = self.model.transform
        transform.min_size, transform.max_size = (min(height, width),), max(height, width)
        output: list[dict[str, Tensor]] | dict[str, Tensor] = self.model(list(images), targets)
        return output


AnyDetector = Detector | TorchvisionDetector


def predict(model: AnyDetector, images: Float[Tensor, "B 3 H W"]) -> list[int]:
    """Predict, post-processing included, and return how many objects each image has.

    Args:
        model: The detector in eval mode.
        images: Images without padding.
    """
    if isinstance(model, TorchvisionDetector):
        return [len(found["boxes"]) for found in model(images)]
    sizes = full_sizes(images)
    return [len(found) for found in model.decode(model(images, sizes), sizes)]


def detector_loss(
    model: AnyDetector, images: Float[Tensor, "B 3 H W"], targets: Sequence[Detections]
) -> Float[Tensor, ""]:
    """Return the sum of the detector's own losses.

    Args:
        model: The detector in training mode.
        images: Images without padding.
        targets: True objects of each image.
    """
    if isinstance(model, TorchvisionDetector):
        losses = model(images, [_for_torchvision(target) for target in targets])
    else:
        sizes = full_sizes(images)
        losses = model.loss(model(images, sizes), targets, sizes)
    return total_loss(losses)


def draw_objects(
    images: Float[Tensor, "B 3 H W"], num_classes: int, skeleton: Skeleton | None = None
) -> list[Detections]:
    """Draw objects: boxes from a tenth to half of the image a side, filled.

    Args:
        images: Say how many, how large and where.
        num_classes: Number of classes.
        skeleton: What keypoints the objects have; None for none.
    """
    height, width = images.shape[2:]
    generator = torch.Generator().manual_seed(0)
    side = torch.tensor([width, height])
    drawn = []
    for _ in images:
        size = (0.1 + 0.4 * torch.rand(NUM_OBJECTS, 2, generator=generator)) * side
        size = size.ceil().clamp(min=1).minimum(side)
        start = (torch.rand(NUM_OBJECTS, 2, generator=generator) * (side - size)).floor()
        windows = torch.cat([start, size], dim=1).long()
        pixels = torch.ones(int(windows[:, 2:].prod(dim=1).sum()), dtype=torch.bool)
        labels = torch.randint(num_classes, (NUM_OBJECTS,), generator=generator)
        keypoints = None
        if skeleton is not None:
            share = torch.rand(NUM_OBJECTS, len(skeleton), 2, generator=generator)
            places = start[:, None] + share * size[:, None]
            seen = torch.full((NUM_OBJECTS, len(skeleton), 1), 2.0)
            keypoints = Keypoints(torch.cat([places, seen], dim=2), skeleton)
        objects = Detections(
            torch.cat([start, start + size], dim=1),
            torch.ones(NUM_OBJECTS),
            labels,
            ObjectMasks(pixels, windows, (height, width)),
            keypoints,
        )
        drawn.append(objects.to(images.device))
    return drawn


@torch.no_grad()
def enliven(model: AnyDetector, images: Float[Tensor, "B 3 H W"]) -> list[int]:
    """Scale the last layer of each classification until a detector finds objects.

    The layers are known by their names: "cls_logits", "cls_score", linear ones "logits" as well.

    Args:
        model: A detector with fresh weights in eval mode; it is changed.
        images: In them it finds objects.

    Returns:
        How many it finds in each image; it may still be none after the last attempt.
    """
    layers = [
        layer
        for name, layer in model.named_modules()
        if (isinstance(layer, nn.Conv2d | nn.Linear) and name.split(".")[-1].startswith("cls"))
        or (isinstance(layer, nn.Linear) and name.endswith(".logits"))
    ]
    hooks = [layer.register_forward_hook(_spread_once()) for layer in layers]
    try:
        found = predict(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    for _ in range(ATTEMPTS):
        if min(found) >= ENOUGH:
            break
        for layer in layers:
            layer.weight.mul_(GROWTH)
        found = predict(model, images)
    return found


def _spread_once() -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]:
    """Make a hook that scales the weights of a layer by how much its first output varies."""
    done: set[nn.Module] = set()

    def spread(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if layer in done:
            return None
        done.add(layer)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        bias = output.new_zeros(()) if layer.bias is None else layer.bias
        if bias.ndim and isinstance(layer, nn.Conv2d):
            bias = bias[:, None, None]
        varied = (output - bias).float()
        found = varied.std() if isinstance(layer, nn.Conv2d) else varied.std(dim=-1).median()
        factor = LOGIT_SPREAD[type(layer)] / float(found.clamp(min=1e-12))
        layer.weight.mul_(factor)
        return varied * factor + bias

    return spread


def _for_torchvision(target: Detections) -> dict[str, Tensor]:
    entry = {"boxes": target.boxes, "labels": target.labels + 1}  # 0 is background
    if target.masks is not None:
        entry["masks"] = target.masks.full().to(torch.uint8)
    return entry
