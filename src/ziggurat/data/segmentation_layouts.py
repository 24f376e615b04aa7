"""The layouts of label maps: which one a folder has, its splits, and how to open one.

This is the only place that knows all of them; everything behind it sees pairs of files and a rule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ziggurat.data.findings import Layout
from ziggurat.data.label_layouts import (
    ADE20K_FILE,
    SINGLE_SPLIT,
    ade20k_files,
    camvid_files,
    camvid_splits,
    cityscapes_files,
    cityscapes_splits,
    coco_stuff_files,
    coco_stuff_splits,
    context_59_files,
    context_files,
    context_splits,
    made_context_splits,
    own_files,
    own_places,
    own_splits,
    side_by_side,
    voc_aug_files,
    voc_aug_splits,
    voc_files,
    voc_splits,
)
from ziggurat.data.label_pairs import SplitFiles
from ziggurat.data.label_rules import CLASS_FILE, LabelRule, counted_rule
from ziggurat.errors import ZigguratError, check_known

SPLIT_NAMES = {
    "train": ("train", "training", "train2017", "train2014"),
    "val": ("val", "validation", "valid", "val2017", "test2014"),
}
"""What a split may be called on disk; COCO-Stuff 10k is evaluated on its "test2014"."""


@dataclass(frozen=True)
class SegmentationLayout:
    """A layout of images with label maps.

    Attributes:
        title: What it is called in messages.
        is_here: Tells whether a folder has it, or nothing where it has to be asked for by name.
        splits: Names a folder's splits.
        files: Finds the files of a split.
    """

    title: str
    is_here: Callable[[Path], bool]
    splits: Callable[[Path], tuple[str, ...]]
    files: Callable[[Path, str], SplitFiles]


def _is_own(root: Path) -> bool:
    return (root / CLASS_FILE).is_file() and bool(own_splits(root))


def _is_ade20k(root: Path) -> bool:
    return (root / ADE20K_FILE).is_file() and bool(own_splits(root))


def _is_unnamed(root: Path) -> bool:
    """Tell whether PNG files lie where label maps would, though nothing names their classes."""
    rule = counted_rule(("unknown",), None)
    return any(
        path.suffix.lower() == ".png"
        for split in own_splits(root)
        for path in side_by_side(root, split, rule).labels.values()
    )


def _is_cityscapes(root: Path) -> bool:
    """Tell whether a folder has Cityscapes' labels, and not maps of objects alone."""
    has_labels = any((root / "gtFine").glob("*/*/*_gtFine_label*"))
    has_objects = any((root / "gtFine").glob("*/*/*_gtFine_instanceIds.png"))
    return bool(cityscapes_splits(root)) and (has_labels or not has_objects)


def _is_context(root: Path) -> bool:
    """Tell whether a folder has Pascal Context; as downloaded, if it has no other labels."""
    return bool(made_context_splits(root) or (context_splits(root) and not voc_splits(root)))


def _never(root: Path) -> bool:
    del root
    return False


# In the order in which they are looked for: what names its classes goes first.
SEGMENTATION: dict[Layout, SegmentationLayout] = {
    "label_folder": SegmentationLayout("label maps", _is_own, own_splits, own_files),
    "ade20k": SegmentationLayout("ADE20K", _is_ade20k, own_splits, ade20k_files),
    "cityscapes": SegmentationLayout(
        "Cityscapes",
        _is_cityscapes,
        cityscapes_splits,
        cityscapes_files,
    ),
    "pascal_context": SegmentationLayout(
        "Pascal Context", _is_context, context_splits, context_files
    ),
    "pascal_context_59": SegmentationLayout(
        "Pascal Context without background", _never, context_splits, context_59_files
    ),
    "voc_segmentation": SegmentationLayout(
        "label maps of Pascal VOC", lambda root: bool(voc_splits(root)), voc_splits, voc_files
    ),
    "voc_segmentation_aug": SegmentationLayout(
        "label maps of Pascal VOC with additional ones", _never, voc_aug_splits, voc_aug_files
    ),
    "coco_stuff": SegmentationLayout(
        "COCO-Stuff",
        lambda root: bool(coco_stuff_splits(root)),
        coco_stuff_splits,
        coco_stuff_files,
    ),
    "camvid": SegmentationLayout(
        "CamVid", lambda root: bool(camvid_splits(root)), camvid_splits, camvid_files
    ),
}


@dataclass(frozen=True)
class LabelSplit:
    """The images of a split with the class of every pixel, and what the label files say.

    Attributes:
        layout: How the data set is laid out.
        pairs: Image and label file of every image, by name.
        rule: What the values of the label files mean; has the classes and their colours.
    """

    layout: Layout
    pairs: list[tuple[Path, Path]]
    rule: LabelRule


