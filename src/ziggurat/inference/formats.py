"""Predictions as files: COCO results, CSV, the labels of YOLO and of LabelMe, label maps.

| format | files | boxes | masks | keypoints | scores |
|---|---|---|---|---|---|
| coco | predictions.json | exact | exact, as run lengths | exact, with scores | yes |
| csv | predictions.csv | exact | no | exact, with scores | yes |
| yolo | labels/<image>.txt, data.yaml | exact | one polygon, no holes | exact | has none |
| labelme | <image>.json | exact | polygons, no holes | exact | of objects |
| cityscapes | cityscapes/<image>.txt, a PNG a mask | no | exact | no | yes |
| labels | labels/<image>.png | no | of classes | no | no |
| masks | masks/<class>/<image>.png | no | of classes that overlap | no | no |

Polygons are simplified by up to a pixel, so that a person can edit them. A classifier's scores go
to coco and csv. The values of a segmenter's label map are the classes; where classes overlap, each
has a mask of 0 and 255. Areas go to areas.json ("json") and csv.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

from PIL import Image

from ziggurat.data.class_masks import IGNORED_FOLDER
from ziggurat.data.label_folder import CLASS_FILE
from ziggurat.errors import ZigguratError
from ziggurat.inference.annotation_files import CityscapesWriter, LabelMeWriter, YoloWriter
from ziggurat.inference.label_files import LabelFileWriter
from ziggurat.inference.output import write_bytes, write_json
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.source import Source, objects_of
from ziggurat.metrics.coco import to_coco_json
from ziggurat.types import ClassMasks, ClassScores, DetectorTask, LabelMap, ModelIdentity, Task


@runtime_checkable
class ResultWriter(Protocol):
    """Is given one prediction after the other."""

    def add(self, prediction: Prediction, source: Source) -> None:
        """Write or keep what was predicted of one image."""

    def close(self) -> Path:
        """Write what is kept and return the file or folder that holds the results."""


class CocoWriter:
    """COCO's result format, with the names of file and class added to every entry.

    Weights know names of classes but no ids of a data set: `image_id` counts the images and
    `category_id` the model's classes, both from 1, and an evaluation goes by the names.

    Args:
        output: Folder to write to.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.entries: list[dict[str, Any]] = []

    def add(self, prediction: Prediction, source: Source) -> None:
        """Keep the objects, or the scores of all classes, of one image."""
        place = _place(source)
        if isinstance(prediction.result, ClassScores):
            entry = {"image_id": source.image_id, **place, **prediction.to_dict()}
            self.entries.append(entry)
            return
        found = objects_of(prediction)
        classes = prediction.classes
        ids = range(1, len(classes) + 1)
        self.entries += [
            {**entry, **place, "category": classes[entry["category_id"] - 1]}
            for entry in to_coco_json(found, source.image_id, ids)
        ]

    def close(self) -> Path:
        """Write predictions.json."""
        return write_json(self.output / "predictions.json", self.entries)


class CsvWriter:
    """A table with a row for every object, every class of a classifier, or every area of a class.

    Args:
        output: Folder to write to.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.header: tuple[str, ...] = ()
        self.rows: list[tuple[object, ...]] = []

    def add(self, prediction: Prediction, source: Source) -> None:
        """Keep the rows of one image."""
        place = (str(source.path), source.frame, source.time)
        result = prediction.result
        self.header = ("file_name", "frame", "time", "class", "label", "score")
        if isinstance(result, LabelMap | ClassMasks):
            self.header = (*self.header[:-1], "pixels", "share")
            areas = prediction.to_dict()["areas"]
            self.rows += [(*place, *(area[key] for key in self.header[3:])) for area in areas]
            return
        if isinstance(result, ClassScores):
            best = result.top(len(prediction.classes))
            self.rows += [(*place, prediction.classes[label], label, s) for label, s in best]
            return
        result = objects_of(prediction)
        self.header += ("x1", "y1", "x2", "y2")
        points: list[list[float]] = [[] for _ in range(len(result))]
        if result.keypoints is not None:
            names = result.keypoints.skeleton.names
            self.header += tuple(f"{name} {part}" for name in names for part in ("x", "y", "score"))
            points = result.keypoints.points.flatten(1).tolist()
        self.rows += [
            (*place, prediction.classes[label], label, score, *box, *numbers)
            for label, score, box, numbers in zip(
                result.labels.tolist(),
                result.scores.tolist(),
                result.boxes.tolist(),
                points,
                strict=True,
            )
        ]

    def close(self) -> Path:
        """Write predictions.csv, with an escape for what is no UTF-8 in the name of a file."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(self.header)
        writer.writerows(self.rows)
        content = text.getvalue().encode("utf-8", errors="backslashreplace")
        return write_bytes(self.output / "predictions.csv", content)


