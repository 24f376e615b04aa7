"""From a model and a data set to a report: what `ziggurat evaluate` does.

The data are those the model was trained on, as the run's own `run.yaml` says, or any folder in the
layout of the task. Classes are matched by name, so that ids may differ between data sets.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

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
from ziggurat.inference.evaluation_result import Evaluation
from ziggurat.inference.forward import infer
from ziggurat.inference.gallery import EvaluatedObjects, image_paths
from ziggurat.inference.label_evaluation import LabelObserver, layout_of_run, open_pixels
from ziggurat.inference.object_data import open_objects
from ziggurat.inference.predictor import Precision, Predictor, find_weights, load
from ziggurat.inference.rules import Rules, check_rules, report_by
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


def evaluate(
    source: str | Path | Model,
    *,
    data_root: str | Path | None = None,
    split: str | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    device: str = "auto",
    precision: Precision = "32",
    rules: Rules = "coco",
    options: EvaluationOptions | None = None,
    on_progress: Progress | None = None,
    on_bad_file: Callable[[BadFile], None] | None = None,
) -> Evaluation:
    """Evaluate a run, a weight file or a model.

    Args:
        source: Folder of a run, a .safetensors file, "hf:USER/NAME" on the Hugging Face hub, or a
            model, which is moved to the device and set to eval mode.
        data_root: Folder of the data set; by default that of the run.
        split: Split to evaluate on; by default the run's validation split, or "val".
        batch_size: Images at once; by default as in the run's own validation, else 32 for a
            classifier and 1 for other models.
        workers: Processes that decode; 0 decodes in this one.
        device: Where to compute: "auto", "cpu", "cuda", "cuda:1", "mps".
        precision: "32", or "bf16" for products in bfloat16.
        rules: Whose average precision a detector's is; COCO's comes with a breakdown of mistakes.
        options: What else is asked for; what the model does not do is an error.
        on_progress: Is told of every batch.
        on_bad_file: Is told of every image that cannot be decoded.

    Raises:
        ZigguratError: If weights or data are missing or do not belong together.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("workers", workers, 0)):
        if value is not None and value < least:
            raise ZigguratError(f"{name} must be at least {least}, got {value}")
    options = options or EvaluationOptions()
    predictor, weights, run = _open_model(source, device, precision)
    model = predictor.model
    options.check(model)
    root = None if data_root is None else Path(data_root)
    data = open_data(model, run, root, split, layout=options.layout, places=options.places)
    check_rules(rules, data.metric, model.identity.name)
    ledger = BadFileLedger(
        MAX_BAD_FILES if run is None else run.data.max_bad_files,
        on_bad_file or _say_nothing,
        advice="evaluate on data that are whole",
    )
    loader = EvaluationLoader(
        data.dataset,
        batch_size=batch_size or _usual_batch_size(model, run),
        divisor=data.divisor,
        workers=workers,
        is_pinned=predictor.device.type == "cuda",
    )
    observer = _observe(data, options)
    data.metric.reset()
    for done, batch in enumerate(loader, start=1):
        ledger.add(batch.skipped)
        results = _predict(predictor, batch, data, options)
        data.metric.update(results, batch)
        if observer is not None:
            observer(results, batch)
        if on_progress is not None:
            on_progress(done, len(loader))
    evaluation = Evaluation(
        report=data.metric.compute(),
        weights=weights,
        model_name=model.identity.name,
        data=data.name,
        coco_results=None,
        bad_files=tuple(ledger.files.values()),
        labels=None if observer is None else observer.found(),
    )
    return _with_objects(evaluation, data, rules)


def _open_model(
    source: str | Path | Model, device: str, precision: Precision
) -> tuple[Predictor, Path | None, TrainConfig | None]:
    """Return what predicts, and the file and the run that it comes from, as far as there are."""
    if isinstance(source, Model):
        return Predictor(source, device=device, precision=precision), None, None
    weights = find_weights(Path(source))
    predictor = load(weights, device=device, precision=precision)
    return predictor, weights, find_run(weights)


def _usual_batch_size(model: Model, run: TrainConfig | None) -> int:
    if run is not None:
        return run.data.eval_batch_size
    return 32 if model.identity.task == "classification" else 1


def _observe(data: EvaluationData, options: EvaluationOptions) -> LabelObserver | None:
    """Return what looks at the pixels that a segmenter found; None for other models."""
    if isinstance(data.metric, SegmentationMetric | MultiLabelMetric) and isinstance(
        data.dataset, LabelFolder | ClassMaskFolder
    ):
        save_to = None if options.save_to is None else Path(options.save_to)
        return LabelObserver(data.metric, data.dataset, save_to)
    return None


def _predict(
    predictor: Predictor, batch: Batch, data: EvaluationData, options: EvaluationOptions
) -> list[Result]:
    if options.has_views:
        return options.predict(predictor, batch, data.dataset)
    with predictor.computing():
        return infer(predictor.model, batch, predictor.device, options.rule, keep_pixels=True)


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
    places: tuple[str | Path, str | Path] | None = None,
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
        return _open_objects(model, preprocessing, (Path(places[0]), Path(places[1])))
    if root is not None:
        folder, hint = root, "check --data.root"
    elif run is not None:
        folder, hint = Path(run.data.root), f"{RUN_FILE} names it; give another with --data.root"
    else:
        raise ZigguratError(
            f"no {RUN_FILE} beside the weights names the data; give the data set with --data.root "
            "(`data_root` in Python)"
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
