"""Layouts of label maps: each is recognised, and its values become the right classes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.class_lists import class_list
from ziggurat.data.check import check_dataset, find_datasets
from ziggurat.data.findings import Layout
from ziggurat.data.label_files import read_labels
from ziggurat.data.segmentation_layouts import open_labels, segmentation_layout
from ziggurat.errors import ZigguratError


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 1), (10, 200, 30)).save(path)


def _labels(path: Path, values: Sequence[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], dtype=np.uint8)).save(path)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _own(root: Path, values: Sequence[int]) -> None:
    _image(root / "images/train/a.jpg")
    _labels(root / "masks/train/a.png", values)
    _text(root / "classes.json", '{"classes": ["x", "y", "z"]}')


def _own_by_split(root: Path, values: Sequence[int]) -> None:
    _image(root / "train/images/a.jpg")
    _labels(root / "train/labels/a.png", values)
    _text(root / "classes.json", '{"classes": ["x", "y", "z"]}')


def _own_without_splits(root: Path, values: Sequence[int]) -> None:
    _image(root / "images/a.jpg")
    _labels(root / "masks/a.png", values)
    _text(root / "classes.json", '{"classes": ["x", "y", "z"]}')


def _own_of_mmsegmentation(root: Path, values: Sequence[int]) -> None:
    _image(root / "img_dir/train/a.jpg")
    _labels(root / "ann_dir/train/a.png", values)
    _text(root / "classes.json", '{"classes": ["x", "y", "z"]}')


def _ade20k(root: Path, values: Sequence[int]) -> None:
    _image(root / "images/training/a.jpg")
    _labels(root / "annotations/training/a.png", values)
    _text(root / "objectInfo150.txt", "Idx\tName\n1\twall\n2 \tsky, air\n3\ttree \n")


def _cityscapes(root: Path, values: Sequence[int]) -> None:
    _image(root / "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png")
    _labels(root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png", values)
    _image(root / "gtFine/train/ulm/ulm_000001_000019_gtFine_color.png")


def _cityscapes_train_ids(root: Path, values: Sequence[int]) -> None:
    _cityscapes(root, [0, 0, 0, 0])
    _labels(root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelTrainIds.png", values)


def _context(root: Path, values: Sequence[int]) -> None:
    _image(root / "JPEGImages/2008_000002.jpg")
    _image(root / "JPEGImages/2008_000003.jpg")  # in no list
    _labels(root / "SegmentationClassContext/2008_000002.png", values)
    _text(root / "ImageSets/SegmentationContext/train.txt", "2008_000002\n")


def _voc(root: Path, values: Sequence[int]) -> None:
    _image(root / "JPEGImages/2007_000032.jpg")
    _labels(root / "SegmentationClass/2007_000032.png", values)
    _text(root / "ImageSets/Segmentation/train.txt", "2007_000032\n\n")


def _voc_aug(root: Path, values: Sequence[int]) -> None:
    _voc(root, [0, 0, 0, 0])
    _image(root / "JPEGImages/0.jpg")
    _labels(root / "SegmentationClassAug/0.png", values)
    _text(root / "ImageSets/Segmentation/aug.txt", "0\n")


def _voc_trainaug(root: Path, values: Sequence[int]) -> None:
    _voc_aug(root, values)
    _text(root / "ImageSets/Segmentation/trainaug.txt", "0\n")


def _stuff(root: Path, values: Sequence[int]) -> None:
    _image(root / "images/train2017/000000000009.jpg")
    _labels(root / "annotations/train2017/000000000009.png", values)


def _stuff_maps(root: Path, values: Sequence[int]) -> None:
    _image(root / "train2017/000000000009.jpg")
    _labels(root / "stuffthingmaps/train2017/000000000009.png", values)


def _stuff_train_ids(root: Path, values: Sequence[int]) -> None:
    _stuff(root, [0, 0, 0, 0])
    _labels(root / "annotations/train2017/000000000009_labelTrainIds.png", values)


def _stuff_10k(root: Path, values: Sequence[int]) -> None:
    _image(root / "images/train2014/COCO_train2014_000000000077.jpg")
    _labels(root / "annotations/train2014/COCO_train2014_000000000077_labelTrainIds.png", values)


def _camvid(root: Path, values: Sequence[int]) -> None:
    _image(root / "train/0001TP_006690.png")
    _labels(root / "trainannot/0001TP_006690.png", values)


LAYOUTS = [
    (_own, "label_folder", [0, 2, 255, 1], ["x", "z", None, "y"]),
    (_own_by_split, "label_folder", [0, 2, 255, 1], ["x", "z", None, "y"]),
    (_own_without_splits, "label_folder", [0, 2, 255, 1], ["x", "z", None, "y"]),
    (_own_of_mmsegmentation, "label_folder", [0, 2, 255, 1], ["x", "z", None, "y"]),
    (_ade20k, "ade20k", [0, 1, 255, 3], [None, "wall", None, "tree"]),
    (_cityscapes, "cityscapes", [7, 33, 0, 29], ["road", "bicycle", None, None]),
    (_cityscapes_train_ids, "cityscapes", [0, 18, 255, 1], ["road", "bicycle", None, "sidewalk"]),
    (_context, "pascal_context", [0, 59, 255, 1], ["background", "wood", None, "aeroplane"]),
    (_context, "pascal_context_59", [0, 59, 255, 1], [None, "wood", None, "aeroplane"]),
    (_voc, "voc_segmentation", [0, 20, 255, 1], ["background", "tvmonitor", None, "aeroplane"]),
    (_voc_aug, "voc_segmentation_aug", [0, 20, 255, 1], ["background", "tvmonitor", None, None]),
    (_voc_trainaug, "voc_segmentation_aug", [0, 20, 15, 1], ["background", "tvmonitor"]),
    (_stuff, "coco_stuff", [0, 181, 255, 12], ["person", "wood", None, "stop sign"]),
    (_stuff_maps, "coco_stuff", [0, 91, 255, 89], ["person", "banner", None, "toothbrush"]),
    (_stuff_train_ids, "coco_stuff", [0, 170, 255, 80], ["person", "wood", None, "banner"]),
    (_stuff_10k, "coco_stuff", [0, 171, 1, 81], [None, "wood", "person", "banner"]),
    (_camvid, "camvid", [0, 10, 11, 1], ["sky", "bicyclist", None, "building"]),
]
OPTIONS = ("pascal_context_59", "voc_segmentation_aug")


@pytest.mark.parametrize(("write", "layout", "values", "names"), LAYOUTS)
def test_values_become_classes(
    tmp_path: Path,
    write: Callable[[Path, Sequence[int]], None],
    layout: Layout,
    values: list[int],
    names: list[str | None],
) -> None:
    write(tmp_path, values)
    assert (segmentation_layout(tmp_path) == layout) is (layout not in OPTIONS)
    split = open_labels(tmp_path, "train", layout if layout in OPTIONS else None)
    assert split.layout == layout
    image, label_file = split.pairs[0]
    assert image.is_file()
    labels = read_labels(label_file, split.rule)[0].tolist()
    if layout == "voc_segmentation_aug":
        labels, names = labels[:2], names[:2]
    assert [None if label == 255 else split.rule.classes[label] for label in labels] == names


def test_the_additional_label_maps_of_voc(tmp_path: Path) -> None:
    _voc_aug(tmp_path, [1, 1, 1, 1])
    _text(tmp_path / "ImageSets/Segmentation/val.txt", "2007_000032\n")
    assert len(open_labels(tmp_path, "train").pairs) == 1
    folders = [
        labels.parent.name
        for _, labels in open_labels(tmp_path, "train", "voc_segmentation_aug").pairs
    ]
    assert folders == ["SegmentationClassAug", "SegmentationClass"]
    (pair,) = open_labels(tmp_path, "val", "voc_segmentation_aug").pairs
    assert pair[1].parent.name == "SegmentationClass"


def test_the_lists_of_the_additional_label_maps(tmp_path: Path) -> None:
    _voc_trainaug(tmp_path, [1, 1, 1, 1])
    for split in ("aug", "trainaug"):
        (pair,) = open_labels(tmp_path, split).pairs
        assert pair[1].parent.name == "SegmentationClassAug"
    reasons = [finding.reason for finding in check_dataset(tmp_path).findings]
    assert reasons
    assert not [reason for reason in reasons if reason.startswith("no label files")]


def test_label_maps_beside_other_annotations(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    _text(tmp_path / "annotations/train/a.xml", "<annotation/>")
    _text(tmp_path / "labels/train/a.txt", "0 0.5 0.5 0.1 0.1")
    (pair,) = open_labels(tmp_path, "train").pairs
    assert pair[1] == tmp_path / "masks/train/a.png"


def test_well_known_data_sets_have_colours(tmp_path: Path) -> None:
    _cityscapes(tmp_path, [7, 7, 7, 7])
    assert open_labels(tmp_path, "train").rule.palette == class_list("cityscapes").palette


def test_ade20k_is_known_by_its_classes(tmp_path: Path) -> None:
    _ade20k(tmp_path, [1, 1, 1, 1])
    assert open_labels(tmp_path, "train").rule.palette is None
    known = class_list("ade20k")
    rows = [f"{number}\t{name}, x" for number, name in enumerate(known.classes, 1)]
    _text(tmp_path / "objectInfo150.txt", "\n".join(["Idx\tName", *rows]))
    assert open_labels(tmp_path, "train").rule.palette == known.palette


def test_class_file_beside_camvids_folders(tmp_path: Path) -> None:
    _camvid(tmp_path, [0, 1, 1, 255])
    _text(tmp_path / "classes.json", '{"classes": ["land", "water"]}')
    split = open_labels(tmp_path, "train")
    assert (split.layout, split.rule.classes) == ("camvid", ("land", "water"))


@pytest.mark.parametrize("split", ["training", "train", "validation", "val", "test"])
def test_splits_have_several_names(tmp_path: Path, split: str) -> None:
    for name in ("training", "validation", "test"):
        _image(tmp_path / "images" / name / f"{name}.jpg")
        _labels(tmp_path / "annotations" / name / f"{name}.png", [0])
    _text(tmp_path / "classes.json", '{"classes": ["x"]}')
    (pair,) = open_labels(tmp_path, split).pairs
    assert pair[0].stem.startswith(split)


def test_a_data_set_directly_below_is_found(tmp_path: Path) -> None:
    _voc(tmp_path / "VOC2012", [1, 1, 1, 1])
    assert len(open_labels(tmp_path, "train").pairs) == 1
    assert len(open_labels(tmp_path, "train", "voc_segmentation").pairs) == 1
    _camvid(tmp_path / "camvid", [1, 1, 1, 1])
    with pytest.raises(ZigguratError, match=r"holds 2 data sets \(VOC2012, camvid\); name one"):
        open_labels(tmp_path, "train")


def test_an_image_without_labels(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    _image(tmp_path / "images/train/b.jpg")
    _image(tmp_path / "images/train/c.jpg")
    with pytest.raises(
        ZigguratError, match=r"b\.jpg has no counterpart .* in .*masks/train; .*\(2 such in all\)"
    ):
        open_labels(tmp_path, "train")


def test_labels_without_an_image(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    _labels(tmp_path / "masks/train/b.png", [0])
    with pytest.raises(ZigguratError, match=r"b\.png has no counterpart .* in .*images/train"):
        open_labels(tmp_path, "train")


def test_two_images_of_one_name(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    _image(tmp_path / "images/train/a.png")
    with pytest.raises(ZigguratError, match=r"a\.png: a\.jpg has the same name but for its suffix"):
        open_labels(tmp_path, "train")


def test_listed_files_that_are_missing(tmp_path: Path) -> None:
    _voc(tmp_path, [0, 1, 2, 0])
    _text(tmp_path / "ImageSets/Segmentation/train.txt", "2007_000032\n2007_000033\n")
    with pytest.raises(ZigguratError, match=r"2007_000033\.jpg: a list names it, but there is no"):
        open_labels(tmp_path, "train")
    _image(tmp_path / "JPEGImages/2007_000033.jpg")
    with pytest.raises(ZigguratError, match=r"2007_000033\.jpg has no counterpart"):
        open_labels(tmp_path, "train")
    (tmp_path / "ImageSets/Segmentation/train.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ZigguratError, match=r"list of images .*train\.txt cannot be read"):
        open_labels(tmp_path, "train")


def test_a_list_with_a_byte_order_mark_and_a_name_with_a_space(tmp_path: Path) -> None:
    _voc(tmp_path, [0, 1, 2, 0])
    for path in (*tmp_path.glob("JPEGImages/*"), *tmp_path.glob("SegmentationClass/*")):
        path.rename(path.with_stem("my photo"))
    listed = tmp_path / "ImageSets/Segmentation/train.txt"
    listed.write_text("my photo\n", encoding="utf-8-sig")
    assert [image.name for image, _ in open_labels(tmp_path, "train").pairs] == ["my photo.jpg"]


def test_empty_splits(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    (tmp_path / "images/val").mkdir()
    with pytest.raises(ZigguratError, match="images/val has no image files"):
        open_labels(tmp_path, "val")
    _image(tmp_path / "images/val/a.jpg")
    with pytest.raises(ZigguratError, match="masks/val has no label files; an image needs one"):
        open_labels(tmp_path, "val")
    with pytest.raises(ZigguratError, match="has no split 'test'; it has train, val"):
        open_labels(tmp_path, "test")


def test_matlab_files(tmp_path: Path) -> None:
    _image(tmp_path / "images/train2014/a.jpg")
    _text(tmp_path / "annotations/train2014/a.mat", "")
    with pytest.raises(ZigguratError, match=r"MATLAB files, .* COCO-Stuff 10k as downloaded \(im"):
        open_labels(tmp_path, "train")


def test_pascal_context_as_downloaded(tmp_path: Path) -> None:
    _image(tmp_path / "JPEGImages/2008_000002.jpg")
    _text(tmp_path / "trainval_merged.json", "{}")
    assert segmentation_layout(tmp_path) == "pascal_context"
    message = r"trainval_merged\.json has the labels of .* with `ziggurat data convert .* --format"
    options: tuple[Layout | None, ...] = (None, "pascal_context", "pascal_context_59")
    for layout in options:
        with pytest.raises(ZigguratError, match=message):
            open_labels(tmp_path, "train", layout)
    # Beside label maps that can be read it has to be asked for.
    _voc(tmp_path, [0, 1, 2, 0])
    assert segmentation_layout(tmp_path) == "voc_segmentation"
    with pytest.raises(ZigguratError, match=message):
        open_labels(tmp_path, "train", "pascal_context")
    _context(tmp_path, [0, 1, 2, 0])
    assert open_labels(tmp_path, "train").layout == "pascal_context"


def _coloured_camvid(root: Path, lines: str) -> None:
    _image(root / "701_StillsRaw_full/0001TP_006690.png")
    pixels = np.array([[[64, 128, 64], [0, 0, 0], [0, 128, 192], [64, 128, 64]]], dtype=np.uint8)
    (root / "LabeledApproved_full").mkdir()
    Image.fromarray(pixels).save(root / "LabeledApproved_full/0001TP_006690_L.png")
    _text(root / "label_colors.txt", lines)


def test_camvid_as_downloaded(tmp_path: Path) -> None:
    _coloured_camvid(tmp_path, "64 128 64\tAnimal\n0 128 192\t\tBicyclist\n0 0 0\tVoid\n\n")
    assert segmentation_layout(tmp_path) == "camvid"
    split = open_labels(tmp_path, "train")
    assert split.rule.classes == ("Animal", "Bicyclist")
    assert split.rule.palette == ((64, 128, 64), (0, 128, 192))
    _text(
        tmp_path / "label_colors.txt", "\ufeff64 128 64\tAnimal\n0 128 192\tBicyclist\n0 0 0\tVoid"
    )
    assert open_labels(tmp_path, "train").rule == split.rule
    ((image, label_file),) = split.pairs
    assert image.name == "0001TP_006690.png"
    assert read_labels(label_file, split.rule).tolist() == [[0, 255, 1, 0]]
    with pytest.raises(ZigguratError, match="it has train; validate on another one"):
        open_labels(tmp_path, "val")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("64 128 Animal\n", "has the line '64 128 Animal'; expected three levels of 0 to 255"),
        ("64 128 256 Animal\n", "expected three levels of 0 to 255 and a name"),
        ("0 0 0 Void\n", "names no class"),
    ],
)
def test_a_faulty_list_of_colours(tmp_path: Path, lines: str, message: str) -> None:
    _coloured_camvid(tmp_path, lines)
    with pytest.raises(ZigguratError, match=rf"label_colors\.txt .*{message}"):
        open_labels(tmp_path, "train")


@pytest.mark.parametrize(
    "table", ["Idx\tName\n2\twall\n", "Idx\tName\n", "wall, sky\nx\n", "I\tN\n1\ta\n2\ta\n"]
)
def test_a_faulty_class_list(tmp_path: Path, table: str) -> None:
    _ade20k(tmp_path, [1, 1, 1, 1])
    _text(tmp_path / "objectInfo150.txt", table)
    with pytest.raises(ZigguratError, match=r"objectInfo150\.txt must hold a header, then rows"):
        open_labels(tmp_path, "train")
    (tmp_path / "objectInfo150.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ZigguratError, match="cannot be read"):
        open_labels(tmp_path, "train")


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="does not exist; name the folder"):
        open_labels(tmp_path / "nowhere", "train")
    with pytest.raises(ZigguratError, match=r"no label maps are recognised in .* Cityscapes, "):
        open_labels(tmp_path, "train")
    _text(tmp_path / "file", "")
    with pytest.raises(ZigguratError, match="is a file"):
        open_labels(tmp_path / "file", "train")
    with pytest.raises(ZigguratError, match="has not the layout of Cityscapes"):
        open_labels(tmp_path, "train", "cityscapes")


def test_without_any_list_of_classes(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    (tmp_path / "classes.json").unlink()
    with pytest.raises(ZigguratError, match=r"says nothing about its classes: expected classes\.j"):
        open_labels(tmp_path, "train")


def test_label_maps_in_labels_are_not_yolo(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    (tmp_path / "masks").rename(tmp_path / "labels")
    assert find_datasets(tmp_path) == ((tmp_path, "label_folder"),)
    _text(tmp_path / "labels/train/a.txt", "0 0.5 0.5 0.2 0.2")
    assert {layout for _, layout in find_datasets(tmp_path)} == {"label_folder", "yolo"}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_own, "put its images into images/val and its label files into masks/val, or"),
        (_own_by_split, "put its images into val/images and its label files into val/annotations,"),
        (
            _own_without_splits,
            "into images/val and its label files into masks/val (and the others into images/train "
            "and masks/train), or validate on another one with --data.val_split train",
        ),
        (_own_of_mmsegmentation, "into img_dir/val and its label files into ann_dir/val, or"),
        (_cityscapes, "it has train; validate on another one with --data.val_split train"),
    ],
)
def test_a_missing_validation_split_says_what_to_do(
    tmp_path: Path, write: Callable[[Path, Sequence[int]], None], message: str
) -> None:
    write(tmp_path, [0, 1, 2, 0])
    with pytest.raises(ZigguratError) as raised:
        open_labels(tmp_path, "val")
    assert message in str(raised.value)


def test_other_data_are_no_ade20k(tmp_path: Path) -> None:
    _own(tmp_path, [0, 1, 2, 0])
    with pytest.raises(ZigguratError) as raised:
        open_labels(tmp_path, "train", "ade20k")
    assert "has no objectInfo150.txt, the list of ADE20K's classes" in str(raised.value)
    assert "Errno" not in str(raised.value)
