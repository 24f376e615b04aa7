"""Pascal VOC, YOLO and LabelMe: a data set in each means the same, and faults are named."""

import codecs
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ziggurat.data.check import check_dataset, find_datasets
from ziggurat.data.coco import CocoDetection
from ziggurat.data.convert import convert_to_coco
from ziggurat.data.detection_layouts import find_split
from ziggurat.data.preview import read_preview
from ziggurat.errors import ZigguratError
from ziggurat.types import Detections, Sample

SPLITS = {"train": ("a", "b"), "val": ("c",)}
WIDTH, HEIGHT = 50, 40
CAT, DOG = (10, 5, 30, 25), (0, 20, 50, 40)
"""Boxes of the objects of image a; b and c have the cat alone."""


def objects(name: str) -> list[tuple[str, tuple[int, int, int, int]]]:
    return [("cat", CAT), ("dog", DOG)] if name == "a" else [("cat", CAT)]


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    x1, y1, x2, y2 = box
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 40)).save(path)


def xml(name: str, *, extra: str = "", size: str | None = None) -> str:
    size = size or f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    found = "".join(
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in objects(name)
    )
    return f"<annotation><filename>{name}.png</filename>{size}{found}{extra}</annotation>"


def voc(root: Path) -> None:
    for split, names in SPLITS.items():
        listed = root / "ImageSets" / "Main" / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(names) + "\n")
        (root / "Annotations").mkdir(exist_ok=True)
        for name in names:
            image(root / "JPEGImages" / f"{name}.png")
            (root / "Annotations" / f"{name}.xml").write_text(xml(name))
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("a\nb\nc\n")
    (root / "ImageSets" / "Main" / "cat_train.txt").write_text("a 1\nb -1\n")


def voc_beside(root: Path) -> None:
    for split, names in SPLITS.items():
        for name in names:
            image(root / split / f"{name}.png")
            (root / split / f"{name}.xml").write_text(xml(name))


def rows(name: str) -> str:
    lines = []
    for label, (x1, y1, x2, y2) in objects(name):
        middle = ((x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT)
        sides = ((x2 - x1) / WIDTH, (y2 - y1) / HEIGHT)
        lines.append(f"{['cat', 'dog'].index(label)} {middle[0]} {middle[1]} {sides[0]} {sides[1]}")
    return "\n".join(lines) + "\n"


def yolo(root: Path) -> None:
    for split, names in SPLITS.items():
        for name in names:
            image(root / "images" / split / f"{name}.png")
            text = root / "labels" / split / f"{name}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(rows(name))
    (root / "data.yaml").write_text(
        "path: /elsewhere\ntrain: images/train\nval: images/val\nnc: 2\nnames: [cat, dog]\n"
    )


def yolo_by_split(root: Path) -> None:
    for split, names in SPLITS.items():
        folder = root / {"train": "train", "val": "valid"}[split]
        for name in names:
            image(folder / "images" / f"{name}.png")
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / f"{name}.txt").write_text(rows(name))
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnames:\n  0: cat\n  1: dog\n"
    )


def shapes(name: str) -> dict[str, object]:
    return {
        "version": "5.5.0",
        "imagePath": f"..\\photos\\{name}.png",
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        "imageData": None,
        "shapes": [
            {"label": label, "points": corners(box), "shape_type": "polygon", "group_id": None}
            for label, box in objects(name)
        ],
    }


def labelme(root: Path) -> None:
    for split, names in SPLITS.items():
        for name in names:
            image(root / split / f"{name}.png")
            (root / split / f"{name}.json").write_text(json.dumps(shapes(name)))


LAYOUTS = {
    "voc": ("voc", voc),
    "voc beside": ("voc", voc_beside),
    "yolo": ("yolo", yolo),
    "yolo by split": ("yolo", yolo_by_split),
    "labelme": ("labelme", labelme),
}


def plain(image: Image.Image, target: Detections) -> tuple[Tensor, Detections]:
    return pil_to_tensor(image) / 255, target


