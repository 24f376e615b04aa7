"""Check a data set before anything is trained on it: recognise the layout, count, name faults.

    image_folder   <split>/<class>/*.jpg, whatever the splits are called
    image_list     <split>_list.txt, <split>.txt or meta/<split>.txt with "path label" lines
    image_lmdb     <split>/data.mdb, of `ziggurat data pack` or with a list beside it
    image_shards   <split>/*.tar or *<split>*.tar in the layout of WebDataset
    coco           annotations/instances_<split>.json and <split>/*.jpg, or
                   <split>/_annotations.coco.json beside <split>/*.jpg
    voc            Annotations/*.xml, JPEGImages/*.jpg and ImageSets/Main/<split>.txt, or
                   <split>/*.xml beside <split>/*.jpg
    yolo           images/<split>/*.jpg and labels/<split>/*.txt, or <split>/images and
                   <split>/labels, or images/*.jpg and labels/*.txt
    labelme        <split>/*.json beside <split>/*.jpg
    masks          those of `voc_instances`, `sbd_format` and `cityscapes_instances`
    label maps     those of `label_layouts`: ADE20K, Cityscapes, Pascal VOC, Pascal Context,
                   COCO-Stuff, CamVid, and images/<split>/* with annotations/<split>/*.png
    class_masks    images/<split>/* with annotations, labels or masks/<split>/<class>/*.png

A folder may hold boxes, masks of objects and label maps of the same images; each is a data set.
Every image is decoded whole, for a file can be cut short anywhere.
"""

from dataclasses import replace
from pathlib import Path

from ziggurat.data.check_class_masks import check_class_masks
from ziggurat.data.check_coco import check_coco
from ziggurat.data.check_foreign import check_foreign
from ziggurat.data.check_image_folder import (
    check_image_folder,
    is_image_folder,
    is_unusual_image_folder,
)
from ziggurat.data.check_segmentation import OWN, check_segmentation
from ziggurat.data.check_storage import check_storage, find_storage, stored_splits
from ziggurat.data.class_masks import is_class_masks
from ziggurat.data.coco import is_coco
from ziggurat.data.detection_layouts import FOREIGN, foreign_layouts
from ziggurat.data.findings import (
    TRAIN_SPLITS,
    DatasetCheck,
    Finding,
    Layout,
    Progress,
    plural,
)
from ziggurat.data.image_folder import class_folders
from ziggurat.data.label_layouts import LABEL_PARTS, image_part
from ziggurat.data.remote_shards import remote_url
from ziggurat.data.segmentation_layouts import (
    SEGMENTATION,
    how_to_divide,
    segmentation_layout,
)
from ziggurat.data.splits import VALIDATION
from ziggurat.errors import ZigguratError

_EXPECTED = (
    "expected <split>/<class>/*.jpg (ImageFolder), <split>_list.txt with lines 'path label', "
    "<split>/data.mdb (LMDB), <split>/*.tar (WebDataset), annotations/instances_<split>.json with "
    "<split>/*.jpg or <split>/_annotations.coco.json (COCO), Annotations/*.xml with "
    "ImageSets/Main/<split>.txt or <split>/*.xml (Pascal VOC), labels/<split>/*.txt with "
    "images/<split>/*.jpg or obj.names beside obj_<split>_data/*.txt (YOLO), <split>/*.json "
    "(LabelMe), images/<split>/*.jpg with annotations/<split>/*.png (label maps) or the layout of "
    "Cityscapes, Pascal Context, COCO-Stuff or CamVid, in it or in folders directly below it"
)


