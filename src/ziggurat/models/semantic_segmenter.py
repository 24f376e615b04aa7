"""Semantic segmenter: backbone, neck and head."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.class_lists import Colour
from ziggurat.errors import ZigguratError
from ziggurat.losses.segmentation import SegmentationLoss
from ziggurat.necks.fpt import check_images_fit
from ziggurat.ops.class_masks import class_masks
from ziggurat.ops.label_maps import label_map
from ziggurat.preprocessing import FitAligned
from ziggurat.types import ClassMasks, ImageSize, LabelMap, ModelIdentity, full_sizes

AUXILIARY_WEIGHT = 0.4
"""Published weight of the loss of an auxiliary head (Zhao et al., arXiv:1612.01105, section 4)."""


class TrainingLogits(NamedTuple):
    """Logits in training, where an auxiliary head helps.

    Attributes:
        main: (B, K, h, w), what is predicted.
        auxiliary: (B, K, h', w') of the auxiliary head.
    """

    main: Tensor
    auxiliary: Tensor


class SemanticSegmenter(nn.Module):
    """Images to the class of every pixel.

    Two classes, background and object, are two classes like any others: their softmax is the
    sigmoid of the difference of two logits. One class alone needs an identity whose classes may
    overlap.

    Attributes:
        palette: Colour of each class as the data have it, which weights carry; None where they have
            none, and pictures take the usual ones.

    Args:
        backbone: Images to maps.
        neck: Maps to levels; the identity where the head reads the backbone's maps.
        head: Levels to logits.
        auxiliary_head: Maps of the backbone to logits that only training needs, or None.
        pyramid: Gives the neck maps of the strides that it needs, where the backbone does not.
        identity: What builds this model again.
        classes: Name of each class.
        preprocessing: What the model expects of an image.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: nn.Module,
        auxiliary_head: nn.Module | None,
        *,
        pyramid: nn.Module,
        identity: ModelIdentity,
        classes: tuple[str, ...],
        preprocessing: FitAligned,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.neck = neck
        self.head = head
        self.auxiliary_head = auxiliary_head
        self.identity = identity
        self.classes = classes
        self.palette: tuple[Colour, ...] | None = None
        self.preprocessing = preprocessing
        self._training_loss = SegmentationLoss()

    @property
    def training_loss(self) -> SegmentationLoss:
        """What `loss` computes; a training run sets it, and weights do not carry it.

        One that weighs an auxiliary head, or changes the cross entropy of that head alone, is
        refused by a model without.
        """
        return self._training_loss

    @training_loss.setter
    def training_loss(self, loss: SegmentationLoss) -> None:
        if loss.auxiliary is not None and self.auxiliary_head is None:
            raise ZigguratError(
                f"loss.auxiliary = {loss.auxiliary:g} is the weight of an auxiliary head, and "
                f"{self.identity.name} has none; give it one with `--model.auxiliary_head true`, "
                "in Python with `create_model(..., auxiliary_head=True)`, or leave loss.auxiliary "
                "out"
            )
        if self.auxiliary_head is None:
            loss.require_entropy(of=self.identity.name)
        self._training_loss = loss

    @property
    def overlapping(self) -> bool:
        """Whether classes may overlap, each pixel being asked for each class by itself."""
        return self.identity.overlapping

    def forward(
        self, images: Float[Tensor, "B 3 H W"], image_sizes: Sequence[ImageSize] | None = None
    ) -> Float[Tensor, "B K h w"] | TrainingLogits:
        """Return logits at the head's own resolution; in training with those of the auxiliary head.

        Args:
            images: Images as `preprocessing` says: normalised, channels in its order; padded with
                zeros at the right and at the bottom.
            image_sizes: Height and width of each image without its padding; by default no image
                is padded.

        Raises:
            ZigguratError: If an image is larger than the tensor, sizes are missing, or memory.
        """
        height, width = images.shape[2:]
        sizes = full_sizes(images) if image_sizes is None else list(image_sizes)
        if len(sizes) != len(images) or any(h > height or w > width for h, w in sizes):
            raise ZigguratError(
                f"image_sizes must give one (height, width) of at most {height} x {width} for "
                f"each of {len(images)} images, got {sizes}"
            )
        check_images_fit(self.neck, images)
        maps = self.pyramid(self.backbone(images))
        logits: Tensor = self.head(self.neck(maps))
        if self.training and self.auxiliary_head is not None and self.training_loss.auxiliary != 0:
            return TrainingLogits(logits, self.auxiliary_head(maps))
        return logits

    def loss(
        self,
        raw: Float[Tensor, "B K h w"] | TrainingLogits,
        targets: Sequence[LabelMap] | Sequence[ClassMasks],
        image_sizes: Sequence[ImageSize] | None = None,
        padded_size: ImageSize | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses by name, and the cross entropy of the auxiliary head, weighted.

        Padding counts as ignored pixels.

        Args:
            raw: What `forward` returned.
            targets: Class of each pixel of each image, 255 where it does not count; or masks of
                the classes, where these may overlap.
            image_sizes: Height and width of each image without its padding, as every model takes
                them; the targets say the same.
            padded_size: Height and width of the batch; by default those of its largest image.
        """
        del image_sizes
        options = self.training_loss
        overlapping = self.overlapping
        main, auxiliary = raw if isinstance(raw, TrainingLogits) else (raw, None)
        losses = options(main, targets, overlapping=overlapping, padded_size=padded_size)
        if auxiliary is None:
            return losses
        weight = AUXILIARY_WEIGHT if options.auxiliary is None else options.auxiliary
        helping = options.of_pixels(weight)
        helped = helping(auxiliary, targets, overlapping=overlapping, padded_size=padded_size)
        return losses | {"auxiliary": helped["pixels"]}

    def decode(
        self,
        raw: Float[Tensor, "B K h w"],
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
        padded_size: ImageSize | None = None,
    ) -> list[LabelMap] | list[ClassMasks]:
        """Return the class of every pixel of each image; where classes may overlap, a mask of each.

        Logits are resized to the input and, where given, from there to the original image, as in
        the published evaluations; one resize would give other values. A mask is where the
        probability of its class is at least one half.

        Args:
            raw: Logits of `forward`, of a model that is not training.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, results have these.
            padded_size: Height and width of the batch; by default those of its largest image.
        """
        padded = _largest(image_sizes) if padded_size is None else padded_size
        originals = image_sizes if original_sizes is None else original_sizes
        images = list(zip(raw, image_sizes, originals, strict=True))
        if self.overlapping:
            return [class_masks(logits, padded, image, whole) for logits, image, whole in images]
        return [label_map(logits, padded, image, whole) for logits, image, whole in images]


def _largest(sizes: Sequence[ImageSize]) -> ImageSize:
    """Return the height and width that images of these sizes are padded to."""
    return max(h for h, _ in sizes), max(w for _, w in sizes)
