"""The layouts of detection data: which one a folder has, its splits, and how to open one.

This is the only place that knows all of them; everything behind it sees COCO annotations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ziggurat.data.check_image_folder import is_image_folder
from ziggurat.data.cityscapes_instances import (
    cityscapes_instance_splits,
    is_cityscapes_instances,
    read_cityscapes_instances,
)
from ziggurat.data.coco import find_coco, is_coco
from ziggurat.data.coco_file import Annotations
from ziggurat.data.findings import Layout
from ziggurat.data.foreign import Report, stop_at
from ziggurat.data.labelme_format import is_labelme, labelme_splits, read_labelme
from ziggurat.data.sbd_format import is_sbd, read_sbd, sbd_splits
from ziggurat.data.segmentation_layouts import no_split, segmentation_layout
from ziggurat.data.splits import names_of
from ziggurat.data.voc_format import is_voc, read_voc, voc_splits
from ziggurat.data.voc_instances import (
    is_voc_instances,
    read_voc_instances,
    voc_instance_splits,
)
from ziggurat.data.yolo_format import is_yolo, read_yolo, yolo_splits
from ziggurat.errors import ZigguratError


@dataclass(frozen=True)
class ForeignLayout:
    """A layout that is not COCO's.

    Attributes:
        title: What it is called in messages.
        is_here: Tells whether a folder has it.
        splits: Names a folder's splits.
        read: Lays a split out as a COCO file; gives its content and the folder of the images.
        is_instances: Whether every object has a mask; where a folder has masks and boxes of their
            own besides, a model with masks reads the former and a detector the latter.
    """

    title: str
    is_here: Callable[[Path], bool]
    splits: Callable[[Path], tuple[str, ...]]
    read: Callable[[Path, str, Report], tuple[dict[str, object], Path]]
    is_instances: bool = False

    def checked_splits(self, root: Path) -> tuple[str, ...]:
        """Name the splits that together hold every image once.

        Args:
            root: Folder of the data set.
        """
        splits = self.splits(root)
        is_union = {"train", "val"} <= set(splits)
        return tuple(split for split in splits if split != "trainval" or not is_union)


FOREIGN: dict[Layout, ForeignLayout] = {
    "voc": ForeignLayout("Pascal VOC", is_voc, voc_splits, read_voc),
    "yolo": ForeignLayout("YOLO", is_yolo, yolo_splits, read_yolo),
    "labelme": ForeignLayout("LabelMe", is_labelme, labelme_splits, read_labelme),
    "voc_instances": ForeignLayout(
        "masks of objects of Pascal VOC",
        is_voc_instances,
        voc_instance_splits,
        read_voc_instances,
        is_instances=True,
    ),
    "sbd": ForeignLayout(
        "Semantic Boundaries Dataset", is_sbd, sbd_splits, read_sbd, is_instances=True
    ),
    "cityscapes_instances": ForeignLayout(
        "objects of Cityscapes",
        is_cityscapes_instances,
        cityscapes_instance_splits,
        read_cityscapes_instances,
        is_instances=True,
    ),
}


def foreign_layouts(root: Path) -> tuple[Layout, ...]:
    """Name the other layouts that a folder has: one of boxes, one of masks, or both.

    Args:
        root: Folder of the data set.
    """
    here = [name for name, layout in FOREIGN.items() if layout.is_here(root)]
    kinds = (
        [name for name in here if FOREIGN[name].is_instances is kind] for kind in (False, True)
    )
    return tuple(names[0] for names in kinds if names)


def find_split(
    root: Path, split: str, *, with_masks: bool = False, with_keypoints: bool = False
) -> tuple[Path | Annotations, Path]:
    """Find the annotations and the image folder of a split, whatever the layout.

    A COCO file is not read yet, the others are.

    Args:
        root: Folder of the data set.
        split: Name of the split: "train" may be "train2017" or "training" on disk, "val" also
            "valid".
        with_masks: Whether masks of objects are wanted, where a folder has them beside boxes.
        with_keypoints: Whether of two COCO files the one with keypoints is wanted.

    Raises:
        ZigguratError: If there is no such split, or something in it cannot be read.
    """
    names: tuple[Layout, ...] = ()
    if root.is_dir() and not is_coco(root):
        names = foreign_layouts(root)
        if not names and segmentation_layout(root) is not None:
            raise ZigguratError(
                f"{root} has label maps, which train a segmenter, as "
                "segformer_pvt_v2_b0_from_scratch does; a detector needs boxes"
            )
        if not names and not (root / "annotations").is_dir():
            titles = ", ".join(layout.title for layout in FOREIGN.values())
            raise ZigguratError(
                f"{root} has neither annotations/instances_{split}.json (COCO) nor the layout of "
                f"{titles}; {_hint(root)}"
            )
    if not names:
        return find_coco(root, split, with_keypoints=with_keypoints)
    layout = FOREIGN[names[-1] if with_masks else names[0]]  # of two, the masks are the second
    splits = layout.splits(root)
    found = [one for one in names_of(split) if one in splits]
    if not found:
        where = "divide it as in docs/data.md"
        raise ZigguratError(no_split(f"{root} ({layout.title})", split, splits, where))
    content, images = layout.read(root, found[0], stop_at(root))
    return Annotations(root, content), images


def _hint(root: Path) -> str:
    """Say where the data set may be instead: one folder further down, as archives unpack."""
    below = sorted(path for path in root.iterdir() if path.is_dir())
    found = [str(path) for path in below if is_coco(path) or foreign_layouts(path)]
    if found:
        return f"did you mean {' or '.join(found[:3])}?"
    if is_image_folder(root):
        return "it has class folders, which train a classifier, as p2t_tiny_from_scratch does"
    return f"`ziggurat data check {root}` says what it is"
