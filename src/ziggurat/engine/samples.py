"""What the model finds on a few validation images, drawn for TensorBoard at each validation."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from ziggurat.inference.prediction import Prediction
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.preprocessing import CenterCrop, Preprocessing
from ziggurat.types import Batch, ClassScores, Detections, Result
from ziggurat.zoo import Model

NUM_SAMPLES = 6
MAX_SIDE = 512
"""Pictures are scaled down to this, in pixels: a long run writes hundreds of them."""
SCORE = 0.3
"""Objects below it are not drawn."""


class Samples:
    """The first validation images, the same each time, and what was found on them."""

    def __init__(self) -> None:
        self._images: list[Image.Image] = []
        self._results: list[Result] = []

    def add(self, batch: Batch, results: Sequence[Result], preprocessing: Preprocessing) -> None:
        """Keep what is still wanted of a batch.

        Args:
            batch: Images as the model saw them.
            results: What it found, in pixels of the original images.
            preprocessing: How the images were prepared.
        """
        wanted = NUM_SAMPLES - len(self._images)
        sizes = zip(batch.images, batch.image_sizes, batch.infos, results, strict=True)
        for image, (height, width), info, result in list(sizes)[: max(0, wanted)]:
            picture = Image.fromarray(_pixels(image[:, :height, :width], preprocessing))
            if not isinstance(result, ClassScores):  # it is in pixels of the original
                result = result.to("cpu")
                rows, columns = info.original_size
                picture = picture.resize((columns, rows), Image.Resampling.BILINEAR)
            self._images.append(picture)
            self._results.append(result.above(SCORE) if isinstance(result, Detections) else result)

    def log(self, logger: TensorBoardLogger, model: Model, step: int) -> None:
        """Draw them, and forget them.

        Args:
            logger: Where to.
            model: Says what the labels mean.
            step: Optimizer steps done.
        """
        palette = model.palette if isinstance(model, SemanticSegmenter) else None
        pairs = zip(self._images, self._results, strict=True)
        for number, (image, result) in enumerate(pairs, start=1):
            picture = Prediction(image, result, model.classes, palette).draw()
            picture.thumbnail((MAX_SIDE, MAX_SIDE))
            logger.experiment.add_image(
                f"predictions/{number}", np.asarray(picture), step, dataformats="HWC"
            )
        self._images, self._results = [], []


def _pixels(
    image: Float[Tensor, "3 H W"], preprocessing: Preprocessing
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the picture that an image of a batch was made from."""
    if not isinstance(preprocessing, CenterCrop) and preprocessing.channel_order == "bgr":
        image = image.flip(0)
    mean, std = (torch.tensor(x)[:, None, None] for x in (preprocessing.mean, preprocessing.std))
    pixels = (image.float().cpu() * std + mean).clamp(0, 1) * 255
    return pixels.round().byte().permute(1, 2, 0).numpy()
