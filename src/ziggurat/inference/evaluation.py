"""From trained weights and a data set to a report: what `ziggurat evaluate` does.

The data are those the model was trained on, as the run's own `run.yaml` says, or any folder in the
layout of the task. Classes are matched by name, so that ids may differ between data sets.
"""

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ziggurat.checkpoints.class_rows import has_names
from ziggurat.config.files import load_run
from ziggurat.config.tree import DetectorRun, TrainConfig
from ziggurat.data.class_masks import ClassMaskFolder
from ziggurat.data.classification import eval_transform
from ziggurat.data.coco import CocoDetection
from ziggurat.data.coco_file import Annotations
from ziggurat.data.detection_layouts import find_split
from ziggurat.data.findings import Layout
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.labelled_images import LabelledImages, has_class_names, open_images
from ziggurat.data.loading import BadFileLedger, EvaluationLoader
from ziggurat.data.remote_shards import remote_url
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.gallery import EvaluatedObjects, image_paths
from ziggurat.inference.label_evaluation import (
    LabelObserver,
    infer_on_device,
    layout_of_run,
    open_pixels,
)
from ziggurat.inference.label_gallery import EvaluatedLabels
from ziggurat.inference.object_data import open_objects
from ziggurat.inference.predictor import find_weights, load
from ziggurat.inference.rules import Rules, check_rules, report_by
from ziggurat.metrics.base import Metric, Report
from ziggurat.metrics.classification import ClassificationMetric
from ziggurat.metrics.coco import CocoMetric
from ziggurat.metrics.multi_label import MultiLabelMetric
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.preprocessing import CenterCrop, FitInside
from ziggurat.types import BadFile, Batch, Result
from ziggurat.zoo import Model

Progress = Callable[[int, int], None]
"""Is told how many of how many batches are done."""

RUN_FILE = "run.yaml"
MAX_BAD_FILES = 10
"""Files that cannot be decoded before an evaluation stops, where no run says another number."""