def segmentation_layout(root: Path) -> Layout | None:
    """Tell which layout of label maps a folder has, if any.

    Args:
        root: Folder of the data set.
    """
    for name, layout in SEGMENTATION.items():
        if layout.is_here(root):
            return name
    return "label_folder" if _is_unnamed(root) else None


def open_labels(root: Path, split: str, layout: Layout | None = None) -> LabelSplit:
    """Find the images of a split with their label files, whatever the layout.

    Args:
        root: Folder of the data set, or one with a single data set directly below it.
        split: Name of the split: "train" may be "training" on disk, "val" also "validation".
        layout: A key of `SEGMENTATION`; recognised where it is not given.

    Raises:
        ZigguratError: If there is no such data set or split, or a file has no counterpart.
    """
    root, name = _find(root, layout)
    chosen = SEGMENTATION[name]
    splits = chosen.splits(root)
    found = [one for one in SPLIT_NAMES.get(split, (split,)) if one in splits]
    if not found:
        where = how_to_divide(root, split) if chosen.splits is own_splits else ""
        raise ZigguratError(no_split(f"{root} ({chosen.title})", split, splits, where))
    files = chosen.files(root, found[0])
    if files.faults:
        raise ZigguratError(f"{root / files.faults[0].file}: {files.faults[0].reason}")
    if not files.images:
        raise ZigguratError(f"{root / files.image_place} has no image files")
    if not files.labels:
        raise ZigguratError(f"{root / files.label_place} has no label files; an image needs one")
    alone = sorted(set(files.images) ^ set(files.labels))
    if alone:
        key = alone[0]
        place = files.label_place if key in files.images else files.image_place
        raise ZigguratError(
            f"{files.images.get(key) or files.labels[key]} has no counterpart of its name in "
            f"{root / place}; every image needs a label file ({len(alone)} such in all)"
        )
    pairs = [(files.images[key], files.labels[key]) for key in sorted(files.images)]
    return LabelSplit(name, pairs, files.rule)


def no_split(what: str, split: str, splits: Sequence[str], where: str) -> str:
    """Say that a data set has not the split that is wanted, and what to do.

    Args:
        what: The data set.
        split: Name of the split.
        splits: Names of those that it has.
        where: Where the files of the split belong, "" in a published data set.
    """
    fixes = [where] if where else []
    if split in SPLIT_NAMES["val"] and splits:
        fixes.append(f"validate on another one with --data.val_split {splits[0]}")
    has = f"{what} has no split {split!r}; it has {', '.join(splits) or 'none'}"
    return "; ".join([has, ", or ".join(fixes)]) if fixes else has


def how_to_divide(root: Path, split: str) -> str:
    """Say where the files of a split belong in a data set of one's own.

    Args:
        root: Folder of the data set.
        split: Name of a split that it has not.
    """
    images, labels = own_places(root, split)
    text = f"put its images into {images} and its label files into {labels}"
    parts = own_places(root, SINGLE_SPLIT)
    if "/" in parts[0]:
        return text
    single = " and ".join(f"{part}/{SINGLE_SPLIT}" for part in parts)
    return f"{text} (and the others into {single})"


def _find(root: Path, layout: Layout | None) -> tuple[Path, Layout]:
    """Find the folder of the data set and its layout.

    Raises:
        ZigguratError: If there is none.
    """
    places = folders_of(root)
    if layout is not None:
        check_known("layout", layout, SEGMENTATION)
        found = [place for place in places if SEGMENTATION[layout].splits(place)]
        if not found:
            raise ZigguratError(f"{root} has not the layout of {SEGMENTATION[layout].title}")
        return found[0], layout
    name = segmentation_layout(root)
    if name is not None:
        return root, name
    below = [(path, name) for path in places[1:] if (name := segmentation_layout(path))]
    require_one(root, [path for path, _ in below])
    if below:
        return below[0]
    raise ZigguratError(
        f"no label maps are recognised in {root}; expected images/<split>/*.jpg with "
        f"annotations/<split>/*.png (or img_dir and ann_dir) and {CLASS_FILE}, or the layout of "
        f"{', '.join(one.title for one in SEGMENTATION.values() if one.is_here is not _never)}"
    )


def require_one(root: Path, found: Sequence[Path]) -> None:
    """Raise where several data sets lie below a folder.

    Args:
        root: The folder.
        found: Their folders.

    Raises:
        ZigguratError: If so.
    """
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ZigguratError(f"{root} holds {len(found)} data sets ({names}); name one of them")


def folders_of(root: Path) -> list[Path]:
    """Name a folder and those directly below it, where a data set may be.

    Args:
        root: The folder.

    Raises:
        ZigguratError: If it is none.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ZigguratError(f"data folder {root} {what}; name the folder of a data set")
    return [root, *sorted(path for path in root.iterdir() if path.is_dir())]
