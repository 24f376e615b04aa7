"""Masks of objects as Pascal VOC and Cityscapes publish them."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ziggurat.data.check import check_layout, find_datasets
from ziggurat.data.coco import CocoDetection
from ziggurat.data.coco_file import Annotations
from ziggurat.data.convert import convert_to_coco
from ziggurat.data.detection_layouts import find_split
from ziggurat.data.findings import Layout
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.segmentation import EvalSegmentation
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import FitAligned
from ziggurat.types import Detections

VOC: Layout = "voc_instances"
CITYSCAPES: Layout = "cityscapes_instances"
DOG, PERSON = [10, 8, 40, 40], [40, 20, 80, 60]


def plain(image: Image.Image, target: Detections) -> tuple[Tensor, Detections]:
    return pil_to_tensor(image) / 255, target


def open_split(root: Path, split: str = "train", *, with_masks: bool = True) -> CocoDetection:
    files = find_split(root, split, with_masks=with_masks)
    return CocoDetection(*files, plain, train=False, keep_empty=True, with_masks=with_masks)


def faults(root: Path, layout: Layout) -> list[str]:
    return [f"{fault.file}: {fault.reason}" for fault in check_layout(root, layout).faults]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with Image.open(path) as image:
        values = np.array(image)
    Image.fromarray(change(values)).save(path)


# Pascal VOC


def test_voc_masks_have_the_boxes_of_the_xml(voc_folder: Path) -> None:
    data = open_split(voc_folder)
    assert len(data) == 4
    assert len(data.classes) == 20 and data.classes[11] == "dog"
    found = data.target(0)
    assert found.boxes.tolist() == [DOG, PERSON]
    assert [data.classes[label] for label in found.labels.tolist()] == ["dog", "person"]
    assert found.masks is not None
    dog, person = found.masks.full()
    assert dog[8:40, 10:40].all() and dog.sum() == 32 * 30
    assert person[20:60, 42:80].all() and person.sum() == 40 * 38  # without its border


def test_voc_without_xml_has_the_boxes_of_the_masks(voc_folder: Path) -> None:
    shutil.rmtree(voc_folder / "Annotations")
    assert open_split(voc_folder).target(0).boxes.tolist() == [DOG, [42, 20, 80, 60]]
    # Nothing else tells of boxes, so that a detector takes those of the masks, too.
    assert len(open_split(voc_folder, with_masks=False).classes) == 20


def xml(*objects: tuple[str, list[int], int]) -> str:
    found = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1 + 1}"
        f"</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2), difficult in objects
    )
    return f"<annotation>{found}</annotation>"


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        # In another order than the numbers: by class and overlap.
        (xml(("person", PERSON, 0), ("dog", DOG, 0)), [DOG, PERSON]),
        # By its number though another of its class overlaps more.
        (xml(("dog", [10, 8, 20, 18], 0), ("dog", DOG, 0)), [[10, 8, 20, 18], [42, 20, 80, 60]]),
        # Too little overlap, and none at all.
        (xml(("cat", DOG, 0), ("dog", [0, 0, 90, 70], 0)), [DOG, [42, 20, 80, 60]]),
        (xml(("dog", [60, 50, 70, 60], 0)), [DOG, [42, 20, 80, 60]]),
        # Objects without a mask are left out.
        (xml(("dog", DOG, 0), ("person", PERSON, 0), ("cat", DOG, 0)), [DOG, PERSON]),
    ],
)
def test_objects_of_masks_and_of_xml(voc_folder: Path, text: str, boxes: list[list[int]]) -> None:
    (voc_folder / "Annotations" / "a.xml").write_text(text)
    assert open_split(voc_folder).target(0).boxes.tolist() == boxes


def test_difficult_objects_of_masks_are_left_out_and_counted(voc_folder: Path) -> None:
    text = xml(("dog", DOG, 1), ("person", PERSON, 0))
    (voc_folder / "Annotations" / "a.xml").write_text(text)
    data = open_split(voc_folder)
    assert data.target(0).boxes.tolist() == [PERSON]
    assert data.file.left_out == {"difficult": 1}


def test_numbers_without_a_pixel_are_no_objects(voc_folder: Path) -> None:
    path = voc_folder / "SegmentationObject" / "a.png"
    rewrite(path, lambda values: np.where(values == 1, 0, values).astype(np.uint8))
    assert open_split(voc_folder).target(0).boxes.tolist() == [PERSON]  # of number 2, as before
    rewrite(path, np.zeros_like)
    assert len(open_split(voc_folder).target(0)) == 0
    assert faults(voc_folder, VOC) == []  # the other images have objects


def test_masks_of_voc_with_classes_of_ones_own(voc_folder: Path) -> None:
    (voc_folder / "classes.txt").write_text("cat\ndog\n")
    stored = np.arange(256, dtype=np.uint8)
    stored[[12, 15]] = 2, 1  # of the dog and of the person
    for path in (voc_folder / "SegmentationClass").iterdir():
        rewrite(path, lambda values: stored[values])
    data = open_split(voc_folder)
    assert data.classes == ("cat", "dog")
    assert data.target(0).labels.tolist() == [1, 0]
    # The names of the XML are still those of VOC: only the dog is described.
    assert data.target(0).boxes.tolist() == [DOG, [42, 20, 80, 60]]


def of_two_classes(values: np.ndarray) -> np.ndarray:
    values[8:10, 10:12] = 3
    return values


def of_no_class(values: np.ndarray) -> np.ndarray:
    values[values == 12] = 0
    return values


def in_colours(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, axis=2)


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("Class", of_two_classes, "object 1 has pixels of bird and dog in SegmentationClass/a.png"),
        ("Class", of_no_class, "object 1 has pixels of no class in SegmentationClass/a.png"),
        ("Class", lambda v: v + (v == 15) * np.uint8(6), "the value 21; expected 0..20, or 255"),
        ("Class", lambda v: v[:-1], "69 x 90 .* differs from 70 x 90 of the map in Segmentation"),
        ("Class", in_colours, "it has the mode RGB; expected one channel"),
        ("Object", in_colours, "it has the mode RGB; expected one channel"),
    ],
)
def test_faulty_masks_of_voc(
    voc_folder: Path, file: str, change: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    rewrite(voc_folder / f"Segmentation{file}" / "a.png", change)
    with pytest.raises(ZigguratError, match=reason):
        open_split(voc_folder)
    (fault,) = [fault for fault in faults(voc_folder, VOC) if "/a.png: " in fault]
    assert fault.startswith(f"Segmentation{'Object' if 'object 1' in reason else file}/a.png: ")


@pytest.mark.parametrize("file", ["SegmentationClass/a.png", "SegmentationObject/a.png"])
def test_missing_and_damaged_masks_of_voc(voc_folder: Path, file: str) -> None:
    (voc_folder / file).write_bytes(b"")
    assert f"{file}: it is empty (0 bytes)" in faults(voc_folder, VOC)
    (voc_folder / file).unlink()
    assert f"{file}: there is no such file" in faults(voc_folder, VOC)
    with pytest.raises(ZigguratError, match="there is no such file"):
        open_split(voc_folder)


def test_photos_and_xml_beside_masks(voc_folder: Path) -> None:
    Image.new("RGB", (90, 69)).save(voc_folder / "JPEGImages" / "a.jpg")
    (voc_folder / "JPEGImages" / "b.jpg").unlink()
    (voc_folder / "Annotations" / "c.xml").write_text("<annotation>")
    (voc_folder / "Annotations" / "d.xml").write_text("<annotation><object/></annotation>")
    (voc_folder / "ImageSets" / "Segmentation" / "val.txt").write_text("e\ne\nf\n")
    found = "\n".join(faults(voc_folder, VOC))
    assert "JPEGImages/a.jpg: its size 69 x 90 (height x width) differs from 70 x 90 in " in found
    assert "JPEGImages/b.jpg: there is no such file" in found
    assert "Annotations/c.xml: it is no valid XML" in found
    assert "Annotations/d.xml: object 1 has no name" in found
    assert "SegmentationObject/e.png: it describes the image e.jpg, as " in found


def test_the_task_decides_what_is_read(voc_folder: Path) -> None:
    layouts = [layout for _, layout in find_datasets(voc_folder)]
    assert layouts == ["voc", VOC, "voc_segmentation"]
    boxes = open_split(voc_folder, with_masks=False)
    assert boxes.classes == ("dog", "person")  # those that the XML files name
    assert boxes.file.segments is None
    assert open_split(voc_folder).file.segments is not None


@pytest.mark.parametrize("year", ["VOC2007", "VOC2012"])
def test_lists_of_boxes_beside_lists_of_masks(voc_folder: Path, year: str) -> None:
    root = voc_folder.rename(voc_folder.parent / f"of {year}" if year == "VOC2007" else voc_folder)
    lists = root / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text("a\nb\nc\nd\ne\nf\n")
    (lists / "test.txt").write_text("f\n")
    (lists / "dog_test.txt").write_text("f  1\n")
    counts = {
        split: len(open_split(root, split, with_masks=False)) for split in ("trainval", "test")
    }
    assert counts == {"trainval": 6, "test": 1}
    with pytest.raises(ZigguratError, match="has no split 'test'; it has train, val"):
        open_split(root, "test")


# Semantic Boundaries Dataset


@pytest.fixture
def sbd_folder(voc_folder: Path) -> Path:
    """The images of `voc_folder`, their borders being background."""
    root = voc_folder.parent / "sbd"
    shutil.copytree(voc_folder / "JPEGImages", root / "img")
    (root / "inst").mkdir()
    for path in sorted((voc_folder / "SegmentationObject").iterdir()):
        with Image.open(path) as image:
            numbers = np.array(image) % 255
        write_mat(root / "inst" / f"{path.stem}.mat", numbers, [[12], [15]])
    for path in sorted((voc_folder / "ImageSets" / "Segmentation").iterdir()):
        shutil.copy(path, root)
    return root


def write_mat(path: Path, numbers: object, categories: object) -> None:
    struct = {"Segmentation": numbers, "Categories": np.array(categories)}
    scipy.io.savemat(path, {"GTinst": struct})


def test_masks_of_sbd_are_those_of_voc(sbd_folder: Path, voc_folder: Path) -> None:
    assert find_datasets(sbd_folder) == ((sbd_folder, "sbd"),)
    assert faults(sbd_folder, "sbd") == []
    ours, theirs = open_split(sbd_folder), open_split(voc_folder)
    assert (len(ours), ours.classes) == (4, theirs.classes)
    found, expected = ours.target(0), theirs.target(0)
    assert found.boxes.tolist() == [DOG, [42, 20, 80, 60]]
    assert torch.equal(found.labels, expected.labels)
    assert found.masks is not None and expected.masks is not None
    assert torch.equal(found.masks.full(), expected.masks.full())


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: path.write_bytes(b"MATLAB?"), "it cannot be read .*; expected GTinst with"),
        (lambda path: scipy.io.savemat(path, {"GTcls": 3}), "it cannot be read .KeyError: 'GTinst"),
        (lambda path: write_mat(path, np.ones((70, 90)), [[1]]), "are no whole numbers"),
        (lambda path: write_mat(path, [["a"]], [[1]]), "are no whole numbers"),
        (
            lambda path: write_mat(path, np.full((70, 90), 2, dtype=np.uint8), [[1]]),
            "it has the object 2, but Categories of 1 objects",
        ),
        (
            lambda path: write_mat(path, np.full((70, 90), 1, dtype=np.uint8), [[21]]),
            "an object has the class 21; expected 1..20",
        ),
    ],
)
def test_faulty_files_of_sbd(
    sbd_folder: Path, write: Callable[[Path], object], reason: str
) -> None:
    write(sbd_folder / "inst" / "a.mat")
    with pytest.raises(ZigguratError, match=reason):
        open_split(sbd_folder)
    (fault,) = [fault for fault in faults(sbd_folder, "sbd") if fault.startswith("inst/a.mat: ")]
    assert fault


def test_sbd_without_scipy(sbd_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ZigguratError, match=r"read with scipy, .*pip install 'ziggurat\[train\]'"):
        open_split(sbd_folder)


# Cityscapes


def test_objects_of_cityscapes(cityscapes_folder: Path) -> None:
    data = open_split(cityscapes_folder)
    assert data.classes == (
        *("person", "rider", "car", "truck"),
        *("bus", "train", "motorcycle", "bicycle"),
    )
    assert Path(data.file.file_names[0]) == Path("aachen/aachen_000000_000019_leftImg8bit.png")
    found = data.target(0)
    assert found.labels.tolist() == [0, 2, 2]
    assert found.boxes.tolist() == [[84, 12, 96, 44], [8, 10, 40, 30], [40, 20, 80, 50]]
    assert found.masks is not None
    assert found.masks.full().sum(dim=(1, 2)).tolist() == [12 * 32, 32 * 20, 40 * 30]
    assert data.file.left_out == {"crowd": 4}


def test_crowds_and_ignored_pixels_are_kept_for_the_metric(cityscapes_folder: Path) -> None:
    source, _ = find_split(cityscapes_folder, "val", with_masks=True)
    assert isinstance(source, Annotations)
    images, objects = source.content["images"], source.content["annotations"]
    assert isinstance(images, list) and isinstance(objects, list)
    assert [(entry["iscrowd"], entry["bbox"]) for entry in objects[:2]] == [
        (1, [100, 12, 20, 18]),
        (0, [84, 12, 12, 32]),
    ]
    assert images[0]["ignored"]["size"] == [64, 128]


def test_cityscapes_is_read_for_every_task(cityscapes_folder: Path) -> None:
    layouts = [layout for _, layout in find_datasets(cityscapes_folder)]
    assert layouts == [CITYSCAPES, "cityscapes"]
    assert open_split(cityscapes_folder, with_masks=False).file.segments is None
    transform = EvalSegmentation(FitAligned())
    assert len(LabelFolder(cityscapes_folder, "train", transform, train=False).classes) == 19
    for path in cityscapes_folder.glob("gtFine/*/*/*_labelIds.png"):
        path.unlink()
    assert [layout for _, layout in find_datasets(cityscapes_folder)] == [CITYSCAPES]


@pytest.mark.parametrize("value", [34, 255, 999, 7001, 23000, 34000, 65535])
def test_unknown_numbers_of_cityscapes(cityscapes_folder: Path, value: int) -> None:
    path = sorted(cityscapes_folder.glob("gtFine/train/*/*_instanceIds.png"))[0]
    rewrite(path, lambda values: np.where(values == 24000, value, values).astype(np.uint16))
    reason = f"it has the value {value}; expected 0..33, or 1000 . class"
    with pytest.raises(ZigguratError, match=reason):
        open_split(cityscapes_folder)
    (fault,) = [text for text in faults(cityscapes_folder, CITYSCAPES) if "aachen_000000" in text]
    assert f"_gtFine_instanceIds.png: it has the value {value}" in fault


def test_files_of_cityscapes_that_are_missing_or_wrong(cityscapes_folder: Path) -> None:
    photos = cityscapes_folder / "leftImg8bit" / "train" / "aachen"
    maps = cityscapes_folder / "gtFine" / "train" / "aachen"
    stems = [f"aachen_{place:06}_000019" for place in range(4)]
    (photos / f"{stems[0]}_leftImg8bit.png").unlink()
    (maps / f"{stems[1]}_gtFine_instanceIds.png").unlink()
    Image.new("RGB", (128, 63)).save(photos / f"{stems[2]}_leftImg8bit.png")
    rewrite(maps / f"{stems[3]}_gtFine_instanceIds.png", lambda v: in_colours(v.astype(np.uint8)))
    found = faults(cityscapes_folder, CITYSCAPES)
    for start, reason in (
        (f"gtFine/train/aachen/{stems[0]}", "it has no counterpart of its name in leftImg8bit"),
        (f"leftImg8bit/train/aachen/{stems[1]}", "it has no counterpart of its name in gtFine"),
        (f"leftImg8bit/train/aachen/{stems[2]}", "its size 63 x 128 (height x width) differs"),
        (f"gtFine/train/aachen/{stems[3]}", "it has the mode RGB; expected one channel"),
    ):
        assert any(text.startswith(start) and reason in text for text in found), (start, found)
    with pytest.raises(ZigguratError, match="has no counterpart"):
        open_split(cityscapes_folder)


# Both


@pytest.mark.parametrize(("name", "counts"), [("voc", (8, 4)), ("cityscapes", (16, 8))])
def test_check_counts_the_objects_of_masks(
    request: pytest.FixtureRequest, name: str, counts: tuple[int, int]
) -> None:
    root = request.getfixturevalue(f"{name}_folder")
    check = check_layout(root, VOC if name == "voc" else CITYSCAPES)
    assert tuple(sum(split.per_class.values()) for split in check.splits) == counts
    assert check.examples[0].objects is not None
    assert all(thing.segment.is_runs for thing in check.examples[0].objects)
    assert not check.faults  # a part of a published data set need not have all classes
    assert any("is empty: no annotation has it" in note.reason for note in check.findings)


@pytest.mark.parametrize("name", ["voc", "cityscapes"])
def test_converted_masks_are_a_coco_data_set(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    root = request.getfixturevalue(f"{name}_folder")
    output = tmp_path / "coco"
    counts = convert_to_coco(root, output, with_masks=True)
    assert (
        counts == {"train": (4, 8), "val": (2, 4)}
        if name == "voc"
        else {
            "train": (4, 16),
            "val": (2, 8),
        }
    )
    before, after = open_split(root), open_split(output)
    assert before.classes == after.classes and before.sizes == after.sizes
    for index in range(4):
        old, new = before.target(index), after.target(index)
        assert torch.equal(old.boxes, new.boxes) and torch.equal(old.labels, new.labels)
        assert old.masks is not None and new.masks is not None
        assert torch.equal(old.masks.full(), new.masks.full())
    content = json.loads((output / "annotations" / "instances_val.json").read_text())
    assert ("ignored" in content["images"][0]) == (name == "cityscapes")


def test_boxes_are_converted_unless_masks_are_asked_for(voc_folder: Path, tmp_path: Path) -> None:
    convert_to_coco(voc_folder, tmp_path / "boxes")
    content = json.loads((tmp_path / "boxes" / "annotations" / "instances_train.json").read_text())
    assert "segmentation" not in content["annotations"][0]
    shutil.rmtree(voc_folder / "SegmentationObject")
    with pytest.raises(ZigguratError, match=r"\(Pascal VOC\) has no masks beside its boxes; leave"):
        convert_to_coco(voc_folder, tmp_path / "masks", with_masks=True)
