"""From trained weights and any image to a prediction that can be looked at and saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image

from ziggurat.checkpoints.native import load_weights
from ziggurat.data.classification import eval_transform
from ziggurat.data.detection import eval_image
from ziggurat.data.loading import collate
from ziggurat.errors import ZigguratError
from ziggurat.inference.fast.optimize import optimize_for_inference
from ziggurat.inference.forward import choose_device, infer
from ziggurat.inference.images import ImageLike, to_image
from ziggurat.types import (
    CenterCrop,
    ClassScores,
    Detections,
    FitInside,
    ImageInfo,
    Preprocessing,
    Result,
    Sample,
)
from ziggurat.visualize.draw import draw_classes, draw_detections
from ziggurat.weights.hub import HUB_PREFIX, pull
from ziggurat.zoo import Model

DEFAULT_SCORE_THRESHOLD = 0.3
"""Objects that a detector is less sure of are left out unless asked for."""

CLASSIFIED_AT_ONCE = 16
"""Images of one forward pass of a classifier; a detector takes them one by one, without padding
to the largest, which would change what it finds."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        image: The image, upright and in RGB.
        result: Objects in pixels of the image, or the probability of each class.
        classes: Name of each label.
    """

    image: Image.Image
    result: Result
    classes: tuple[str, ...]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return (class name, score) of the most probable classes, or of the surest objects.

        Args:
            count: How many, at most.
        """
        if isinstance(self.result, ClassScores):
            best = self.result.top(count)
        else:
            scores, places = self.result.scores.sort(descending=True, stable=True)
            labels = self.result.labels[places[:count]].tolist()
            best = list(zip(labels, scores[:count].tolist(), strict=True))
        return [(self.classes[label], score) for label, score in best]

    def draw(self) -> Image.Image:
        """Return the image with boxes, names and scores on it, or class names below it."""
        if isinstance(self.result, Detections):
            return draw_detections(self.image, self.result, self.classes)
        return draw_classes(self.image, self.result, self.classes)

    def save(self, path: str | Path) -> None:
        """Write the picture of `draw` to a file; its ending chooses the format.

        Args:
            path: Name of the file; its folder must exist.

        Raises:
            ZigguratError: If the format is unknown or the file cannot be written.
        """
        picture = self.draw()
        try:
            if Path(path).suffix.lower() in (".jpg", ".jpeg"):
                # Full colour resolution, else thin coloured lines and letters blur.
                picture.save(path, quality=92, subsampling=0)
            else:
                picture.save(path)
        except (OSError, ValueError) as error:
            raise ZigguratError(
                f"the picture cannot be written to {path}: {error}; choose a name that ends in "
                ".jpg or .png in a folder that exists"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return what `json.dump` writes: the objects, or all classes, the surest first."""
        if isinstance(self.result, ClassScores):
            scores = [
                {"class": self.classes[label], "label": label, "score": score}
                for label, score in self.result.top(len(self.classes))
            ]
            return {"width": self.image.width, "height": self.image.height, "scores": scores}
        order = self.result.scores.argsort(descending=True, stable=True)
        boxes = self.result.boxes[order].tolist()
        labels = self.result.labels[order].tolist()
        objects = [
            {"class": self.classes[label], "label": label, "score": score, "box": box}
            for box, label, score in zip(
                boxes, labels, self.result.scores[order].tolist(), strict=True
            )
        ]
        return {"width": self.image.width, "height": self.image.height, "objects": objects}


class Predictor:
    """Applies a model to images of any kind and size.

    Args:
        model: The model; it is moved to the device and set to eval mode.
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    def __init__(self, model: Model, *, device: str = "auto") -> None:
        self.device = choose_device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each label."""
        return self.model.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model expects of an image."""
        return self.model.preprocessing

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a str is a sequence of str, too
        self, images: ImageLike, *, score_threshold: float | None = None
    ) -> Prediction: ...

    @overload
    def __call__(
        self, images: Sequence[ImageLike], *, score_threshold: float | None = None
    ) -> list[Prediction]: ...

    def __call__(
        self,
        images: ImageLike | Sequence[ImageLike],
        *,
        score_threshold: float | None = None,
    ) -> Prediction | list[Prediction]:
        """Predict one image, or a list of images.

        Args:
            images: A file name, a PIL image, an array (H, W, 3) or (H, W) of uint8, a tensor
                (3, H, W) of uint8 or of 0..1, or a list of those.
            score_threshold: A detector's objects below this score are left out, 0.3 by default.

        An image that cannot be read, and a threshold for a classifier, raise `ZigguratError`.
        """
        threshold = self._threshold(score_threshold)
        if not isinstance(images, (list, tuple)):
            return self._predict([to_image(images)], threshold)[0]  # type: ignore[arg-type]
        pictures = [to_image(image) for image in images]
        step = CLASSIFIED_AT_ONCE if isinstance(self.preprocessing, CenterCrop) else 1
        return [
            prediction
            for start in range(0, len(pictures), step)
            for prediction in self._predict(pictures[start : start + step], threshold)
        ]

    def _threshold(self, score_threshold: float | None) -> float:
        if score_threshold is None:
            return DEFAULT_SCORE_THRESHOLD
        if isinstance(self.preprocessing, CenterCrop):
            raise ZigguratError(
                "score_threshold is for detectors, and this model is a classifier that scores "
                "every class; leave it out"
            )
        if not 0 <= score_threshold <= 1:
            raise ZigguratError(f"score_threshold must lie in 0..1, got {score_threshold}")
        return score_threshold

    def _predict(self, images: Sequence[Image.Image], threshold: float) -> list[Prediction]:
        divisor = self.preprocessing.divisor if isinstance(self.preprocessing, FitInside) else 1
        samples = [
            Sample(
                prepare(image, self.preprocessing),
                None,
                ImageInfo(number, "", (image.height, image.width)),
            )
            for number, image in enumerate(images)
        ]
        results = infer(self.model, collate(samples, divisor), self.device)
        return [
            Prediction(
                image,
                result.above(threshold) if isinstance(result, Detections) else result,
                self.classes,
            )
            for image, result in zip(images, results, strict=True)
        ]