def open_split(root: Path, split: str, *, with_masks: bool = False) -> CocoDetection:
    files = find_split(root, split)
    return CocoDetection(*files, plain, train=False, keep_empty=True, with_masks=with_masks)


def reasons(root: Path) -> list[str]:
    return [f"{fault.file}: {fault.reason}" for fault in check_dataset(root).faults]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_means_the_same(tmp_path: Path, name: str) -> None:
    layout, write = LAYOUTS[name]
    write(tmp_path)
    assert find_datasets(tmp_path) == ((tmp_path, layout),)
    train, val = open_split(tmp_path, "train"), open_split(tmp_path, "val")
    assert train.classes == val.classes == ("cat", "dog")
    assert (len(train), len(val)) == (2, 1)
    item = train[0]
    assert isinstance(item, Sample) and isinstance(item.target, Detections)
    assert Path(item.info.path).name == "a.png"
    expected = torch.tensor([CAT, DOG]).float()
    assert torch.allclose(item.target.boxes, expected, atol=1e-4)
    assert item.target.labels.tolist() == [0, 1]
    assert train.sizes == [(HEIGHT, WIDTH)] * 2


@pytest.mark.parametrize("name", LAYOUTS)
def test_check_counts_and_shows(tmp_path: Path, name: str) -> None:
    LAYOUTS[name][1](tmp_path)
    check = check_dataset(tmp_path)
    assert reasons(tmp_path) == []
    assert {split.name for split in check.splits} in ({"train", "val"}, {"train", "valid"})
    assert [sum(split.per_class.values()) for split in check.splits] == [3, 1]
    preview = read_preview(check.examples[0])
    assert preview.objects is not None
    assert torch.allclose(preview.objects.boxes, torch.tensor([CAT, DOG]).float(), atol=1e-4)


@pytest.mark.parametrize("name", LAYOUTS)
def test_converted_it_is_a_coco_data_set(tmp_path: Path, name: str) -> None:
    LAYOUTS[name][1](tmp_path / "in")
    counts = convert_to_coco(tmp_path / "in", tmp_path / "out")
    assert counts == {"train": (2, 3), "val": (1, 1)}
    assert reasons(tmp_path / "out") == []
    before, after = (open_split(tmp_path / part, "train") for part in ("in", "out"))
    assert before.classes == after.classes
    for index in range(2):
        assert torch.equal(before.target(index).boxes, after.target(index).boxes)
    text = (tmp_path / "out/annotations/instances_train.json").read_text()
    assert "ziggurat" not in text and str(tmp_path) not in text


@pytest.mark.parametrize("name", LAYOUTS)
def test_byte_order_marks_are_passed_over(tmp_path: Path, name: str) -> None:
    layout, write = LAYOUTS[name]
    write(tmp_path)
    if layout != "yolo":
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
    for path in tmp_path.rglob("*.*"):
        if path.suffix in (".txt", ".xml", ".yaml", ".json"):
            path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert reasons(tmp_path) == []
    train = open_split(tmp_path, "train")
    assert (train.classes, len(train.target(0))) == (("cat", "dog"), 2)


def test_converting_keeps_splits_that_would_be_called_alike(tmp_path: Path) -> None:
    labelme(tmp_path / "in")
    shutil.copytree(tmp_path / "in/val", tmp_path / "in/valid")
    counts = convert_to_coco(tmp_path / "in", tmp_path / "out")
    assert counts == {"train": (2, 3), "val": (1, 1), "valid": (1, 1)}


