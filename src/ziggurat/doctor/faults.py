"""Faults in the files of the data set, as `ziggurat data check` finds them."""

from pathlib import Path

from ziggurat.config.data import DetectionData
from ziggurat.data.check import check_layout
from ziggurat.data.check_coco import check_annotations
from ziggurat.data.class_masks import ClassMaskFolder
from ziggurat.data.coco import is_coco
from ziggurat.data.detection_layouts import FOREIGN, foreign_layouts
from ziggurat.data.findings import Layout, plural
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.labelled_images import LabelledImages, storage_kind
from ziggurat.doctor.clock import Clock, OutOfTimeError
from ziggurat.doctor.findings import Finding
from ziggurat.doctor.subject import Subject

CHECK = "data files"
FILES_A_SECOND = 1000
"""More than any machine decodes; a data set that could not be looked at is not begun with."""


def check_faults(subject: Subject, clock: Clock) -> list[Finding]:
    """Look at every file of the data set.

    Raises:
        OutOfTimeError: If there are too many for the time.
    """
    root = Path(subject.config.data.root)
    places = _named_places(subject)
    layout = None if places else _layout(subject, root)
    if not places and layout is None:
        return []
    command = f"ziggurat data check {root}"
    if places:
        files = " ".join(str(file) for file, _ in places)
        folders = " ".join(str(folder) for _, folder in places)
        command = f"ziggurat data check --data.annotations {files} --data.images {folders}"
    advice = f"`{command}` looks at all"
    num_images = len(subject.data.train) + len(subject.data.val)
    if num_images > FILES_A_SECOND * clock.left:
        raise OutOfTimeError(f"{num_images} images take longer than there is time; {advice}")
    seen = 0

    def count(files: int) -> None:
        nonlocal seen
        seen += files
        clock.require(f"{seen} files were looked at; {advice}")

    if layout is None:
        check = check_annotations(root, places, on_progress=count)
    else:
        check = check_layout(root, layout, on_progress=count)
    if not check.faults:
        return [Finding(CHECK, "ok", f"no fault in {plural(seen, 'file')}")]
    first = check.faults[0]
    return [
        Finding(
            CHECK,
            "error",
            f"{plural(len(check.faults), 'fault')}, the first {first.file}: {first.reason}",
            f"run `{command}`, which names each, and correct them",
        )
    ]


def _named_places(subject: Subject) -> list[tuple[Path, Path]]:
    """Return annotation files and image folders where the run names them one by one."""
    config = subject.config.data
    if not isinstance(config, DetectionData):
        return []
    root = Path(config.root)
    named = (
        (config.train_annotations, config.train_images),
        (config.val_annotations, config.val_images),
    )
    return [
        (root / annotations, root / images)
        for annotations, images in named
        if annotations is not None and images is not None
    ]


def _layout(subject: Subject, root: Path) -> Layout | None:
    images = subject.data.train
    if isinstance(images, LabelFolder):
        return images.layout
    if isinstance(images, LabelledImages):
        return storage_kind(root, subject.config.data.train_split)
    if isinstance(images, ClassMaskFolder):
        return "class_masks"
    if is_coco(root):
        return "coco"
    with_masks = subject.config.task == "instance_segmentation"
    layouts = foreign_layouts(root)
    fitting = [name for name in layouts if FOREIGN[name].is_instances is with_masks]
    return next(iter((*fitting, *layouts)), None)
