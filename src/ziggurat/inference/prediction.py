"""What a model says of one image, to look at, to save, and for other libraries."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ziggurat.class_lists import Colour
from ziggurat.errors import ZigguratError
from ziggurat.ops.label_counts import count_labels
from ziggurat.types import ClassMasks, ClassScores, Detections, LabelMap, Result
from ziggurat.visualize.draw import draw_classes, draw_detections
from ziggurat.visualize.label_overlay import draw_labels
from ziggurat.visualize.palettes import class_colours
from ziggurat.visualize.visible_labels import visible_labels

if TYPE_CHECKING:
    import supervision

MAX_JPEG_SIDE = 65500
"""Longest side of a JPEG file, in pixels, that its library writes."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        image: The image, upright and in RGB.
        result: Objects in pixels of the image, the class of every pixel, or the probability of each
            class.
        classes: Name of each label.
        palette: Colour of each label in a segmenter's pictures; None takes the usual ones.
    """

    image: Image.Image
    result: Result
    classes: tuple[str, ...]
    palette: tuple[Colour, ...] | None = None

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return (class name, score) of the most probable classes, or of the surest objects.

        Of a label map it is the classes of the largest areas with their share of the pixels.

        Args:
            count: How many, at most.
        """
        if isinstance(self.result, ClassScores):
            best = self.result.top(count)
        elif isinstance(self.result, LabelMap | ClassMasks):
            best = self._areas()[:count]
        else:
            scores, places = self.result.scores.sort(descending=True, stable=True)
            labels = self.result.labels[places[:count]].tolist()
            best = list(zip(labels, scores[:count].tolist(), strict=True))
        return [(self.classes[label], score) for label, score in best]

    @property
    def colours(self) -> UInt8[np.ndarray, "K 3"]:
        """Red, green and blue of each label in a segmenter's pictures."""
        if self.palette is None:
            return class_colours(self.classes)
        return np.array(self.palette, dtype=np.uint8)

    def draw(self, *, legend_rows: int | None = None) -> Image.Image:
        """Return the image with what was found: boxes and masks, colours, or names below it.

        Args:
            legend_rows: Rows of class names below a segmenter's picture, so that pictures of one
                size stay so, as a video needs; the largest areas come first. By default as many as
                there are names.
        """
        if isinstance(self.result, Detections):
            return draw_detections(self.image, self.result, self.classes)
        if isinstance(self.result, LabelMap | ClassMasks):
            labels = visible_labels(self.result)
            return draw_labels(
                self.image, labels, self.classes, self.colours, legend_rows=legend_rows
            )
        return draw_classes(self.image, self.result, self.classes)

    def save(self, path: str | Path) -> None:
        """Write the picture of `draw` to a file; its ending chooses the format.

        A JPEG is made smaller where a side is longer than `MAX_JPEG_SIDE`.

        Args:
            path: Name of the file; its folder must exist.

        Raises:
            ZigguratError: If the format is unknown or the file cannot be written.
        """
        picture = self.draw()
        try:
            if Path(path).suffix.lower() in (".jpg", ".jpeg"):
                picture.thumbnail((MAX_JPEG_SIDE, MAX_JPEG_SIDE))
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
        """Return what `json.dump` writes: the objects, or all classes, the surest first.

        Masks are left out; `ziggurat predict --format coco` writes them. Of a label map it is the
        area of each class that occurs, in pixels and as a share, the largest first.
        """
        if isinstance(self.result, LabelMap | ClassMasks):
            total = self.image.width * self.image.height
            areas = [
                {
                    "class": self.classes[label],
                    "label": label,
                    "pixels": round(share * total),
                    "share": share,
                }
                for label, share in self._areas()
            ]
            return {"width": self.image.width, "height": self.image.height, "areas": areas}
        if isinstance(self.result, ClassScores):
            scores = [
                {"class": self.classes[label], "label": label, "score": score}
                for label, score in self.result.top(len(self.classes))
            ]
            return {"width": self.image.width, "height": self.image.height, "scores": scores}
        found = self.result.select(self.result.scores.argsort(descending=True, stable=True))
        objects = [
            {"class": self.classes[label], "label": label, "score": score, "box": box}
            for box, label, score in zip(
                found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
            )
        ]
        if found.keypoints is not None:
            names = found.keypoints.skeleton.names
            for entry, points in zip(objects, found.keypoints.points.tolist(), strict=True):
                entry["keypoints"] = [
                    {"name": name, "x": x, "y": y, "score": score}
                    for name, (x, y, score) in zip(names, points, strict=True)
                ]
        return {"width": self.image.width, "height": self.image.height, "objects": objects}

    def _areas(self) -> list[tuple[int, float]]:
        """Label and share of the pixels of each class that occurs, the largest first."""
        if isinstance(self.result, ClassMasks):
            counts = self.result.masks.flatten(1).sum(dim=1).numpy()
        else:
            assert isinstance(self.result, LabelMap)
            counts = count_labels(visible_labels(self.result), len(self.classes))
        total = self.image.width * self.image.height
        order = np.argsort(-counts, kind="stable")
        return [(int(label), float(counts[label] / total)) for label in order if counts[label]]

    def to_supervision(self) -> "supervision.Detections":
        """Return the objects as `supervision.Detections`, for its trackers, zones and annotators.

        Masks become full-size there: N x height x width bytes. Keypoints have a type of their own
        there, which `to_supervision_keypoints` gives.

        Raises:
            ZigguratError: If the library is not installed, or the model is no detector.
        """
        if not isinstance(self.result, Detections):
            raise ZigguratError(
                "supervision.Detections hold objects, and this prediction has none; use top() or "
                "to_dict()"
            )
        supervision = _import_supervision()
        labels = self.result.labels.numpy()
        masks = self.result.masks
        return supervision.Detections(
            xyxy=self.result.boxes.numpy(),
            confidence=self.result.scores.numpy(),
            class_id=labels,
            mask=None if masks is None else masks.full().numpy(),
            data={"class_name": np.array([self.classes[label] for label in labels], dtype=str)},
        )

    def to_supervision_keypoints(self) -> "supervision.KeyPoints":
        """Return the keypoints of the objects as `supervision.KeyPoints`, for its annotators.

        Raises:
            ZigguratError: If the library is not installed, or the model finds no keypoints.
        """
        if not isinstance(self.result, Detections) or self.result.keypoints is None:
            raise ZigguratError(
                "supervision.KeyPoints hold keypoints, and this prediction has none; predict with "
                "a model for keypoint_detection"
            )
        supervision = _import_supervision()
        labels = self.result.labels.numpy()
        points = self.result.keypoints.points.numpy()
        # The third has had two names.
        return supervision.KeyPoints(
            points[..., :2],
            labels,
            points[..., 2],
            data={"class_name": np.array([self.classes[label] for label in labels], dtype=str)},
        )


def _import_supervision() -> Any:  # noqa: ANN401  a module
    try:
        import supervision
    except ImportError as error:
        raise ZigguratError(
            f"to_supervision needs supervision, which cannot be imported ({error}); install it "
            "with `pip install supervision`"
        ) from error
    return supervision