def prepare(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """Return the normalised tensor (3, H, W) of an RGB image, as in evaluation.

    Args:
        image: RGB image.
        preprocessing: What the model expects.
    """
    if isinstance(preprocessing, CenterCrop):
        return eval_transform(preprocessing)(image)
    return eval_image(image, preprocessing)


def load(path: str | Path, *, device: str = "auto", fast: bool = False) -> Predictor:
    """Load trained weights, ready to predict.

    Args:
        path: A .safetensors file of ziggurat, or "hf:USER/NAME" on the Hugging Face hub, or the
            folder of a run, of which the best weights are taken, or the last where none were the
            best yet.
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
        fast: Predict with `optimize_for_inference`, which may compile a kernel at its first use.

    Where there are no weights or they cannot be read, `ZigguratError` is raised.
    """
    predictor = Predictor(load_weights(find_weights(Path(path))), device=device)
    return Predictor(optimize_for_inference(predictor.model), device=device) if fast else predictor


def find_weights(path: Path) -> Path:
    """Return the weight file that a user means by a file, the folder of a run, or a name.

    Args:
        path: File or folder, or "hf:USER/NAME".

    Raises:
        ZigguratError: If it does not exist or is a folder without weights.
    """
    if path.as_posix().startswith(HUB_PREFIX):
        return pull(path.as_posix())
    if path.is_dir():
        for name in ("best.safetensors", "last.safetensors"):
            if (path / name).is_file():
                return path / name
        raise ZigguratError(
            f"the folder {path} holds no trained weights: expected best.safetensors or "
            "last.safetensors, as `ziggurat train` writes them"
        )
    if not path.exists():
        raise ZigguratError(
            f"there are no weights at {path}: give the folder of a run, a .safetensors file, or "
            f"{HUB_PREFIX}USER/NAME"
        )
    return path
