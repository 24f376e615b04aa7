"""Objects in the files of annotation programs and benchmarks: YOLO, LabelMe, Cityscapes."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ziggurat.inference.cityscapes_files import CityscapesFileWriter
from ziggurat.inference.outlines import largest, polygons_of
from ziggurat.inference.output import write_bytes, write_json
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.source import Source, objects_of
from ziggurat.keypoints import Skeleton


class YoloWriter:
    """YOLO labels: a text file for each image, a line for each object, sizes as fractions.

    Keypoints stand behind the box; all of them are given as seen.

    Args:
        output: Folder to write to.
        classes: Name of each label.
    """

    def __init__(self, output: Path, classes: Sequence[str]) -> None:
        self.output = output
        self.classes = classes
        self.skeleton: Skeleton | None = None

    def add(self, prediction: Prediction, source: Source) -> None:
        """Write the label file of one image; an empty one where nothing was found."""
        found = objects_of(prediction)
        sides = np.array(prediction.image.size, dtype=np.float64)
        boxes = found.boxes.double().numpy().reshape(-1, 2, 2).clip(0, sides)
        polygons = polygons_of(found)
        lines = []
        for number, label in enumerate(found.labels.tolist()):
            if found.masks is None:
                low, high = boxes[number] / sides
                values = np.concatenate([(low + high) / 2, high - low])
            else:
                values = (largest(polygons[number], boxes[number]) / sides).ravel()
            if found.keypoints is not None:
                self.skeleton = found.keypoints.skeleton
                places = found.keypoints.points[number, :, :2].double().numpy().clip(0, sides)
                seen = np.full((len(places), 1), 2.0)
                values = np.concatenate([values, np.hstack([places / sides, seen]).ravel()])
            lines.append(" ".join([str(label), *(f"{value:.6f}" for value in values)]) + "\n")
        write_bytes(self.output / "labels" / f"{source.stem}.txt", "".join(lines).encode())

    def close(self) -> Path:
        """Write data.yaml with the names of the classes."""
        content: dict[str, object] = {"names": dict(enumerate(self.classes))}
        if self.skeleton is not None:
            content |= {
                "kpt_shape": [len(self.skeleton), 3],
                "flip_idx": self.skeleton.mirrored,
                "kpt_names": {0: list(self.skeleton.names)},
            }
        names = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
        write_bytes(self.output / "data.yaml", names.encode("utf-8"))
        return self.output / "labels"


class LabelMeWriter:
    """One JSON file for each image, as the annotation tool LabelMe opens it.

    Args:
        output: Folder to write to.
    """

    def __init__(self, output: Path) -> None:
        self.output = output

    def add(self, prediction: Prediction, source: Source) -> None:
        """Write the file of one image."""
        found = objects_of(prediction)
        shapes = []
        for number, (label, score, box, parts) in enumerate(
            zip(
                found.labels.tolist(),
                found.scores.tolist(),
                found.boxes.tolist(),
                polygons_of(found),
                strict=True,
            )
        ):
            outlines = [part.tolist() for part in parts] or [[box[:2], box[2:]]]
            kind, name = "polygon" if parts else "rectangle", prediction.classes[label]
            places: list[tuple[str, list[float]]] = []
            if found.keypoints is not None:
                points = found.keypoints.points[number].tolist()
                places = list(zip(found.keypoints.skeleton.names, points, strict=True))
            # The parts of one object share a number.
            group = number if len(outlines) + len(places) > 1 else None
            shapes += [_shape(name, kind, outline, group, score) for outline in outlines]
            shapes += [_shape(point, "point", [[x, y]], group, s) for point, (x, y, s) in places]
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": _relative(source.path, self.output),
            "imageData": None,
            "imageHeight": prediction.image.height,
            "imageWidth": prediction.image.width,
        }
        write_json(self.output / f"{source.stem}.json", content)

    def close(self) -> Path:
        """Return the folder; every file is written already."""
        return self.output


def _shape(
    label: str, kind: str, points: list[list[float]], group: int | None, score: float
) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
        "score": score,
    }


class CityscapesWriter:
    """What the server of the Cityscapes benchmark takes of instance segmentation.

    Args:
        output: Folder to write to.
        classes: Name of each label.
    """

    def __init__(self, output: Path, classes: Sequence[str]) -> None:
        self.writer = CityscapesFileWriter(output / "cityscapes", classes)

    def add(self, prediction: Prediction, source: Source) -> None:
        """Write the files of one image."""
        self.writer.write(source.stem, objects_of(prediction))

    def close(self) -> Path:
        """Return the folder; every file is written already."""
        return self.writer.folder


def _relative(file: Path, folder: Path) -> str:
    """Path of a file as seen from a folder, with forward slashes."""
    try:
        return Path(os.path.relpath(file.resolve(), folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return file.resolve().as_posix()