@dataclass(frozen=True)
class EvaluationData:
    """A split of a data set, and what measures a model on it.

    Attributes:
        dataset: The images, prepared as the model expects.
        metric: Counts the results.
        divisor: Height and width of a batch are multiples of this.
        name: What the data are, for people.
    """

    dataset: LabelledImages | CocoDetection | LabelFolder | ClassMaskFolder
    metric: ClassificationMetric | CocoMetric | SegmentationMetric | MultiLabelMetric
    divisor: int
    name: str


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_run` found.

    Attributes:
        report: The numbers.
        weights: File of the model.
        model_name: Name of the model.
        data: What it was evaluated on.
        coco_results: All detections in COCO's result format; None for other models.
        bad_files: Images that could not be decoded and are not counted.
        objects: Objects that were found, to be drawn; None for models that find none.
        labels: Label maps, to be drawn; None for models that make none.
        notes: What makes the numbers doubtful, a sentence each.
    """

    report: Report
    weights: Path
    model_name: str
    data: str
    coco_results: list[dict[str, Any]] | None
    bad_files: tuple[BadFile, ...]
    objects: EvaluatedObjects | None = None
    labels: EvaluatedLabels | None = None
    notes: tuple[str, ...] = ()


def evaluate(
    model: Model,
    loader: Iterable[Batch],
    metric: Metric,
    *,
    device: torch.device,
    ledger: BadFileLedger,
    on_progress: Progress | None = None,
) -> Report:
    """Run a model over a data set and count.

    Args:
        model: The model; it is moved to the device and set to eval mode.
        loader: Batches, prepared as the model expects.
        metric: Counts the results; what it holds is forgotten first.
        device: Where to compute.
        ledger: Is told of images that cannot be decoded; they are not counted.
        on_progress: Is told of every batch.
    """
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    return _count(
        loader,
        metric,
        lambda batch: infer_on_device(model, batch, device),
        ledger=ledger,
        on_progress=on_progress,
    )


def _count(
    loader: Iterable[Batch],
    metric: Metric,
    predict: Callable[[Batch], Sequence[Result]],
    *,
    ledger: BadFileLedger,
    on_progress: Progress | None,
    on_results: Callable[[Sequence[Result], Batch], None] | None = None,
) -> Report:
    """Predict every batch and count; `on_results` sees what is counted."""
    total = len(loader) if isinstance(loader, Sized) else 0
    metric.reset()
    for done, batch in enumerate(loader, start=1):
        ledger.add(batch.skipped)
        results = predict(batch)
        metric.update(results, batch)
        if on_results is not None:
            on_results(results, batch)
        if on_progress is not None:
            on_progress(done, total)
    return metric.compute()


def evaluate_run(
    path: Path,
    *,
    data_root: Path | None = None,
    split: str | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    device: str = "auto",
    rules: Rules = "coco",
    options: EvaluationOptions | None = None,
    on_progress: Progress | None = None,
    on_bad_file: Callable[[BadFile], None] | None = None,
) -> Evaluation:
    """Evaluate a run or a weight file.

    Args:
        path: Folder of a run, or a .safetensors file.
        data_root: Folder of the data set; by default that of the run.
        split: Split to evaluate on; by default the run's validation split, or "val".
        batch_size: Images at once; by default as in the run's own validation, else 32 for a
            classifier and 1 for other models.
        workers: Processes that decode; 0 decodes in this one.
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
        rules: Whose average precision a detector's is; COCO's comes with a breakdown of mistakes.
        options: What else is asked for; what the model does not do is an error.
        on_progress: Is told of every batch.
        on_bad_file: Is told of every image that cannot be decoded.

    Raises:
        ZigguratError: If weights or data are missing or do not belong together.
    """
    if batch_size is not None and batch_size < 1:
        raise ZigguratError(f"batch_size must be at least 1, got {batch_size}")
    weights = find_weights(path)
    predictor = load(weights, device=device)
    model = predictor.model
    run = find_run(weights)
    options = options or EvaluationOptions()
    options.check(model)
    data = open_data(model, run, data_root, split, layout=options.layout, places=options.places)
    check_rules(rules, data.metric, model.identity.name)
    if batch_size is None:
        default = 32 if model.identity.task == "classification" else 1
        batch_size = default if run is None else run.data.eval_batch_size
    limit = MAX_BAD_FILES if run is None else run.data.max_bad_files
    ledger = BadFileLedger(
        limit, on_bad_file or _say_nothing, advice="evaluate on data that are whole"
    )
    loader = EvaluationLoader(
        data.dataset, batch_size=batch_size, divisor=data.divisor, workers=workers
    )
    observer = None
    if isinstance(data.metric, SegmentationMetric | MultiLabelMetric) and isinstance(
        data.dataset, LabelFolder | ClassMaskFolder
    ):
        observer = LabelObserver(data.metric, data.dataset, options.save_to)
    report = _count(
        loader,
        data.metric,
        lambda batch: (
            options.predict(predictor, batch, data.dataset)
            if options.has_views
            else infer_on_device(predictor.model, batch, predictor.device, options.rule)
        ),
        ledger=ledger,
        on_progress=on_progress,
        on_results=observer,
    )
    evaluation = Evaluation(
        report=report,
        weights=weights,
        model_name=model.identity.name,
        data=data.name,
        coco_results=None,
        bad_files=tuple(ledger.files.values()),
        labels=None if observer is None else observer.found(),
    )
    return _with_objects(evaluation, data, rules)


def _with_objects(evaluation: Evaluation, data: EvaluationData, rules: Rules) -> Evaluation:
    """Add what only a detector has: mistakes, detections, and objects to be drawn."""
    metric, dataset = data.metric, data.dataset
    if not isinstance(metric, CocoMetric) or not isinstance(dataset, CocoDetection):
        return evaluation
    report = report_by(rules, metric, evaluation.report)
    objects = EvaluatedObjects(
        metric.truth,
        metric.found,
        metric.category_ids,
        metric.classes,
        image_paths(dataset.file, dataset.folder),
    )
    return replace(
        evaluation,
        report=report,
        coco_results=metric.coco_results(),
        objects=objects,
        notes=dataset.file.notes_of_evaluation(),
    )


def find_run(weights: Path) -> TrainConfig | None:
    """Return the run that lies beside a weight file, or None where it stands alone.

    Args:
        weights: The file.
    """
    file = weights.parent / RUN_FILE
    return load_run(file) if file.is_file() else None


def open_data(
    model: Model,
    run: TrainConfig | None,
    root: Path | None,
    split: str | None,
    *,
    layout: Layout | None = None,
    places: tuple[Path, Path] | None = None,
) -> EvaluationData:
    """Open the data to evaluate a model on.

    Args:
        model: Says how images are prepared, and its classes.
        run: The run that trained it, if known.
        root: Folder of the data set; None takes the run's.
        split: Name of the split; None takes the run's validation split, or "val".
        layout: How label maps are laid out; None takes the run's, or recognises it.
        places: COCO annotation file and folder of its images, of a detector, in place of all that.

    Raises:
        ZigguratError: If there is no such data or they do not fit the model.
    """
    if run is not None and run.task != model.identity.task:
        raise ZigguratError(
            f"the {RUN_FILE} beside the weights is of a {run.task} run, but the weights are of "
            f"{model.identity.name} for {model.identity.task}; keep them in separate folders"
        )
    preprocessing = model.preprocessing
    if places is not None:
        assert isinstance(preprocessing, FitInside)  # `EvaluationOptions.check` has made sure
        return _open_objects(model, preprocessing, places)
    if root is not None:
        folder, hint = root, "check --data.root"
    elif run is not None:
        folder, hint = Path(run.data.root), f"{RUN_FILE} names it; give another with --data.root"
    else:
        raise ZigguratError(
            f"there is no {RUN_FILE} beside the weights that would name their data; give the data "
            "set with --data.root"
        )
    if folder.is_file():
        raise ZigguratError(
            f"{folder} is a file; give the folder of the data set, or a COCO file and the folder "
            "of its images with --data.annotations and --data.images"
        )
    if not folder.is_dir() and remote_url(folder) is None:
        raise ZigguratError(f"the data folder {folder} does not exist: {hint}")
    split = split or ("val" if run is None else run.data.val_split)
    if isinstance(preprocessing, CenterCrop):
        return _open_folder(model.classes, preprocessing, folder, split)
    if isinstance(model, SemanticSegmenter):
        dataset, metric = open_pixels(model, folder, split, layout or layout_of_run(run, folder))
        name = f"{folder}, {split}, {len(dataset)} images"
        return EvaluationData(dataset, metric, model.preprocessing.divisor, name)
    assert isinstance(preprocessing, FitInside)
    of_run = _places_of_run(run, folder, split)
    # Another root may hold a copy of the run's data, in the same places, or other data.
    if of_run is not None and (root is None or of_run[0].is_file()):
        return _open_objects(model, preprocessing, of_run)
    found = find_split(
        folder,
        split,
        with_masks=model.identity.task == "instance_segmentation",
        with_keypoints=model.identity.task == "keypoint_detection",
    )
    return _open_objects(model, preprocessing, found)


def _open_objects(
    model: Model, preprocessing: FitInside, places: tuple[Path | Annotations, Path]
) -> EvaluationData:
    dataset, metric = open_objects(model, preprocessing, *places)
    name = f"{dataset.file.path}, {len(dataset)} images"
    return EvaluationData(dataset, metric, preprocessing.divisor, name)


def _open_folder(
    classes: tuple[str, ...], preprocessing: CenterCrop, root: Path, split: str
) -> EvaluationData:
    transform = eval_transform(preprocessing)
    # The names of the data are of use to a model that has none.
    is_named = not has_names(classes) and has_class_names(root, split)
    known = None if is_named else classes
    dataset = open_images(root, split, transform, train=False, classes=known)
    if len(dataset.classes) != len(classes):
        raise ZigguratError(
            f"the model tells {len(classes)} classes apart and has no names for them, but "
            f"{root / split} has {len(dataset.classes)} classes; give data of the same "
            "classes"
        )
    metric = ClassificationMetric(dataset.classes)
    return EvaluationData(dataset, metric, 1, f"{root / split}, {len(dataset)} images")


def _places_of_run(run: TrainConfig | None, root: Path, split: str) -> tuple[Path, Path] | None:
    """Return annotation file and image folder where the run names them, else None."""
    if not isinstance(run, DetectorRun):
        return None
    data = run.data
    for name, annotations, images in (
        (data.val_split, data.val_annotations, data.val_images),
        (data.train_split, data.train_annotations, data.train_images),
    ):
        if split == name and annotations is not None and images is not None:
            return root / annotations, root / images
    return None


def _say_nothing(file: BadFile) -> None:
    del file  # `Evaluation.bad_files` has it
