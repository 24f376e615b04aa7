"""Image classifier: a backbone and a linear head."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from ziggurat.backbones.gpvit import GPViT
from ziggurat.backbones.p2t import P2T
from ziggurat.backbones.pvt import PVT
from ziggurat.backbones.pvt_v2 import PVTv2
from ziggurat.backbones.topformer import TopFormer
from ziggurat.errors import ZigguratError
from ziggurat.heads.linear import LinearHead
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import ClassScores, ImageSize, ModelIdentity, full_sizes

Trunk = PVT | PVTv2 | P2T | TopFormer | GPViT
"""Backbones that classify: they have `forward_features`, what the head reads."""


class Classifier(nn.Module):
    """Images to class scores.

    Args:
        backbone: Its `forward_features` gives what the head reads.
        head: Makes one vector of that, and logits of the vector.
        identity: What builds this model again.
        classes: Name of each class.
        preprocessing: What the model expects of an image.
    """

    def __init__(
        self,
        backbone: Trunk,
        head: LinearHead,
        *,
        identity: ModelIdentity,
        classes: tuple[str, ...],
        preprocessing: CenterCrop,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.identity = identity
        self.classes = classes
        self.preprocessing = preprocessing

    def forward(
        self, images: Float[Tensor, "B 3 H W"], image_sizes: Sequence[ImageSize] | None = None
    ) -> Float[Tensor, "B K"]:
        """Return logits.

        Args:
            images: Normalised RGB images.
            image_sizes: Valid sizes, which must be those of the tensor.

        Raises:
            ZigguratError: If an image is padded: the average over the map would count padding.
        """
        if image_sizes is not None and list(image_sizes) != full_sizes(images):
            raise ZigguratError(
                f"a classifier needs images without padding, got image_sizes {list(image_sizes)} "
                f"in a batch of {tuple(images.shape[2:])}; crop or resize them to one size"
            )
        logits: Tensor = self.head(self.backbone.forward_features(images))
        return logits

    def loss(
        self,
        raw: Float[Tensor, "B K"],
        targets: Int[Tensor, " B"] | Float[Tensor, "B K"],
        image_sizes: Sequence[ImageSize] | None = None,
    ) -> dict[str, Tensor]:
        """Return the cross entropy of labels, or of distributions over the classes.

        `image_sizes` is there because every model has it; a classifier's say nothing new, since
        `forward` admits whole images only.
        """
        return self.head.loss(raw, targets)

    def decode(
        self,
        raw: Float[Tensor, "B K"],
        image_sizes: Sequence[ImageSize] | None = None,
        original_sizes: Sequence[ImageSize] | None = None,
    ) -> list[ClassScores]:
        """Return the probability of each class for each image; it does not depend on sizes."""
        return self.head.decode(raw)