def coco_beside(root: Path) -> None:
    """As Roboflow exports COCO: "valid" for val, and a class that only names the group."""
    for split, names in {"train": SPLITS["train"], "valid": SPLITS["val"]}.items():
        marked = [(number, *found) for number, name in enumerate(names) for found in objects(name)]
        ids = {"cat": 1, "dog": 2}
        content = {
            "images": [
                {"id": number, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
                for number, name in enumerate(names)
            ],
            "annotations": [
                {
                    "id": place,
                    "image_id": number,
                    "category_id": ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "segmentation": [],
                }
                for place, (number, label, (x1, y1, x2, y2)) in enumerate(marked)
            ],
            "categories": [
                {"id": 0, "name": "animals", "supercategory": "none"},
                *({"id": i, "name": n, "supercategory": "animals"} for n, i in ids.items()),
            ],
        }
        for name in names:
            image(root / split / f"{name}.png")
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))


def test_coco_files_beside_their_images(tmp_path: Path) -> None:
    coco_beside(tmp_path)
    assert find_datasets(tmp_path) == ((tmp_path, "coco"),)
    train, val = open_split(tmp_path, "train"), open_split(tmp_path, "val")
    assert train.classes == val.classes == ("animals", "cat", "dog")
    assert torch.equal(train.target(0).boxes, torch.tensor([CAT, DOG]).float())
    assert (len(val), val.folder) == (1, tmp_path / "valid")
    check = check_dataset(tmp_path)
    assert [split.name for split in check.splits] == ["train", "valid"]
    assert check.faults == ()
    assert "class 'animals' is empty" in check.findings[0].reason
    with pytest.raises(ZigguratError, match="has no split 'test' .*; it has train, valid"):
        find_split(tmp_path, "test")


@pytest.mark.parametrize("table", ["names: [cat, dog]\n", "train: images\nnames: [cat, dog]\n"])
def test_yolo_without_splits_is_for_training(tmp_path: Path, table: str) -> None:
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels").mkdir(exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text(rows(name))
    (tmp_path / "data.yaml").write_text(table)
    assert find_datasets(tmp_path) == ((tmp_path, "yolo"),)
    train = open_split(tmp_path, "train")
    assert len(train) == 2
    assert torch.allclose(train.target(0).boxes, torch.tensor([CAT, DOG]).float(), atol=1e-4)
    (split,) = check_dataset(tmp_path).splits
    assert (split.name, split.num_images) == ("train", 2)
    advice = "divide it as in docs/data.md, or validate on another one with --data.val_split train"
    with pytest.raises(ZigguratError, match=f"YOLO. has no split 'val'; it has train; {advice}"):
        find_split(tmp_path, "val")
    for path in (*(tmp_path / "labels").iterdir(), tmp_path / "data.yaml"):
        path.unlink()
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ZigguratError, match="no data set is recognised"):
        find_datasets(tmp_path)


def test_a_data_set_one_folder_further_down_is_named(tmp_path: Path) -> None:
    voc(tmp_path / "VOCdevkit" / "VOC2007")
    (tmp_path / "VOCdevkit" / "other").mkdir()
    found = tmp_path / "VOCdevkit" / "VOC2007"
    with pytest.raises(ZigguratError, match=rf"did you mean {found}\?$"):
        find_split(tmp_path / "VOCdevkit", "train")
    with pytest.raises(ZigguratError, match="`ziggurat data check .*` says what it is"):
        find_split(tmp_path / "VOCdevkit" / "other", "train")


def test_outlines_are_masks(tmp_path: Path) -> None:
    labelme(tmp_path / "labelme")
    yolo(tmp_path / "yolo")
    path = tmp_path / "yolo/labels/train/a.txt"
    path.write_text("0 0.2 0.125 0.6 0.125 0.6 0.625 0.2 0.625\n" + rows("a").splitlines()[1])
    masks = open_split(tmp_path / "labelme", "train", with_masks=True).target(0).masks
    assert masks is not None
    assert masks.windows.tolist() == [[10, 5, 20, 20], [0, 20, 50, 20]]
    with pytest.raises(ZigguratError, match=r"a.txt: line 2 \(dog\) has no usable mask: it has no"):
        open_split(tmp_path / "yolo", "train", with_masks=True)
    path.write_text(path.read_text().splitlines()[0])
    (tmp_path / "yolo/labels/train/b.txt").unlink()
    masks = open_split(tmp_path / "yolo", "train", with_masks=True).target(0).masks
    assert masks is not None and masks.windows.tolist() == [[10, 5, 20, 20]]