class LabelPngWriter:
    """Label maps as PNG files: each value is a class, and shows in its colour.

    Args:
        output: Folder to write to.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / "labels"
        self.writer: LabelFileWriter | None = None

    def add(self, prediction: Prediction, source: Source) -> None:
        """Write the file of one image."""
        assert isinstance(prediction.result, LabelMap)
        if self.writer is None:
            self.writer = LabelFileWriter(self.folder, prediction.classes, prediction.colours)
        video = None if source.frame is None else source.stem
        self.writer.write(_png_of(source), prediction.result, video=video)

    def close(self) -> Path:
        """Return the folder; every file is written already, none for a video without frames."""
        return self.folder


class MaskPngWriter:
    """A mask for each class as PNG files, as data sets of classes that overlap have them.

    A class that an image has not has no file for it, not even one of before.

    Args:
        output: Folder to write to.
        classes: Name of each class, which is that of its folder.

    Raises:
        ZigguratError: If a folder cannot be called so.
    """

    def __init__(self, output: Path, classes: Sequence[str]) -> None:
        taken = {"", ".", "..", IGNORED_FOLDER, CLASS_FILE}
        unfit = []
        for name in classes:
            if name.casefold() in taken or {*name} & {"/", "\\"}:
                unfit.append(name)
            taken.add(name.casefold())
        if unfit:
            raise ZigguratError(
                "--format masks makes a folder for each class, and none, or no second one, can be "
                f"called {unfit[0]!r}; choose csv or json"
            )
        self.folder = output / "masks"
        self.classes = classes

    def add(self, prediction: Prediction, source: Source) -> None:
        """Write the files of one image."""
        assert isinstance(prediction.result, ClassMasks)
        for name, mask in zip(prediction.classes, prediction.result.masks.cpu(), strict=True):
            file = self.folder / name / _png_of(source)
            if mask.any():
                content = io.BytesIO()
                Image.fromarray(mask.numpy()).save(content, "PNG")
                write_bytes(file, content.getvalue())
            else:
                file.unlink(missing_ok=True)

    def close(self) -> Path:
        """Write classes.json, the order of the classes, and return the folder."""
        write_json(self.folder / CLASS_FILE, {"classes": list(self.classes)})
        return self.folder


class AreaWriter:
    """The area of each class in each image.

    Args:
        output: Folder to write to.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.entries: list[dict[str, Any]] = []

    def add(self, prediction: Prediction, source: Source) -> None:
        """Keep the areas of one image."""
        self.entries.append({**_place(source), **prediction.to_dict()})

    def close(self) -> Path:
        """Write areas.json."""
        return write_json(self.output / "areas.json", self.entries)


@dataclass(frozen=True)
class Format:
    """What a format can hold.

    Attributes:
        new: Makes a writer for a folder and the names of the classes.
        tasks: Tasks of the models whose predictions it holds.
        has_frames: Whether it can say which frame of a video is meant.
        overlapping: Whether a pixel can be, or cannot be, of several classes; None for either.
    """

    new: Callable[[Path, Sequence[str]], ResultWriter]
    tasks: tuple[Task, ...]
    has_frames: bool = True
    overlapping: bool | None = None

    def holds(self, model: ModelIdentity) -> bool:
        """Tell whether it holds what a model predicts.

        Args:
            model: The model.
        """
        return model.task in self.tasks and self.overlapping in (None, model.overlapping)


_DETECTORS: tuple[Task, ...] = get_args(DetectorTask)
FORMATS: dict[str, Format] = {
    "labels": Format(
        lambda output, _: LabelPngWriter(output), ("semantic_segmentation",), overlapping=False
    ),
    "masks": Format(MaskPngWriter, ("semantic_segmentation",), overlapping=True),
    "coco": Format(lambda output, _: CocoWriter(output), ("classification", *_DETECTORS)),
    "csv": Format(
        lambda output, _: CsvWriter(output),
        ("classification", *_DETECTORS, "semantic_segmentation"),
    ),
    "yolo": Format(YoloWriter, _DETECTORS, has_frames=False),
    "labelme": Format(lambda output, _: LabelMeWriter(output), _DETECTORS, has_frames=False),
    "cityscapes": Format(CityscapesWriter, ("instance_segmentation",), has_frames=False),
    "json": Format(lambda output, _: AreaWriter(output), ("semantic_segmentation",)),
}


def choose_format(wanted: str | None, model: ModelIdentity, video: Path | None) -> Format:
    """Return the format for the predictions of a model.

    Args:
        wanted: Its name; None takes the first that holds what the model predicts.
        model: The model.
        video: A video whose frames have to be told apart, or None where there is none.

    Raises:
        ZigguratError: If the format cannot hold the predictions.
    """
    fitting = [
        name
        for name, found in FORMATS.items()
        if found.holds(model) and (video is None or found.has_frames)
    ]
    name = wanted or fitting[0]
    if not FORMATS[name].holds(model):
        overlap = " of classes that overlap" if model.overlapping else ""
        raise ZigguratError(
            f"--format {name} cannot hold what a model for {model.task}{overlap} predicts; choose "
            f"one of {', '.join(fitting)}"
        )
    if name not in fitting:
        raise ZigguratError(
            f"--format {name} describes image files and {video} is a video; choose one of "
            f"{', '.join(fitting)}"
        )
    return FORMATS[name]


def _png_of(source: Source) -> str:
    """Name of a file for an image, or for the frame of a video, which has a folder."""
    return f"{source.stem}.png" if source.frame is None else f"{source.stem}/{source.frame:06d}.png"


def _place(source: Source) -> dict[str, Any]:
    place: dict[str, Any] = {"file_name": str(source.path)}
    if source.frame is not None:
        place |= {"frame": source.frame, "time": source.time}
    return place
