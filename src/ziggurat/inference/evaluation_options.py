"""What an evaluation can be asked for besides its numbers, and which models have it."""

from dataclasses import dataclass
from pathlib import Path

from ziggurat.data.findings import Layout
from ziggurat.data.items import KeyedDataset
from ziggurat.data.labelled_images import LabelledImages
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.images import ImageLike
from ziggurat.inference.predictor import Predictor
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles
from ziggurat.models.detector import Detector
from ziggurat.ops.nms import HARD, Suppression
from ziggurat.types import Batch, Result
from ziggurat.zoo import Model


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation can be asked for besides its numbers.

    Attributes:
        tiles: How a detector or segmenter has images cut, a segmenter also after they are resized;
            None shows them whole.
        augmentation: Views of an image, or of each tile; None is the image as it is.
        suppression: What a detector does about duplicates; None does as published.
        save_to: Folder for the label maps that a segmenter predicts, or None.
        layout: How label maps are laid out; None takes that of the run, or recognises it.
        places: COCO annotation file and folder of its images, in place of a split of a data set.
    """

    tiles: Tiles | SlidingWindows | None = None
    augmentation: Augmentation | None = None
    suppression: Suppression | None = None
    save_to: str | Path | None = None
    layout: Layout | None = None
    places: tuple[str | Path, str | Path] | None = None

    @property
    def has_views(self) -> bool:
        """Whether the model sees other than whole images as they are."""
        return self.tiles is not None or self.augmentation is not None

    def check(self, model: Model) -> None:
        """Raise if something is asked of a model that does not do it.

        Args:
            model: The model.

        Raises:
            ZigguratError: If it is.
        """
        identity = model.identity
        makes_labels = identity.task == "semantic_segmentation" and not identity.overlapping
        if self.suppression is not None:
            if not isinstance(model, Detector):
                raise ZigguratError(
                    f"suppression and voting are for boxes, and {identity.name} finds none; leave "
                    "them out"
                )
            model.require_duplicates()
        if self.places is not None and not isinstance(model, Detector):
            raise ZigguratError(
                "--data.annotations and --data.images name the objects of a detector, and "
                f"{identity.name} is none; give the folder of its data with --data.root"
            )
        if (self.save_to is not None or self.layout is not None) and not makes_labels:
            raise ZigguratError(
                "layouts and files of label maps are for the evaluation of models that give each "
                f"pixel one class, and {identity.name} does not; leave them out"
            )
        if self.tiles is not None and identity.task == "classification":
            raise ZigguratError(
                "tiles are for the evaluation of detectors and segmenters, and "
                f"{identity.name} is neither; leave them out"
            )
        if isinstance(self.tiles, SlidingWindows) and identity.task != "semantic_segmentation":
            raise ZigguratError(
                f"sliding windows are for segmenters, and {identity.name} is none; leave them out, "
                "or cut images into tiles"
            )

    def predict(self, predictor: Predictor, batch: Batch, images: KeyedDataset) -> list[Result]:
        """Predict the photos of a batch in tiles and views.

        Args:
            predictor: Predicts.
            batch: Names the photos.
            images: Where they come from.
        """
        # Those of a classifier need be no files of their own.
        photos: list[ImageLike] = [
            images.picture(info.image_id) if isinstance(images, LabelledImages) else Path(info.path)
            for info in batch.infos
        ]
        found = predictor(
            photos,
            # All that is found counts in an average precision.
            score_threshold=0.0 if isinstance(predictor.model, Detector) else None,
            tiles=self.tiles,
            augmentation=self.augmentation,
            suppression=self.suppression,
            batch_size=max(len(photos), 1),
        )
        return [prediction.result for prediction in found]

    @property
    def rule(self) -> Suppression:
        """What is done about duplicates."""
        return HARD if self.suppression is None else self.suppression