def test_other_shapes_of_labelme(tmp_path: Path) -> None:
    labelme(tmp_path)
    content = shapes("a")
    content["shapes"] = [
        {"label": "cat", "points": [[30, 25], [10, 5]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[20, 20], [25, 20]], "shape_type": "circle"},
        {"label": "dog", "points": corners((0, 0, 4, 4)), "shape_type": "polygon", "group_id": 3},
        {"label": "dog", "points": corners((9, 9, 12, 12)), "shape_type": "polygon", "group_id": 3},
    ]
    (tmp_path / "train/a.json").write_text(json.dumps(content))
    target = open_split(tmp_path, "train", with_masks=True).target(0)
    assert target.boxes[[0, 2]].tolist() == [[10, 5, 30, 25], [0, 0, 12, 12]]
    assert torch.allclose(target.boxes[1], torch.tensor([15.0, 15, 25, 25]), atol=0.1)
    assert target.masks is not None
    areas = target.masks.full().sum(dim=(1, 2)).tolist()
    assert areas[0] == 400 and abs(areas[1] - 78.5) < 8 and areas[2] == 25


def test_a_flat_folder_of_labelme_is_the_training_split(tmp_path: Path) -> None:
    labelme(tmp_path / "all")
    shutil.move(tmp_path / "all/train", tmp_path / "flat")
    assert len(open_split(tmp_path / "flat", "train")) == 2
    with pytest.raises(ZigguratError, match=r"LabelMe\) has no split 'val'; it has train"):
        open_split(tmp_path / "flat", "val")


def test_voc_without_lists_is_the_training_split(tmp_path: Path) -> None:
    voc(tmp_path)
    shutil.rmtree(tmp_path / "ImageSets")
    (tmp_path / "Annotations").rename(tmp_path / "annotations")
    (tmp_path / "JPEGImages").rename(tmp_path / "images")
    assert find_datasets(tmp_path) == ((tmp_path, "voc"),)
    assert reasons(tmp_path) == []
    assert len(open_split(tmp_path, "train")) == 3


def test_classes_txt_gives_the_order(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "classes.txt").write_text("dog\ncat\nbird\n")
    assert open_split(tmp_path, "val").classes == ("dog", "cat", "bird")
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(ZigguratError, match=r"a.xml: object 1 \(cat\): unknown class 'cat'; the 1"):
        open_split(tmp_path, "train")
    (tmp_path / "classes.txt").write_text("dog\ndog\n")
    with pytest.raises(ZigguratError, match="must name every class once"):
        open_split(tmp_path, "train")


def test_difficult_objects_are_left_out_and_counted(tmp_path: Path) -> None:
    voc(tmp_path)
    path = tmp_path / "Annotations/a.xml"
    path.write_text(xml("a").replace("<difficult>0", "<difficult>1", 1))
    train = open_split(tmp_path, "train")
    assert train.target(0).labels.tolist() == [1]
    assert train.file.left_out == {"difficult": 1}


def test_boxes_counted_from_zero_stay_inside(tmp_path: Path) -> None:
    voc(tmp_path)
    path = tmp_path / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmin>1</xmin>", "<xmin>0</xmin>"))
    assert open_split(tmp_path, "train").target(0).boxes[1, 0] == 0


def test_sizes_that_are_not_stated_are_those_of_the_file(tmp_path: Path) -> None:
    voc(tmp_path)
    empty = "<size><width>0</width><height>0</height></size>"
    (tmp_path / "Annotations/a.xml").write_text(xml("a", size=empty))
    assert open_split(tmp_path, "train").sizes[0] == (HEIGHT, WIDTH)


