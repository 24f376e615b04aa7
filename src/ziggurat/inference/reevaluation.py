"""From a results file to a report, without the model that made it.

The file is in COCO's result format, as `ziggurat evaluate` and many other programs write it. Every
image of the annotations counts, also those without a result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ziggurat.data.coco_file import Annotations, CocoFile, read_coco_file
from ziggurat.data.detection_layouts import find_split
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation_result import Evaluation
from ziggurat.inference.gallery import EvaluatedObjects, image_paths
from ziggurat.inference.rules import Rules
from ziggurat.metrics.cityscapes import cityscapes_report
from ziggurat.metrics.coco import count_errors, count_report
from ziggurat.metrics.coco_counts import FoundObjects, Kind
from ziggurat.metrics.coco_results import count_outside, read_results
from ziggurat.metrics.coco_truth import CocoTruth, read_truth
from ziggurat.metrics.voc import voc_report


def evaluate_results(
    path: str | Path,
    *,
    data_root: str | Path | None,
    split: str | None = None,
    rules: Rules = "coco",
    places: tuple[str | Path, str | Path] | None = None,
) -> Evaluation:
    """Evaluate a results file.

    Args:
        path: JSON list of detections.
        data_root: Folder of the data set, or its annotation file alone: then there are no
            pictures.
        split: Split that the results are of, "val" by default; a file has no splits.
        rules: Whose average precision it is; COCO's comes with a breakdown of mistakes.
        places: COCO annotation file and folder of its images, in place of a data set.

    Raises:
        ZigguratError: If results or data are missing, wrong, or do not belong together.
    """
    if data_root is None and places is None:
        raise ZigguratError(
            f"{path} says nothing of the true objects; give the data set, or its annotation file, "
            "with --data.root, or with --data.annotations and --data.images"
        )
    path = Path(path)
    results = read_results(path)
    with_masks, with_keypoints = (kind in results.kinds for kind in ("masks", "keypoints"))
    root = None if data_root is None else Path(data_root)
    source: Path | Annotations
    folder: Path | None
    if places is not None:
        source, folder = Path(places[0]), Path(places[1])
    elif root is not None and root.is_file():
        if split is not None:
            raise ZigguratError(
                f"{root} is a file and has no splits; leave out --data.split or give the "
                "folder of the data set"
            )
        source, folder = root, None
    else:
        assert root is not None
        source, folder = find_split(
            root, split or "val", with_masks=with_masks, with_keypoints=with_keypoints
        )
    file = read_coco_file(source)  # checks ids and names, which what follows relies on
    content = source.content if isinstance(source, Annotations) else source
    truth = read_truth(content, with_masks=with_masks, with_keypoints=with_keypoints)
    truth = replace(truth, name=str(file.path))
    found = results.objects(truth)
    if rules == "voc":
        if "boxes" not in results.kinds:
            raise ZigguratError(
                f"{path} has no boxes, and Pascal VOC's average precision is one of boxes; "
                "evaluate by the rules of COCO"
            )
        report = voc_report(truth, found, file.category_ids, file.classes)
    elif rules == "cityscapes":
        report = cityscapes_report(truth, found, file.category_ids, file.classes)
    else:
        report = count_report(truth, found, file.category_ids, file.classes, results.kinds)
        errors = count_errors(truth, found, file.category_ids, results.kinds)
        report = replace(report, errors=errors)
    paths = {} if folder is None else image_paths(file, folder)
    return Evaluation(
        report=report,
        weights=path,
        model_name="detections",
        data=f"{file.path}, {len(file.image_ids)} images",
        coco_results=None,
        bad_files=(),
        objects=EvaluatedObjects(truth, found, file.category_ids, file.classes, paths),
        notes=_notes(path, file, truth, found, results.kinds),
    )


def _notes(
    path: Path,
    file: CocoFile,
    truth: CocoTruth,
    found: Mapping[int, FoundObjects],
    kinds: Sequence[Kind],
) -> tuple[str, ...]:
    """Say which boxes cannot be meant so; masks lie in their image, as was checked."""
    if "boxes" not in kinds:
        return ()
    outside = count_outside(truth, found)
    if not outside:
        return file.notes_of_evaluation()
    number = sum(len(objects.rows) for objects in found.values())
    return (
        *file.notes_of_evaluation(),
        f"{path}: {outside} of {number} boxes lie wholly outside their image: expected x, y, "
        "width, height in pixels of the image as it is on disk",
    )
