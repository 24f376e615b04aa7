"""Where each published data set of label maps keeps its files, and what their values mean.

    ADE20K           images/<split>/*.jpg, annotations/<split>/*.png, objectInfo150.txt;
                     0 = other, 1..150
    Cityscapes       leftImg8bit/<split>/<city>/*_leftImg8bit.png and, in gtFine,
                     *_gtFine_labelTrainIds.png (0..18) or *_gtFine_labelIds.png (19 of 0..33)
    Pascal VOC       JPEGImages, SegmentationClass, ImageSets/Segmentation/<split>.txt; 0..20,
                     255 = border
    Pascal Context   JPEGImages, SegmentationClassContext, ImageSets/SegmentationContext/<split>.txt
                     as `convert_labels` and MMSegmentation make them; 0 = background, 1..59
    COCO-Stuff 164k  images/{train,val}2017 and annotations or stuffthingmaps/{train,val}2017;
                     *_labelTrainIds.png (0..170), or *.png as published (171 of 0..181)
    COCO-Stuff 10k   images/{train,test}2014 and annotations/{train,test}2014; *.png as
                     `convert_labels` makes them of the published MATLAB files (171 of 0..181), or
                     *_labelTrainIds.png as MMSegmentation does; 0 = unlabelled, 1..171
    CamVid           <split>/*.png and <split>annot/*.png, as SegNet has it; 0..10, 11 = unlabelled;
                     or as downloaded, see `downloaded_labels`
    a data set of    images/<split>/* and annotations, labels or masks/<split>/*, classes.json;
    one's own        also <split>/images/* and <split>/annotations/*, no folders of splits at all,
                     and img_dir/<split>/* with ann_dir/<split>/* as MMSegmentation has it

Only ADE20K and a data set of one's own were tried on published files. Of the others the numbers
and names were compared with cityscapesScripts 2.3 and the tables of MMSegmentation 1.2; where their
files lie follows those two, not a download.
"""

from collections.abc import Iterable
from pathlib import Path

from ziggurat.class_lists import class_list
from ziggurat.data.decode import has_images, is_image_file
from ziggurat.data.downloaded_labels import (
    CAMVID_ENDING,
    about_context_file,
    about_matlab_files,
    camvid_places,
    camvid_rule,
    context_splits_to_make,
    stuff_10k_splits,
)
from ziggurat.data.findings import Finding
from ziggurat.data.image_lists import read_list
from ziggurat.data.label_pairs import SplitFiles, common_folders, same_names
from ziggurat.data.label_rules import CLASS_FILE, LabelRule, counted_rule, read_rule
from ziggurat.errors import ZigguratError
from ziggurat.types import UNLABELLED

ADE20K_FILE = "objectInfo150.txt"
SINGLE_SPLIT = "train"
"""Name of the split where nothing says which images belong to which."""
_IMAGE_PARTS = ("images", "img_dir")
LABEL_PARTS = ("annotations", "labels", "masks", "ann_dir")
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Stored number of each of the 19 classes that are evaluated."""
CITYSCAPES_VALUES = 34
"""The numbers of pixels without an object are 0..33."""
_COCO_VALUES = 182
_COCO_GONE = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
"""Numbers of COCO's things that never got an annotation, counted from 0."""
_COCO_SPLITS = ("train2017", "val2017", "train2014", "test2014")
_CAMVID_UNLABELLED = 11
_AUG_LABELS = "SegmentationClassAug"
_AUG_LISTS = ("trainaug", "aug")
CONTEXT_LABELS = "SegmentationClassContext"
CONTEXT_LISTS = "SegmentationContext"


# A data set of one's own, and ADE20K, whose folders are the same


def own_splits(root: Path) -> tuple[str, ...]:
    """Name the splits that have both images and label files, or one of the two."""
    part = label_part(root)
    if part is None:
        return tuple(
            sorted(
                folder.parent.name
                for folder in root.glob("*/images")
                if folder.is_dir() and label_part(folder.parent) is not None
            )
        )
    images = root / image_part(root)
    splits = common_folders(images, root / part)
    if splits or not images.is_dir():
        return splits
    return (SINGLE_SPLIT,) if has_images(root / part) else ()


def image_part(root: Path) -> str:
    """Name the folder of a data set of one's own that has the images, "images" where none is there.

    Args:
        root: Folder of the data set.
    """
    return next((part for part in _IMAGE_PARTS if (root / part).is_dir()), _IMAGE_PARTS[0])


def label_part(root: Path) -> str | None:
    """Name the folder of a data set of one's own that has the label files, None without one.

    Of several it is the first with images in it: boxes may lie in "annotations" beside "masks".

    Args:
        root: Folder of the data set.
    """
    found = [part for part in LABEL_PARTS if (root / part).is_dir()]
    if len(found) < 2:
        return next(iter(found), None)
    return next((part for part in found if has_images(root / part, "**/*")), found[0])