def box(**values: str) -> str:
    edges = {"xmin": "1", "ymin": "1", "xmax": "9", "ymax": "9"} | values
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in edges.items())
    return f"<object><name>cat</name><bndbox>{inside}</bndbox></object>"


BOMB = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<annotation>", "no valid XML"),
        ("", "no valid XML"),
        ("<kml></kml>", "holds <kml>, not the <annotation>"),
        (BOMB, "declares a document type"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "unknown encoding: klingon"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        (xml("a", extra="<object><name></name></object>"), "object 3 has no name"),
        (xml("a", extra="<object><name>cat</name></object>"), "object 3 (cat) has the xmin None"),
        (xml("a", extra=box(xmax="nan")), "object 3 (cat) has the xmax 'nan'"),
        (xml("a", extra=box(ymin="inf")), "object 3 (cat) has the ymin 'inf'"),
        (xml("a", extra=box(xmin="x")), "object 3 (cat) has the xmin 'x'"),
    ],
)
def test_faulty_xml(tmp_path: Path, text: str, reason: str) -> None:
    voc(tmp_path)
    (tmp_path / "Annotations/a.xml").write_text(text)
    found = reasons(tmp_path)
    assert found[0].startswith("Annotations/a.xml: ") and reason in found[0]
    with pytest.raises(ZigguratError) as caught:
        find_split(tmp_path, "train")
    assert str(tmp_path / "Annotations/a.xml") in str(caught.value)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "reason", "left_out"),
    [
        ({"xmax": "60"}, "box outside the image by 10 pixels", None),
        ({"xmin": "60", "xmax": "70"}, "box outside the image by 20", "box outside the image"),
        ({"xmin": "9", "xmax": "5"}, "box without area", "box below 1 x 1 pixel"),
    ],
)
def test_boxes_that_are_wrong_in_voc(
    tmp_path: Path, values: dict[str, str], reason: str, left_out: str | None
) -> None:
    voc(tmp_path)
    (tmp_path / "Annotations/a.xml").write_text(xml("a", extra=box(**values)))
    found = reasons(tmp_path)
    assert found[0].startswith(f"Annotations/a.xml: object 3 (cat): {reason}")
    expected = {} if left_out is None else {left_out: 1}
    assert open_split(tmp_path, "train").file.left_out == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "4 numbers; expected class, x, y, width, height"),
        ("0 0.5 0.5 0.2 0.2 0.9", "6 numbers"),
        ("0 0.1 0.1 0.5 0.5 0.2 0.3 0.4", "8 numbers"),
        ("2 0.5 0.5 0.2 0.2", "the class 2 is out of range; the 2 classes are 0 to 1"),
        ("-1 0.5 0.5 0.2 0.2", "the class -1 is out of range"),
        ("0.5 0.5 0.5 0.2 0.2", "the class 0.5 is out of range"),
        ("cat 0.5 0.5 0.2 0.2", "the class cat is out of range"),
        ("0 nan 0.5 0.2 0.2", "'nan' is no finite number"),
        ("0 25 20 10 10", "25 is no fraction of the image's side"),
        ("0 0.5 -0.5 0.2 0.2", "-0.5 is no fraction"),
    ],
)
def test_faulty_line_of_yolo(tmp_path: Path, line: str, reason: str) -> None:
    yolo(tmp_path)
    path = tmp_path / "labels/train/a.txt"
    path.write_text(path.read_text() + line + "\n")
    found = reasons(tmp_path)
    assert len(found) == 1
    assert found[0].startswith("labels/train/a.txt: line 3: ") and reason in found[0]
    with pytest.raises(ZigguratError, match="data check .* names every fault"):
        find_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "does not name its classes"),
        ("names: []\n", "must list a name for each class"),
        ("names: {a: cat}\n", "must list a name for each class"),
        ("names: [cat, cat]\n", "has a name twice"),
        ("names: [no, cat]\n", "put quotes around that name"),
        ("names: [cat, dog]\nkpt_shape: 17\n", "'kpt_shape' is 17; expected the number of keyp"),
        ("names: [cat, dog]\nkpt_shape: [17, 4]\n", r"'kpt_shape' is \[17, 4\]; expected"),
        ("- cat\n", "must be a table"),
        ("names: [cat\n", "cannot be read as YAML"),
    ],
)
def test_faulty_names_of_yolo(tmp_path: Path, text: str | None, reason: str) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    if text is not None:
        (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ZigguratError, match=reason) as caught:
        find_split(tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_keypoints_of_yolo_are_no_corners(tmp_path: Path) -> None:
    yolo(tmp_path)
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("kpt_shape: [1, 2]\n")
    for path in tmp_path.glob("labels/*/*.txt"):
        path.write_text("".join(f"{line} 0.4 0.3\n" for line in path.read_text().splitlines()))
    expected = torch.tensor([CAT, DOG]).float()
    assert torch.allclose(open_split(tmp_path, "train").target(0).boxes, expected, atol=1e-4)
    (tmp_path / "labels/train/a.txt").write_text(rows("a"))
    assert "line 1: 5 numbers; expected 7: class, x, y, width, height, and" in reasons(tmp_path)[0]


def test_names_of_yolo_without_a_table(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "obj.names").write_text("cat\ndog\n", encoding="utf-8-sig")
    assert open_split(tmp_path, "val").classes == ("cat", "dog")


def test_images_without_text_and_text_without_image(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "labels/train/b.txt").unlink()
    assert len(open_split(tmp_path, "train").target(1)) == 0
    (tmp_path / "labels/train/z.txt").write_text("")
    assert reasons(tmp_path) == ["labels/train/z.txt: there is no image that it belongs to"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": [[1, 2], [3, 4]]}, "shape 1 (cat): a polygon of 2 points"),
        ({"points": [[1, 2], [3, 4], [5, float("nan")]]}, "its points are no list of finite x, y"),
        ({"points": [[1, 2], [3, 4], [5]]}, "its points are no list of finite x, y"),
        ({"points": None}, "its points are no list of finite x, y"),
        ({"shape_type": "line"}, "a shape of the type 'line' has no area"),
        ({"shape_type": "circle"}, "a circle of 4 points; expected two"),
        ({"label": ""}, "shape 1 has the label ''"),
        ({"label": 5}, "shape 1 has the label 5"),
        ({"points": corners((10, 5, 70, 25))}, "shape 1 (cat): box outside the image by 20"),
    ],
)
def test_faulty_shape(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    labelme(tmp_path)
    content = shapes("a")
    first = content["shapes"]
    assert isinstance(first, list)
    first[0] |= change
    (tmp_path / "train/a.json").write_text(json.dumps(content))
    found = reasons(tmp_path)
    assert found[0].startswith("train/a.json: ") and reason in found[0]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"shapes": 3}'])
