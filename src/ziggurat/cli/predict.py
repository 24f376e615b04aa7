"""`ziggurat predict RUN_OR_WEIGHTS FILES_OR_FOLDERS... -o OUT`: overlays and JSON of any images."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ziggurat.data.decode import ImageDecodeError, is_image_file
from ziggurat.errors import ZigguratError
from ziggurat.inference.output import write_json
from ziggurat.inference.predictor import Prediction, load
from ziggurat.metrics.coco import to_coco_json
from ziggurat.types import Detections


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        "weights",
        type=Path,
        metavar="RUN_OR_WEIGHTS",
        help="folder of a training run, or a .safetensors file",
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="FILES_OR_FOLDERS",
        help="image files, and folders whose image files are taken, those in subfolders too",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="folder for one picture an image and predictions.json: COCO result format with the "
        "names of file and category (category_id counts the model's classes from 1), or the "
        "score of every class",
    )
    parser.add_argument(
        "--score_threshold",
        type=float,
        metavar="S",
        help="leave out a detector's objects below this score, 0.3 by default",
    )
    parser.add_argument(
        "--device", default="auto", help="auto (the default), cpu, cuda, cuda:<number> or mps"
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="optimize the model for inference first; a kernel is compiled once, where possible",
    )


def run(args: argparse.Namespace) -> None:
    """Predict every file, say what was found, and write pictures and JSON.

    Raises:
        ZigguratError: If there is no image, or at least one file is none: all others are done.
    """
    files = find_images(args.sources, args.output)
    predictor = load(args.weights, device=args.device, fast=args.fast)
    pictures = picture_names(files)
    entries: list[dict[str, Any]] = []
    failed: list[Path] = []
    _make_folder(args.output)
    for image_id, (file, picture) in enumerate(zip(files, pictures, strict=True), start=1):
        try:
            prediction = predictor(file, score_threshold=args.score_threshold)
        except ImageDecodeError as error:
            print(error, file=sys.stderr)
            failed.append(file)
            continue
        prediction.save(args.output / picture)
        entries += _to_json(prediction, file, image_id)
        print(f"{file}: {_describe(prediction)} -> {args.output / picture}", flush=True)
    if len(failed) < len(files):  # else what an earlier call wrote stays
        json_file = write_json(args.output / "predictions.json", entries)
        print(f"wrote {json_file}, pictures: {len(files) - len(failed)}")
    if failed:
        raise ZigguratError(
            f"{len(failed)} of {len(files)} files could not be read as images "
            f"({', '.join(str(file) for file in failed[:5])}{', ...' if len(failed) > 5 else ''}); "
            f"{'the others are done' if len(failed) < len(files) else 'nothing was written'}"
        )


def find_images(sources: Sequence[Path], output: Path) -> list[Path]:
    """Return the files that are named, and the image files in the folders that are.

    Args:
        sources: Files and folders; a file is taken whatever its name is.
        output: Folder that pictures go to; what lies in it is never taken from a folder.

    Raises:
        ZigguratError: If a folder has no images, or pictures would lie beside the images.
    """
    target = output.resolve()
    files: dict[Path, None] = {}  # in order, each once
    for source in sources:
        found = [source]
        if source.is_dir():
            found = sorted(
                file
                for file in source.rglob("*")
                if is_image_file(file) and file.is_file() and target not in file.resolve().parents
            )
            if not found:
                raise ZigguratError(
                    f"the folder {source} holds no image file to predict; give files or a folder "
                    "with .jpg, .png or other images that lies outside the output folder"
                )
        files |= dict.fromkeys(found)
    beside = [file for file in files if file.resolve().parent == target]
    if beside:
        raise ZigguratError(
            f"the pictures would be written beside {beside[0]} and could replace images; choose "
            f"another output folder than {output}"
        )
    return list(files)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZigguratError(
            f"the output folder {folder} cannot be made: {error.strerror}; choose another one"
        ) from error


def picture_names(files: Sequence[Path]) -> list[str]:
    """Return a name ending in .jpg for each file, no two alike even where case is ignored.

    Args:
        files: The images.
    """
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = f"{file.stem}.jpg", 1
        while name.lower() in taken:
            number += 1
            name = f"{file.stem}_{number}.jpg"
        taken.add(name.lower())
        names.append(name)
    return names


def _to_json(prediction: Prediction, file: Path, image_id: int) -> list[dict[str, Any]]:
    if not isinstance(prediction.result, Detections):
        return [{"image_id": image_id, "file_name": str(file), **prediction.to_dict()}]
    # The weights know names of classes, but no category ids of a data set.
    ids = range(1, len(prediction.classes) + 1)
    entries = to_coco_json(prediction.result, image_id, ids)
    return [
        {**entry, "file_name": str(file), "category": prediction.classes[entry["category_id"] - 1]}
        for entry in entries
    ]


def _describe(prediction: Prediction) -> str:
    if not isinstance(prediction.result, Detections):
        return ", ".join(f"{name} {100 * score:.1f} %" for name, score in prediction.top(3))
    counts = Counter(prediction.classes[label] for label in prediction.result.labels.tolist())
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"
