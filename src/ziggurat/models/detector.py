"""Object detector: backbone, neck and head."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.heads.atss import ATSSHead, ATSSOutput
from ziggurat.heads.cascade_mask_rcnn import CascadeMaskRCNNHead
from ziggurat.heads.detr import DETRHead, DETROutput
from ziggurat.heads.faster_rcnn import FasterRCNNHead, TwoStageOutput
from ziggurat.heads.gfl import GFLHead, GFLOutput
from ziggurat.heads.keypoint_rcnn import KeypointRCNNHead
from ziggurat.heads.mask_rcnn import MaskRCNNHead
from ziggurat.heads.retinanet import RetinaNetHead, RetinaNetOutput
from ziggurat.heads.sparse_rcnn import SparseRCNNHead, SparseRCNNOutput
from ziggurat.keypoints import Skeleton
from ziggurat.necks.fpt import check_images_fit
from ziggurat.ops.nms import HARD, BoxCandidates, Suppression
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections, ImageSize, ModelIdentity, full_sizes

SetHead = DETRHead | SparseRCNNHead
"""Heads that predict a set; their `forward` needs the sizes of the images."""

Head = (
    RetinaNetHead
    | ATSSHead
    | GFLHead
    | FasterRCNNHead
    | MaskRCNNHead
    | KeypointRCNNHead
    | CascadeMaskRCNNHead
    | SetHead
)
"""Heads, each with `forward`, `loss` and `decode`."""

MaskHead = MaskRCNNHead | CascadeMaskRCNNHead
"""Heads that draw a mask on any box."""

RawDetections = (
    RetinaNetOutput | ATSSOutput | GFLOutput | TwoStageOutput | DETROutput | SparseRCNNOutput
)
"""What the heads' `forward` returns."""


class Detector(nn.Module):
    """Images to boxes with classes and scores, and masks or keypoints where the head finds them.

    Args:
        backbone: Images to maps.
        neck: Maps to levels of one width.
        head: Levels to raw output, its loss and its decoding.
        pyramid: Gives the neck maps of the strides that it needs, where the backbone does not.
        identity: What builds this model again.
        classes: Name of each class.
        preprocessing: What the model expects of an image.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        head: Head,
        *,
        pyramid: nn.Module,
        identity: ModelIdentity,
        classes: tuple[str, ...],
        preprocessing: FitInside,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.neck = neck
        self.head = head
        self.identity = identity
        self.classes = classes
        self.preprocessing = preprocessing

    @property
    def skeleton(self) -> Skeleton | None:
        """What the keypoints are; None for a detector that finds none.

        It is set as `classes` are; a skeleton of other points than the head finds, or one for a
        head that finds none, is a `ZigguratError`.
        """
        return self.head.skeleton if isinstance(self.head, KeypointRCNNHead) else None

    @skeleton.setter
    def skeleton(self, skeleton: Skeleton) -> None:
        num_keypoints = self.identity.num_keypoints
        if not isinstance(self.head, KeypointRCNNHead) or len(skeleton) != num_keypoints:
            raise ZigguratError(
                f"{self.identity.name} finds {num_keypoints or 'no'} keypoints, got a skeleton of "
                f"{len(skeleton)}; build the model with as many"
            )
        self.head.skeleton = skeleton

    def forward(
        self, images: Float[Tensor, "B 3 H W"], image_sizes: Sequence[ImageSize] | None = None
    ) -> RawDetections:
        """Return the head's raw output.

        Args:
            images: Images as `preprocessing` says: normalised, channels in its order; padded with
                zeros at the right and at the bottom.
            image_sizes: Height and width of each image without its padding; by default no image
                is padded.

        Raises:
            ZigguratError: If an image is larger than the tensor, sizes are missing, or memory.
        """
        height, width = images.shape[2:]
        if image_sizes is None:
            image_sizes = full_sizes(images)
        elif len(image_sizes) != len(images) or any(
            h > height or w > width for h, w in image_sizes
        ):
            raise ZigguratError(
                f"image_sizes must give one (height, width) of at most {height} x {width} for "
                f"each of {len(images)} images, got {list(image_sizes)}"
            )
        check_images_fit(self.neck, images)
        levels = self.neck(self.pyramid(self.backbone(images)))
        if isinstance(self.head, SetHead):
            return self.head(levels, image_sizes)
        return self.head(levels)

    def loss(
        self,
        raw: RawDetections,
        targets: Sequence[Detections],
        image_sizes: Sequence[ImageSize],
    ) -> dict[str, Tensor]:
        """Return named, weighted losses.

        Args:
            raw: What `forward` returned.
            targets: True objects of each image, in pixels of the padded image.
            image_sizes: Height and width of each image without its padding.
        """
        # What its own `forward` returned.
        return self.head.loss(raw, targets, image_sizes)  # type: ignore[arg-type]

    def decode(
        self,
        raw: RawDetections,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize] | None = None,
        suppression: Suppression = HARD,
    ) -> list[Detections]:
        """Return the detections of each image, best first.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; where given, boxes are in pixels of the
                original images.
            suppression: What is done about duplicates; a head that predicts a set refuses any but
                the default.
        """
        if isinstance(self.head, SetHead):
            if suppression != HARD:
                self.require_duplicates()
            return self.head.decode(raw, image_sizes, original_sizes)  # type: ignore[arg-type]
        # What its own `forward` returned.
        return self.head.decode(raw, image_sizes, original_sizes, suppression)  # type: ignore[arg-type]

    def candidates(
        self,
        raw: RawDetections,
        image_sizes: Sequence[ImageSize],
        original_sizes: Sequence[ImageSize],
    ) -> list[BoxCandidates]:
        """Return what may be a detection of each image, duplicates included and without masks.

        Args:
            raw: What `forward` returned.
            image_sizes: Height and width of each image without its padding.
            original_sizes: Sizes before resizing; boxes are in pixels of the original images.
        """
        self.require_duplicates()
        return self.head.candidates(raw, image_sizes, original_sizes)  # type: ignore

    def require_duplicates(self) -> None:
        """Raise if the head predicts a set, in which nothing is there twice.

        Raises:
            ZigguratError: If it does.
        """
        if isinstance(self.head, SetHead):
            raise ZigguratError(
                f"{self.identity.name} predicts a set of objects, in which there are no duplicates "
                "to suppress, no candidates to vote and no more objects to take; leave out "
                "suppression, voting and max_detections"
            )