def test_faulty_json_of_labelme(tmp_path: Path, text: str) -> None:
    labelme(tmp_path)
    (tmp_path / "train/b.json").write_text(text)
    (found,) = reasons(tmp_path)
    assert found.startswith("train/b.json: it ")


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_and_resized_images(tmp_path: Path, name: str) -> None:
    LAYOUTS[name][1](tmp_path)
    (path,) = tmp_path.rglob("a.png")
    path.unlink()
    if name.startswith("yolo"):  # which states no sizes and names no files
        assert reasons(tmp_path)[0].endswith("a.txt: there is no image that it belongs to")
        return
    assert any(reason.endswith("a.png: there is no such file") for reason in reasons(tmp_path))
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(path)
    (found,) = reasons(tmp_path)
    assert "its size 41 x 50 (height x width) differs from 40 x 50 in " in found
    assert found.endswith(("a.xml", "a.json"))


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    yolo(tmp_path)
    turned = Image.new("RGB", (HEIGHT, WIDTH), (90, 120, 40))  # a photo stored on its side
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "images/train/a.png", exif=exif)
    train = open_split(tmp_path, "train")
    assert train.sizes[0] == (HEIGHT, WIDTH)
    assert reasons(tmp_path) == []
    assert torch.allclose(train.target(0).boxes[0], torch.tensor(CAT).float(), atol=1e-4)


