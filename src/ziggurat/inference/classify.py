"""Class scores of images of any size: once as evaluation sees them, or averaged over views.

A view is the middle square of the image at another size, mirrored or not; what the views say of a
class is averaged as probabilities (Krizhevsky et al., NeurIPS 2012, section 4.1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from PIL import Image

from ziggurat.data.classification import eval_transform
from ziggurat.data.loading import collate
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.forward import infer
from ziggurat.models.classifier import Classifier
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import Batch, ClassScores, ImageInfo, Sample

STRIDE = 32
"""Of the coarsest map; a square that is a multiple of it in evaluation is one at every scale."""


def classify(
    model: Classifier,
    images: Sequence[Image.Image],
    augmentation: Augmentation,
    device: torch.device,
) -> list[ClassScores]:
    """Return the mean probability of each class over all views, for each image.

    Args:
        model: A classifier in eval mode on the device.
        images: RGB images.
        augmentation: Views of an image.
        device: Where to compute.
    """
    scores = []
    for batch in _views(images, model.preprocessing, augmentation):
        found = infer(model, batch, device)
        scores.append([one.scores for one in found if isinstance(one, ClassScores)])
    return [
        ClassScores(torch.stack(of_image).mean(dim=0)) for of_image in zip(*scores, strict=True)
    ]


def _views(
    images: Sequence[Image.Image], preprocessing: CenterCrop, augmentation: Augmentation
) -> Iterator[Batch]:
    for scale in augmentation.scales:
        transform = eval_transform(at_scale(preprocessing, scale))
        batch = collate(
            [
                Sample(transform(image), None, ImageInfo(number, "", (image.height, image.width)))
                for number, image in enumerate(images)
            ],
            divisor=1,
        )
        yield batch
        if augmentation.flip:
            yield replace(batch, images=batch.images.flip(3))


def at_scale(preprocessing: CenterCrop, scale: float) -> CenterCrop:
    """Return the same part of the image in another size.

    Args:
        preprocessing: As in evaluation.
        scale: Factor on the size; the square is rounded to a multiple of 32 pixels where that of
            evaluation is one.
    """
    grid = 1 if preprocessing.crop % STRIDE else STRIDE
    crop = max(1, round(preprocessing.crop * scale / grid)) * grid
    resize = max(crop, round(preprocessing.resize * crop / preprocessing.crop))
    return replace(preprocessing, resize=resize, crop=crop)
