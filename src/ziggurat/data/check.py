"""Check a data set before anything is trained on it: recognise the layout, count, name faults.

    image_folder   <split>/<class>/*.jpg, whatever the splits are called
    coco           annotations/instances_<split>.json and <split>/*.jpg
    ade20k         images/<split>/*.jpg and annotations/<split>/*.png
    voc            Annotations/*.xml, JPEGImages/*.jpg and ImageSets/Main/<split>.txt, or
                   <split>/*.xml beside <split>/*.jpg
    yolo           images/<split>/*.jpg and labels/<split>/*.txt, or <split>/images and
                   <split>/labels
    labelme        <split>/*.json beside <split>/*.jpg

Every image is decoded whole, for a file can be cut short anywhere.
"""

from pathlib import Path

from ziggurat.data.check_ade20k import check_ade20k, is_ade20k
from ziggurat.data.check_coco import check_coco, is_coco
from ziggurat.data.check_foreign import check_foreign
from ziggurat.data.check_image_folder import (
    check_image_folder,
    is_image_folder,
    is_unusual_image_folder,
)
from ziggurat.data.detection_layouts import foreign_layout
from ziggurat.data.findings import DatasetCheck, Layout, Progress
from ziggurat.errors import ZigguratError

_EXPECTED = (
    "expected <split>/<class>/*.jpg (ImageFolder), annotations/instances_<split>.json with "
    "<split>/*.jpg (COCO), images/<split>/*.jpg with annotations/<split>/*.png (ADE20K), "
    "Annotations/*.xml with ImageSets/Main/<split>.txt or <split>/*.xml (Pascal VOC), "
    "labels/<split>/*.txt with images/<split>/*.jpg (YOLO) or <split>/*.json (LabelMe), "
    "in it or in folders directly below it"
)


def find_datasets(root: Path) -> tuple[tuple[Path, Layout], ...]:
    """Recognise the data set in a folder, or those in the folders directly below it.

    Args:
        root: Folder to look at.

    Returns:
        Root and layout of each, at least one.

    Raises:
        ZigguratError: If there is none.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ZigguratError(f"data folder {root} {what}; name the folder of a data set")
    layout = _layout(root)
    if layout is not None:
        return ((root, layout),)
    entries = sorted(root.iterdir())
    below = [(path, _layout(path)) for path in entries if path.is_dir()]
    found = tuple((path, layout) for path, layout in below if layout is not None)
    if found:
        return found
    # Last, for a folder of data sets must not be taken for a folder of splits.
    if is_unusual_image_folder(root):
        return ((root, "image_folder"),)
    if not entries:
        raise ZigguratError(f"data folder {root} is empty; {_EXPECTED}")
    raise ZigguratError(f"no data set is recognised in {root}; {_EXPECTED}")


def _layout(root: Path) -> Layout | None:
    if is_coco(root):
        return "coco"
    if is_ade20k(root):
        return "ade20k"
    return foreign_layout(root) or ("image_folder" if is_image_folder(root) else None)


def check_dataset(root: Path, *, on_progress: Progress | None = None) -> DatasetCheck:
    """Look at every file of one data set.

    Args:
        root: Its folder, or one with a single data set directly below it.
        on_progress: Called as files are looked at.

    Raises:
        ZigguratError: If there is no data set, or more than one.
    """
    found = find_datasets(root)
    if len(found) > 1:
        names = ", ".join(path.name for path, _ in found)
        raise ZigguratError(f"{root} holds {len(found)} data sets ({names}); check one of them")
    path, layout = found[0]
    if layout == "coco":
        return check_coco(path, on_progress)
    if layout == "ade20k":
        return check_ade20k(path, on_progress)
    if layout == "image_folder":
        return check_image_folder(path, on_progress)
    return check_foreign(path, layout, on_progress)