def find_datasets(root: Path) -> tuple[tuple[Path, Layout], ...]:
    """Recognise the data set in a folder, or those in the folders directly below it.

    Args:
        root: Folder to look at.

    Returns:
        Root and layout of each, at least one; a root with boxes and label maps comes twice.

    Raises:
        ZigguratError: If there is none.
    """
    url = remote_url(root)
    if url is not None:
        if not stored_splits(root, "image_shards"):
            raise ZigguratError(
                f"{url} has no split with an index; expected train/index.npz, as "
                "`ziggurat data pack --format shards` makes it"
            )
        return ((root, "image_shards"),)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ZigguratError(f"data folder {root} {what}; name the folder of a data set")
    here = tuple((root, layout) for layout in _layouts(root))
    if here:
        return here
    entries = sorted(root.iterdir())
    found = tuple(
        (path, layout)
        for path in entries
        if path.is_dir()
        for layout in _layouts(path)
        if layout != "image_folder" or not _is_beside_images(path)
    )
    if found:
        return found
    # Last, for a folder of data sets must not be taken for a folder of splits.
    if is_unusual_image_folder(root):
        return ((root, "image_folder"),)
    if not entries:
        raise ZigguratError(f"data folder {root} is empty; {_EXPECTED}")
    raise ZigguratError(f"no data set is recognised in {root}; {_EXPECTED}")


def _is_beside_images(folder: Path) -> bool:
    """Tell whether a folder labels the photos in images/ beside it, split by split."""
    if folder.name not in LABEL_PARTS:
        return False
    photos = folder.parent / image_part(folder.parent)
    return not set(class_folders(folder)).isdisjoint(class_folders(photos))


def _layouts(root: Path) -> list[Layout]:
    """Name the layouts that a folder has: of boxes, masks of objects, label maps; or of classes."""
    found: list[Layout] = ["coco"] if is_coco(root) else [*foreign_layouts(root)]
    labels = "class_masks" if is_class_masks(root) else segmentation_layout(root)
    if labels is not None and "yolo" in found and not _has_texts(root):
        found.remove("yolo")  # its folder "labels" has pictures only
    found += [] if labels is None else [labels]
    if found:
        return found
    storage = find_storage(root)
    if storage is not None:
        return [storage]
    return ["image_folder"] if is_image_folder(root) else []


def _has_texts(root: Path) -> bool:
    places = ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt")
    return any(next(root.glob(place), None) is not None for place in places)


def check_dataset(
    root: str | Path, *, layout: Layout | None = None, on_progress: Progress | None = None
) -> DatasetCheck:
    """Look at every file of one data set.

    Args:
        root: Its folder, or one with a single data set directly below it.
        layout: Its layout, where the folder has several; None recognises it.
        on_progress: Called as files are looked at.

    Raises:
        ZigguratError: If there is no data set, or more than one.
    """
    found = find_datasets(Path(root))
    chosen = [(path, name) for path, name in found if layout in (None, name)]
    if len(chosen) != 1:
        names = ", ".join(f"{path.name}: {name}" for path, name in found)
        wanted = "" if layout is None else f", {len(chosen)} of them in the layout {layout}"
        raise ZigguratError(
            f"{root} holds {plural(len(found), 'data set')} ({names}){wanted}; check one of them, "
            "by its folder or its layout"
        )
    return check_layout(*chosen[0], on_progress=on_progress)


def check_layout(
    root: Path, layout: Layout, *, on_progress: Progress | None = None
) -> DatasetCheck:
    """Look at every file of the data set that a folder has in one layout.

    Args:
        root: Folder of the data set.
        layout: As `find_datasets` says it.
        on_progress: Called as files are looked at.
    """
    check = _check_files(root, layout, on_progress)
    names = {count.name for count in check.splits}
    is_published = layout in SEGMENTATION and layout not in OWN
    if is_published or names.isdisjoint(TRAIN_SPLITS) or not names.isdisjoint(VALIDATION):
        return check
    what_to_do = "add one beside that of training, or name another with --data.val_split"
    if layout in OWN:
        what_to_do = how_to_divide(root, "val")
    missing = Finding(".", f"no validation split, which a run needs: {what_to_do}", "note")
    return replace(check, findings=(*check.findings, missing))


def _check_files(root: Path, layout: Layout, on_progress: Progress | None) -> DatasetCheck:
    if layout == "coco":
        return check_coco(root, on_progress)
    if layout == "class_masks":
        return check_class_masks(root, on_progress)
    if layout in SEGMENTATION:
        return check_segmentation(root, layout, on_progress)
    if layout in FOREIGN:
        return check_foreign(root, layout, on_progress)
    if layout in ("image_list", "image_lmdb", "image_shards"):
        return check_storage(root, layout, on_progress)
    return check_image_folder(root, on_progress)