def test_an_image_described_twice(tmp_path: Path) -> None:
    voc_beside(tmp_path)
    (tmp_path / "train/b.xml").write_text(xml("a"))
    found = reasons(tmp_path)
    assert "train/b.xml: it describes the image a.png, as train/a.xml does already" in found


def test_a_list_that_names_no_file(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\n\nq 1\n")
    (found,) = reasons(tmp_path)
    assert found == "ImageSets/Main/train.txt: line 4 names q, but there is no q.xml"


def test_a_list_in_another_encoding(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "ImageSets/Main/train.txt").write_bytes("é\n".encode("latin-1"))
    assert "train.txt cannot be read: 'utf-8' codec" in reasons(tmp_path)[0]
    with pytest.raises(ZigguratError, match=r"list of images .*train\.txt cannot be read"):
        find_split(tmp_path, "train")


def test_a_name_with_a_space_in_a_list(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "Annotations/a.xml").rename(tmp_path / "Annotations/a 1.xml")
    (tmp_path / "ImageSets/Main/train.txt").write_text("a 1\nb 1\n")
    assert len(open_split(tmp_path, "train")) == 2


def test_lists_about_one_class_are_told_by_their_lines(tmp_path: Path) -> None:
    voc(tmp_path)
    lists = tmp_path / "ImageSets/Main"
    (lists / "fold0_train.txt").write_text("a\n")
    assert len(open_split(tmp_path, "fold0_train")) == 1
    with pytest.raises(ZigguratError, match="has no split 'cat_train'"):
        find_split(tmp_path, "cat_train")


def test_unknown_split(tmp_path: Path) -> None:
    voc(tmp_path)
    with pytest.raises(ZigguratError, match=r"Pascal VOC\) has no split 'tes'; it has .*train"):
        find_split(tmp_path, "tes")
    assert len(open_split(tmp_path, "trainval")) == 3


def test_no_data_set_at_all(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZigguratError, match="has neither .*instances_train.json .*nor .*LabelMe"):
        find_split(tmp_path / "empty", "train")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda root: (root / "out").mkdir() or (root / "out/x").touch(), "is not empty"),
        (lambda root: (root / "out").touch(), "is not empty"),
        (lambda root: (root / "in/train/a.png").unlink(), "cannot convert .*a.png"),
        (lambda root: (root / "in/train/a.json").write_text("{"), "cannot be read as JSON"),
    ],
)
def test_conversion_that_fails_leaves_nothing(
    tmp_path: Path, prepare: Callable[[Path], object], reason: str
) -> None:
    labelme(tmp_path / "in")
    prepare(tmp_path)
    with pytest.raises(ZigguratError, match=reason):
        convert_to_coco(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out/annotations").exists()


def test_coco_is_not_converted_to_coco(tmp_path: Path) -> None:
    labelme(tmp_path / "in")
    convert_to_coco(tmp_path / "in", tmp_path / "out")
    with pytest.raises(ZigguratError, match="has the layout 'coco'; what is converted"):
        convert_to_coco(tmp_path / "out", tmp_path / "again")


def test_data_of_other_tasks_are_told(tmp_path: Path) -> None:
    (tmp_path / "classes/train/ant").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "classes/train/ant/0.png")
    with pytest.raises(ZigguratError, match="it has class folders, which train a classifier"):
        find_split(tmp_path / "classes", "train")
    for part in ("images", "annotations"):
        (tmp_path / "maps" / part / "train").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "maps" / part / "train/0.png")
    with pytest.raises(ZigguratError, match=r"has label maps, which train a segmenter.* boxes"):
        find_split(tmp_path / "maps", "train")
