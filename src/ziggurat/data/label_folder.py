"""Images with the class of every pixel: an image and its labels always together."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image
from torch import Tensor

from ziggurat.data.decode import ImageDecodeError, decode_image
from ziggurat.data.findings import Layout
from ziggurat.data.items import KeyedDataset
from ziggurat.data.label_files import Labels, read_labels, unequal_sizes
from ziggurat.data.label_rules import CLASS_FILE, LabelRule, read_rule
from ziggurat.data.segmentation_layouts import open_labels
from ziggurat.data.tables import PairTable
from ziggurat.types import BadFile, ImageInfo, LabelMap, Sample

__all__ = ["CLASS_FILE", "LabelFolder", "LabelRule", "Labels", "read_labels", "read_rule"]


class LabelFolder(KeyedDataset):
    """Images with the class of every pixel, in any layout of `SEGMENTATION`.

    Args:
        root: Folder of the data set.
        split: Name of the split: "train", "val" or any other.
        transform: Makes a normalised tensor and a label map of an image and its labels.
        train: Whether another image takes the place of one that cannot be decoded.
        seed: Seed of the random transforms.
        layout: How the data set is laid out; recognised where it is not given.

    Attributes:
        pairs: Image and label file of each image.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        transform: Callable[[Image.Image, Labels], tuple[Tensor, LabelMap]],
        *,
        train: bool,
        seed: int = 0,
        layout: Layout | None = None,
    ) -> None:
        files = open_labels(root, split, layout)
        self.layout = files.layout
        self.rule = files.rule
        self.classes = files.rule.classes
        self.pairs = PairTable(files.pairs)
        self.transform = transform
        self.train = train
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pairs)

    def _load(self, index: int, skipped: tuple[BadFile, ...]) -> Sample:
        image_path, label_path = self.pairs[index]
        image = decode_image(image_path)
        labels = read_labels(label_path, self.rule)
        size = (image.height, image.width)
        if labels.shape != size:
            raise ImageDecodeError(str(label_path), unequal_sizes(labels.shape, size))
        tensor, target = self.transform(image, labels)
        return Sample(tensor, target, ImageInfo(index, str(image_path), size), skipped)
