"""Image pipelines of classification: ImageNet training (DeiT recipe) and evaluation."""

from collections.abc import Callable
from dataclasses import replace

import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import AugmentOp, AugMixAugment, AutoAugment, RandAugment
from timm.data.mixup import Mixup
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms

from ziggurat.data.randomness import seeded
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import Batch

ImageTransform = Callable[[Image.Image], Tensor]


def train_transform(
    crop: int,
    *,
    auto_augment: str | None,
    color_jitter: float,
    random_erasing: float,
    scale: tuple[float, float],
    flip: float,
    preprocessing: CenterCrop,
) -> transforms.Compose:
    """Random resized crop (bicubic), flip, augmentation, normalisation, random erasing.

    Args:
        crop: Side of the square that comes out, in pixels.
        auto_augment: Policy in timm's notation ("rand-m9-mstd0.5-inc1"), or None.
        color_jitter: Strength of brightness, contrast and saturation jitter; 0 leaves it out.
        random_erasing: Probability that a rectangle is replaced by noise.
        scale: Smallest and largest part of the image's area that is cut out.
        flip: Probability of a horizontal flip.
        preprocessing: Gives mean and standard deviation.

    Raises:
        ZigguratError: If the policy is none that timm knows, or both it and jitter are asked for.
    """
    if auto_augment and color_jitter:
        raise ZigguratError(
            f"color_jitter {color_jitter} has no effect beside auto_augment {auto_augment!r}; "
            "set color_jitter to 0 or auto_augment to null"
        )
    try:
        transform: transforms.Compose = create_transform(
            input_size=crop,
            is_training=True,
            scale=scale,
            hflip=flip,
            color_jitter=color_jitter,
            auto_augment=auto_augment,
            interpolation="bicubic",
            mean=preprocessing.mean,
            std=preprocessing.std,
            re_prob=random_erasing,
            re_mode="pixel",
        )
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise ZigguratError(
            f"auto_augment {auto_augment!r} is no policy that timm knows; "
            "expected one like 'rand-m9-mstd0.5-inc1', 'original', 'augmix-m5-w4-d2' or null"
        ) from error
    for step in transform.transforms:
        let_posterize_keep_no_bits(step)
    return transform


def eval_transform(preprocessing: CenterCrop) -> ImageTransform:
    """Resize the short side (bicubic), cut the middle out, normalise.

    Args:
        preprocessing: The sizes, mean and standard deviation.

    Raises:
        ZigguratError: If the crop is larger than the resized image.
    """
    if not 0 < preprocessing.crop <= preprocessing.resize:
        raise ZigguratError(
            f"the crop must lie within the resized image, got crop {preprocessing.crop} and "
            f"resize {preprocessing.resize} pixels"
        )
    transform: ImageTransform = transforms.Compose(
        [
            transforms.Resize(preprocessing.resize, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(preprocessing.crop),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    return transform


def let_posterize_keep_no_bits(step: object) -> None:
    """Replace timm's posterize, whose strongest level newer Pillow versions refuse.

    Args:
        step: One of the transforms, which is changed if it is a policy of timm.
    """
    for operation in operations_of(step):
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize


def operations_of(step: object) -> list[AugmentOp]:
    """List the operations that a policy of timm draws from; none for other transforms.

    Args:
        step: One of the transforms.
    """
    if isinstance(step, RandAugment | AugMixAugment):
        return list(step.ops)
    if isinstance(step, AutoAugment):
        return [operation for policy in step.policy for operation in policy]
    return []


def _posterize(image: Image.Image, bits: int, fillcolor: object, resample: object) -> Image.Image:
    del fillcolor, resample  # timm gives them to every operation
    if bits >= 8:
        return image
    if bits < 1:
        return Image.new(image.mode, image.size)
    return ImageOps.posterize(image, bits)


class MixupCutmix:
    """Mixes each image of a batch with another one, labels with them, by mixup or cutmix.

    One of the two is drawn for a whole batch, each with probability 1/2 where both are on
    (Zhang et al., arXiv:1710.09412; Yun et al., arXiv:1905.04899).

    Args:
        mixup: Alpha of mixup's beta distribution; 0 turns it off.
        cutmix: Alpha of cutmix's beta distribution; 0 turns it off.
        probability: Probability that a batch is mixed.
        num_classes: Number of classes K.
        label_smoothing: Share of a label that is spread over all classes.
        seed: Seed of the run.

    Raises:
        ValueError: If both are off.
    """

    def __init__(
        self,
        *,
        mixup: float,
        cutmix: float,
        probability: float = 1.0,
        num_classes: int,
        label_smoothing: float,
        seed: int,
    ) -> None:
        if min(mixup, cutmix) < 0 or max(mixup, cutmix) == 0:
            raise ValueError(
                f"mixup and cutmix must be >= 0 and one > 0, got mixup={mixup}, cutmix={cutmix}"
            )
        self.seed = seed
        self._mix = Mixup(
            mixup_alpha=mixup,
            cutmix_alpha=cutmix,
            prob=probability,
            label_smoothing=label_smoothing,
            num_classes=num_classes,
        )

    def __call__(self, batch: Batch, step: int) -> Batch:
        """Give soft targets (B, K) and mixed images; `batch` keeps its own.

        Args:
            batch: Images with labels (B,).
            step: Number of the batch among those of all devices in the run; what is drawn depends
                on it and the seed only.

        Raises:
            ZigguratError: If the number of images is odd, so that they make no pairs.
            TypeError: If the targets are no labels.
        """
        if not isinstance(batch.targets, Tensor):
            raise TypeError(f"mixup and cutmix need labels (B,), got {type(batch.targets)}")
        if len(batch.images) % 2:
            raise ZigguratError(
                f"mixup and cutmix mix pairs of images, got a batch of {len(batch.images)}; "
                "choose an even batch size or set both to 0"
            )
        images = batch.images.clone(memory_format=torch.preserve_format)
        with seeded(self.seed, step):
            images, targets = self._mix(images, batch.targets)
        return replace(batch, images=images, targets=targets)