def own_places(root: Path, split: str) -> tuple[str, str]:
    """Return the folders of a split's images and label files, relative to the root.

    Args:
        root: Folder of a data set of one's own.
        split: Name of the split, which may be one that is not there.
    """
    images, part = image_part(root), label_part(root)
    if part is None:
        return f"{split}/images", f"{split}/{label_part(root / split) or LABEL_PARTS[0]}"
    if split == SINGLE_SPLIT and not common_folders(root / images, root / part):
        return images, part
    return f"{images}/{split}", f"{part}/{split}"


def own_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a split, their classes in classes.json."""
    return side_by_side(root, split, read_rule(root))


def ade20k_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a split, their classes in objectInfo150.txt."""
    classes = _read_ade20k_classes(root / ADE20K_FILE)
    known = class_list("ade20k")
    palette = known.palette if classes == known.classes else None
    rule = counted_rule(classes, palette, first=1, ignored=frozenset({0}))
    return side_by_side(root, split, rule)


def side_by_side(root: Path, split: str, rule: LabelRule) -> SplitFiles:
    """Find the files of a split whose values mean what a rule says."""
    return same_names(root, *own_places(root, split), rule)


def _read_ade20k_classes(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise ZigguratError(
            f"{path.parent} has no {ADE20K_FILE}, the list of ADE20K's classes, which lies beside "
            f"its folders; put it there, or name the classes of other data in {CLASS_FILE} and "
            "leave data.layout out"
        )
    try:
        rows = path.read_text(encoding="utf-8-sig").splitlines()[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise ZigguratError(f"class list {path} cannot be read: {error}") from error
    cells = [row.split("\t") for row in rows if row.strip()]
    names = tuple(row[-1].split(",")[0].strip() for row in cells)
    numbers = [row[0].strip() for row in cells]  # the official file has stray blanks
    if (
        numbers != [str(number) for number in range(1, len(names) + 1)]
        or not 1 <= len(names) < UNLABELLED
        or len(set(names)) < len(names)
        or not all(names)
    ):
        raise ZigguratError(
            f"class list {path} must hold a header, then rows numbered 1, 2, 3, ... with a "
            "different name each and tabs between the columns"
        )
    return names


# Cityscapes


def cityscapes_splits(root: Path) -> tuple[str, ...]:
    """Name the folders that leftImg8bit/ and gtFine/ have."""
    return common_folders(root / "leftImg8bit", root / "gtFine")


def cityscapes_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a split in the folders of its cities."""
    known = class_list("cityscapes")
    images = in_folders(root / "leftImg8bit" / split, "_leftImg8bit")
    labels = in_folders(root / "gtFine" / split, "_gtFine_labelTrainIds")
    rule = counted_rule(known.classes, known.palette)
    original = in_folders(root / "gtFine" / split, "_gtFine_labelIds")
    if len(original) > len(labels):
        labels = original
        others = frozenset(range(CITYSCAPES_VALUES)) - frozenset(CITYSCAPES_IDS)
        rule = LabelRule(known.classes, known.palette, CITYSCAPES_IDS, others | {UNLABELLED})
    return SplitFiles(images, labels, rule, f"leftImg8bit/{split}", f"gtFine/{split}")


def in_folders(folder: Path, ending: str) -> dict[str, Path]:
    """Find the files of all cities by city and name, their ending left out.

    Args:
        folder: Folder of a split, with one of each city.
        ending: End of the names, before the suffix.
    """
    files = (path for path in folder.glob(f"*/*{ending}.*") if is_image_file(path))
    return {f"{path.parent.name}/{path.stem.removesuffix(ending)}": path for path in files}


# Pascal VOC and Pascal Context


def voc_splits(root: Path) -> tuple[str, ...]:
    """Name the lists of images with label maps."""
    return listed_splits(root, "SegmentationClass", "Segmentation")


def voc_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a list; those of trainaug.txt and aug.txt are in SegmentationClassAug."""
    is_aug = split in _AUG_LISTS and (root / _AUG_LABELS).is_dir()
    return _listed_voc(root, [(split, _AUG_LABELS if is_aug else "SegmentationClass")])


def voc_aug_splits(root: Path) -> tuple[str, ...]:
    """Name the lists; "train" has the additional label maps of SegmentationClassAug."""
    return voc_splits(root) if (root / _AUG_LABELS).is_dir() else ()


def voc_aug_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a list, with those of trainaug.txt or aug.txt for "train"."""
    lists = root / "ImageSets" / "Segmentation"
    if split != "train":
        return voc_files(root, split)
    if (lists / "trainaug.txt").is_file():
        return voc_files(root, "trainaug")
    return _listed_voc(root, [("train", "SegmentationClass"), ("aug", _AUG_LABELS)])


def _listed_voc(root: Path, parts: list[tuple[str, str]]) -> SplitFiles:
    known = class_list("pascal_voc")
    rule = counted_rule(known.classes, known.palette)
    found = [_listed(root, "Segmentation", split, folder, rule) for split, folder in parts]
    return SplitFiles(
        {key: path for part in found for key, path in part.images.items()},
        {key: path for part in found for key, path in part.labels.items()},
        rule,
        "JPEGImages",
        " and ".join(part.label_place for part in found),
        tuple(fault for part in found for fault in part.faults),
    )


def context_splits(root: Path) -> tuple[str, ...]:
    """Name the lists of Pascal Context."""
    return made_context_splits(root) or context_splits_to_make(root)


def made_context_splits(root: Path) -> tuple[str, ...]:
    """Name the lists of images with label maps."""
    return listed_splits(root, CONTEXT_LABELS, CONTEXT_LISTS)


def context_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a list; the 60 classes begin with "background"."""
    known = class_list("pascal_context")
    return _listed_context(root, split, counted_rule(known.classes, known.palette))


def context_59_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a list; what is background counts as unlabelled."""
    known = class_list("pascal_context")
    rule = counted_rule(known.classes[1:], known.palette[1:], first=1, ignored=frozenset({0}))
    return _listed_context(root, split, rule)


def _listed_context(root: Path, split: str, rule: LabelRule) -> SplitFiles:
    if not made_context_splits(root):
        raise ZigguratError(about_context_file(root))
    return _listed(root, CONTEXT_LISTS, split, CONTEXT_LABELS, rule)


def listed_splits(root: Path, labels: str, lists: str) -> tuple[str, ...]:
    """Name the lists of images, where a folder in the layout of Pascal VOC has some.

    Args:
        root: Folder of the data set.
        labels: Folder of the label files.
        lists: Folder of the lists, in ImageSets.
    """
    if not (root / "JPEGImages").is_dir() or not (root / labels).is_dir():
        return ()
    return tuple(sorted(path.stem for path in (root / "ImageSets" / lists).glob("*.txt")))


def _listed(root: Path, lists: str, split: str, labels: str, rule: LabelRule) -> SplitFiles:
    path = root / "ImageSets" / lists / f"{split}.txt"
    names = read_list(path, root / labels, ".png")
    images = {name: root / "JPEGImages" / f"{name}.jpg" for name in names}
    label_files = {name: root / labels / f"{name}.png" for name in names}
    faults = [
        Finding(path.relative_to(root).as_posix(), "a list names it, but there is no such file")
        for path in images.values()
        if not path.is_file()
    ]
    found = {name: path for name, path in label_files.items() if path.is_file()}
    return SplitFiles(images, found, rule, "JPEGImages", labels, tuple(faults))


# COCO-Stuff


def coco_stuff_splits(root: Path) -> tuple[str, ...]:
    """Name the splits of the 164k or the 10k photos that have label maps."""
    made = tuple(
        split
        for split in _COCO_SPLITS
        if _coco_place(root, split, ("images", "")) and _coco_labels(root, split)
    )
    return made or stuff_10k_splits(root)


def _coco_place(root: Path, split: str, parts: Iterable[str]) -> str | None:
    places = (f"{part}/{split}".lstrip("/") for part in parts)
    return next((place for place in places if (root / place).is_dir()), None)


def _coco_labels(root: Path, split: str) -> str | None:
    parts = ("stuffthingmaps", "stuffthingmaps_trainval2017", "annotations")
    return _coco_place(root, split, parts)


def coco_stuff_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a split; numbers of MMSegmentation where they are, else the published.

    Raises:
        ZigguratError: If the label maps are MATLAB files.
    """
    image_place, label_place = _coco_place(root, split, ("images", "")), _coco_labels(root, split)
    if image_place is None or label_place is None:  # it is one of `stuff_10k_splits`
        raise ZigguratError(about_matlab_files(root))
    rule, ending = coco_stuff_rule(), "_labelTrainIds"
    if any((root / label_place).glob(f"*{ending}.png")):
        is_10k = split.endswith("2014")
        first, ignored = (1, frozenset({0})) if is_10k else (0, frozenset())
        rule = counted_rule(rule.classes, rule.palette, first=first, ignored=ignored)
    elif any((root / label_place).glob("*.mat")):
        raise ZigguratError(about_matlab_files(root))
    else:
        ending = ""
    return same_names(root, image_place, label_place, rule, ending)


def coco_stuff_rule() -> LabelRule:
    """Say what the values of the published PNG files mean."""
    known = class_list("coco_stuff")
    values = tuple(value for value in range(_COCO_VALUES) if value not in _COCO_GONE)
    return LabelRule(known.classes, known.palette, values)


# CamVid


def camvid_splits(root: Path) -> tuple[str, ...]:
    """Name the folders beside which there is one with "annot" behind its name."""
    names = (folder.name.removesuffix("annot") for folder in root.glob("*annot"))
    splits = tuple(sorted(name for name in names if name and (root / name).is_dir()))
    return splits or ((SINGLE_SPLIT,) if camvid_places(root) else ())


def camvid_files(root: Path, split: str) -> SplitFiles:
    """Find the files of a split; classes.json, where it is, names other classes."""
    places, ending = camvid_places(root), CAMVID_ENDING
    if places is None or (root / f"{split}annot").is_dir():
        places, ending = (split, f"{split}annot"), ""
    if (root / CLASS_FILE).is_file():
        rule = read_rule(root)
    elif ending:
        rule = camvid_rule(root)
    else:
        known = class_list("camvid")
        ignored = frozenset({_CAMVID_UNLABELLED})
        rule = counted_rule(known.classes, known.palette, ignored=ignored)
    return same_names(root, *places, rule, ending)
