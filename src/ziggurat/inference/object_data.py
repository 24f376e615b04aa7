"""The data that a detector is evaluated on, and the metric that knows what is true of them."""

from pathlib import Path

from ziggurat.checkpoints.class_rows import has_names
from ziggurat.data.coco import CocoDetection
from ziggurat.data.coco_file import Annotations
from ziggurat.data.detection import DetectionTransform
from ziggurat.errors import ZigguratError
from ziggurat.keypoints import Skeleton, plain_skeleton
from ziggurat.metrics.coco import CocoMetric
from ziggurat.metrics.coco_truth import CocoTruth
from ziggurat.models.detector import Detector
from ziggurat.preprocessing import FitInside
from ziggurat.zoo import Model


def open_objects(
    model: Model, preprocessing: FitInside, annotations: Path | Annotations, images: Path
) -> tuple[CocoDetection, CocoMetric]:
    """Open a split for a detector.

    Args:
        model: The detector.
        preprocessing: What it expects of an image.
        annotations: COCO annotation file, or what was read from another format.
        images: Folder of the images.
    """
    classes, task = model.classes, model.identity.task
    transform = DetectionTransform(preprocessing, flip=0.0, scales=None, exact_resize=True)
    # The metric has the true masks and keypoints; no image needs its own with it.
    dataset = CocoDetection(annotations, images, transform, train=False, keep_empty=True)
    metric = CocoMetric(
        annotations.content if isinstance(annotations, Annotations) else annotations,
        category_ids_of(classes, dataset),
        classes if has_names(classes) else dataset.classes,
        with_masks=task == "instance_segmentation",
        with_keypoints=task == "keypoint_detection",
    )
    if isinstance(model, Detector):
        _check_keypoints(model.skeleton, metric.truth)
    return dataset, metric


def named_places(
    root: Path | None, annotations: Path | None, images: Path | None, split: str | None
) -> tuple[Path, Path] | None:
    """Return the annotation file and the image folder that a user names, or None for neither.

    Args:
        root: Folder that both are below; None takes them as they are.
        annotations: COCO annotation file.
        images: Folder that its file names are relative to.
        split: Split that was asked for; a file has none.

    Raises:
        ZigguratError: If only one of the two is named, or a split besides.
    """
    if annotations is None and images is None:
        return None
    if annotations is None or images is None:
        raise ZigguratError(
            "--data.annotations FILE and --data.images DIR belong together, the COCO file and the "
            "folder that its file names are relative to; give both or neither"
        )
    if split is not None:
        raise ZigguratError(
            f"--data.split {split} chooses among the splits of a data set, and --data.annotations "
            "names a file; give one of the two"
        )
    return (root or Path()) / annotations, (root or Path()) / images


def _check_keypoints(skeleton: Skeleton | None, truth: CocoTruth) -> None:
    """Raise unless the data have the points that the model finds.

    Raises:
        ZigguratError: If they have others.
    """
    known = truth.skeleton
    if skeleton is None or known is None or skeleton.names == known.names:
        return
    if len(skeleton) != len(known) or skeleton != plain_skeleton(len(known)):
        raise ZigguratError(
            f"the model finds the keypoints {', '.join(skeleton.names)}, but {truth.name} has "
            f"{', '.join(known.names)}; give data of the same keypoints"
        )


def category_ids_of(classes: tuple[str, ...], dataset: CocoDetection) -> list[int | None]:
    """Return the category id of each class of the model, None where the data have no such name.

    Args:
        classes: Names of the model's classes.
        dataset: The data.

    Raises:
        ZigguratError: If objects of the data are of a class that the model does not know.
    """
    if len(classes) == len(dataset.classes) and (
        not has_names(classes) or classes == dataset.classes
    ):
        return list(dataset.category_ids)
    if not has_names(classes):
        raise ZigguratError(
            f"the model tells {len(classes)} classes apart and has no names for them, but "
            f"{dataset.file.path} has {len(dataset.classes)} categories; give data of the same "
            "classes"
        )
    ids = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    present = sorted({dataset.classes[label] for label in dataset.file.labels.tolist()})
    unknown = [name for name in present if name not in classes]
    if unknown:
        raise ZigguratError(
            f"{dataset.file.path} has objects of {len(unknown)} classes that the model was not "
            f"trained on ({', '.join(unknown[:5])}); its own are {', '.join(classes[:5])}"
            f"{', ...' if len(classes) > 5 else ''}; give data of the same classes"
        )
    return [ids.get(name) for name in classes]
