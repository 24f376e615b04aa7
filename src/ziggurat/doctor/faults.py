"""Faults in the files of the data set, as `ziggurat data check` finds them."""

from pathlib import Path

from ziggurat.config.data import DetectionData
from ziggurat.data.check import check_layout
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
    layout = _layout(subject, root)
    if layout is None:  # its annotation files are named one by one, and were checked when read
        return []
    advice = f"`ziggurat data check {root}` looks at all"
    num_images = len(subject.data.train) + len(subject.data.val)
    if num_images > FILES_A_SECOND * clock.left:
        raise OutOfTimeError(f"{num_images} images take longer than there is time; {advice}")
    seen = 0

    def count(files: int) -> None:
        nonlocal seen
        seen += files
        clock.require(f"{seen} files were looked at; {advice}")

    check = check_layout(root, layout, on_progress=count)
    if not check.faults:
        return [Finding(CHECK, "ok", f"no fault in {plural(seen, 'file')}")]
    first = check.faults[0]
    return [
        Finding(
            CHECK,
            "error",
            f"{plural(len(check.faults), 'fault')}, the first {first.file}: {first.reason}",
            f"run `ziggurat data check {root}`, which names each, and correct them",
        )
    ]


def _layout(subject: Subject, root: Path) -> Layout | None:
    images, data = subject.data.train, subject.config.data
    if isinstance(images, LabelFolder):
        return images.layout
    if isinstance(images, LabelledImages):
        return storage_kind(root, subject.config.data.train_split)
    if isinstance(images, ClassMaskFolder):
        return "class_masks"
    if isinstance(data, DetectionData) and data.train_annotations is not None:
        return None
    if is_coco(root):
        return "coco"
    with_masks = subject.config.task == "instance_segmentation"
    layouts = foreign_layouts(root)
    fitting = [name for name in layouts if FOREIGN[name].is_instances is with_masks]
    return next(iter((*fitting, *layouts)), None)
