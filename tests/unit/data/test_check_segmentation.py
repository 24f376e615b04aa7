"""Faults of images with label maps: each one is named with its file and reason."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.data.check import check_dataset, check_layout, find_datasets
from ziggurat.data.findings import Finding
from ziggurat.data.preview import read_preview

LABEL = "annotations/training/a.png"


def _save_labels(root: Path, labels: np.ndarray) -> None:
    Image.fromarray(labels.astype(np.uint8)).save(root / LABEL)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for part in ("images", "annotations"):
        (tmp_path / part / "training").mkdir(parents=True)
    Image.new("RGB", (6, 4), (10, 200, 30)).save(tmp_path / "images/training/a.jpg")
    _save_labels(tmp_path, np.array([[0, 1, 2, 2, 255, 255]] * 4))
    table = "Idx\tRatio\tTrain\tVal\tName\n1\t0.5\t1\t0\twall\n2 \t0.5\t1\t0\tsky, air\n"
    (tmp_path / "objectInfo150.txt").write_text(table)
    return tmp_path


def _findings(root: Path) -> list[tuple[str, str, str]]:
    """What is found beside the missing validation split, which these tests do without."""
    found = [(finding.severity, finding.file, finding.reason) for finding in _all_findings(root)]
    return [finding for finding in found if not finding[2].startswith("no validation split")]


def _all_findings(root: Path) -> tuple[Finding, ...]:
    return check_dataset(root).findings


def test_a_good_data_set_is_counted(root: Path) -> None:
    check = check_dataset(root)
    assert check.layout == "ade20k"
    assert _findings(root) == []
    (split,) = check.splits
    assert (split.name, split.num_images, split.unit) == ("training", 1, "pixels")
    assert split.per_class == {"wall": 4, "sky": 8}
    assert split.images_per_class == {"wall": 1, "sky": 1}
    preview = read_preview(check.examples[0])
    assert preview.classes == ("wall", "sky")
    assert preview.label_map is not None
    assert preview.label_map[0].tolist() == [255, 0, 1, 1, 255, 255]


def test_a_missing_validation_split_is_a_note(root: Path) -> None:
    (finding,) = _all_findings(root)
    assert (finding.severity, finding.file) == ("note", ".")
    assert finding.reason == (
        "no validation split, which a run needs: put its images into images/val and its label "
        "files into annotations/val"
    )
    for part, mode in (("images", "RGB"), ("annotations", "L")):
        (root / part / "validation").mkdir()
        Image.new(mode, (6, 4)).save(root / part / "validation" / "a.png")
    assert "no validation split" not in " ".join(found.reason for found in _all_findings(root))


def test_a_label_out_of_range(root: Path) -> None:
    Image.new("RGB", (6, 4)).save(root / "images/training/b.jpg")
    Image.fromarray(np.array([[1, 1, 2, 3, 9, 9]] * 4, dtype=np.uint8)).save(
        root / "annotations/training/b.png"
    )
    reason = "it has the labels 3, 9 in 12 pixels; expected 1..2, or 0 or 255 where nobody labelled"
    assert _findings(root) == [("fault", "annotations/training/b.png", reason)]


def test_an_empty_class(root: Path) -> None:
    _save_labels(root, np.array([[1, 1, 1, 1, 1, 1]] * 4))
    reason = "class 'sky' is empty: no pixel of this split has its label"
    assert _findings(root) == [("fault", "annotations/training", reason)]


def test_masks_of_0_and_255(root: Path) -> None:
    (root / "objectInfo150.txt").unlink()
    (root / "classes.json").write_text('{"classes": ["other", "road"]}')
    _save_labels(root, np.array([[0, 0, 255, 255, 255, 0]] * 4))
    notes = [reason for severity, _, reason in _findings(root) if severity == "note"]
    assert notes == [
        "only 'other' occurs beside unlabelled pixels; if 255 is a class, give every class its "
        "value with 'values' in classes.json"
    ]
    (root / "classes.json").write_text('{"classes": ["other", "road"], "values": [0, 255]}')
    assert _findings(root) == []


def test_sizes_that_differ(root: Path) -> None:
    _save_labels(root, np.array([[0, 1, 2]] * 4))
    reason = "its size 4 x 3 (height x width) differs from 4 x 6 of the image"
    assert _findings(root) == [("fault", LABEL, reason)]
    assert check_dataset(root).examples == ()


def test_labels_in_colour(root: Path) -> None:
    with Image.open(root / LABEL) as image:
        image.convert("RGB").save(root / LABEL)
    assert ("fault", LABEL) in {finding[:2] for finding in _findings(root)}
    assert "expected one channel" in _findings(root)[0][2]


def test_label_files_of_16_bits(root: Path) -> None:
    Image.fromarray(np.array([[0, 1, 2, 2, 2, 2]] * 4, dtype=np.uint16)).save(root / LABEL)
    reason = "1 label file of 16 bits a pixel (a.png): read as they are, 8 bits would do"
    assert _findings(root) == [("note", "annotations/training", reason)]


def test_values_that_need_16_bits(root: Path) -> None:
    (root / "objectInfo150.txt").unlink()
    (root / "classes.json").write_text('{"classes": ["ground", "road"], "values": [7, 1000]}')
    Image.fromarray(np.array([[7, 1000] * 3] * 4, dtype=np.uint16)).save(root / LABEL)
    reason = "1 label file of 16 bits a pixel (a.png): read as they are"
    assert _findings(root) == [("note", "annotations/training", reason)]


def test_missing_and_damaged_files(root: Path) -> None:
    _save_labels(root, np.array([[0, 1, 2, 2, 2, 2]] * 4))
    Image.new("RGB", (6, 4)).save(root / "images/training/b.jpg")
    Image.new("L", (6, 4)).save(root / "annotations/training/c.png")
    (root / "images/training/d.jpg").write_bytes(b"")
    (root / "annotations/training/d.png").write_bytes(b"\x89PNG\r\n")
    assert {(file, reason) for severity, file, reason in _findings(root) if severity == "fault"} > {
        ("images/training/b.jpg", "it has no label file of its name in annotations/training"),
        ("annotations/training/c.png", "it has no image of its name in images/training"),
        ("images/training/d.jpg", "it is empty (0 bytes)"),
    }
    assert any(file == "annotations/training/d.png" for _, file, _ in _findings(root))


def test_two_files_for_one_label(root: Path) -> None:
    Image.new("RGB", (6, 4)).save(root / "images/training/a.png")
    Image.new("L", (6, 4)).save(root / "annotations/training/a.bmp")
    reason = "{} has the same name but for its suffix; only one can be paired"
    faults = {finding[1:] for finding in _findings(root) if finding[0] == "fault"}
    assert ("images/training/a.png", reason.format("a.jpg")) in faults
    assert (LABEL, reason.format("a.bmp")) in faults


def test_an_image_without_annotations_is_a_note(root: Path) -> None:
    Image.new("RGB", (6, 4)).save(root / "images/training/b.jpg")
    Image.new("L", (6, 4)).save(root / "annotations/training/b.png")
    assert [finding[:2] for finding in _findings(root)] == [("note", "annotations/training/b.png")]


def test_a_split_without_labels_is_a_note(root: Path) -> None:
    (root / "images/testing").mkdir()
    Image.new("RGB", (6, 4)).save(root / "images/testing/b.jpg")
    reason = "no label files for 1 image: nothing can be measured"
    assert _findings(root) == [("note", "annotations/testing", reason)]


def test_empty_classes_of_validation_are_a_note(root: Path) -> None:
    for part, suffix in (("images", "jpg"), ("annotations", "png")):
        (root / part / "validation").mkdir()
        (root / part / f"validation/v.{suffix}").write_bytes(
            (root / part / f"training/a.{suffix}").read_bytes()
        )
    _save_labels(root / "annotations/validation/../..", np.array([[1, 2, 1, 2, 1, 2]] * 4))
    Image.new("L", (6, 4), 1).save(root / "annotations/validation/v.png")
    reason = "1 class without a pixel: sky"
    assert _findings(root) == [("note", "annotations/validation", reason)]


def test_a_part_of_a_published_data_set_need_not_have_all_classes(tmp_path: Path) -> None:
    for folder, ending in (("leftImg8bit", "_leftImg8bit"), ("gtFine", "_gtFine_labelIds")):
        (tmp_path / folder / "train" / "ulm").mkdir(parents=True)
        Image.new("L", (6, 4), 26).save(tmp_path / folder / "train" / "ulm" / f"a{ending}.png")
    assert _findings(tmp_path) == [
        ("note", "gtFine/train", "18 classes without a pixel: road, sidewalk, building and 15 more")
    ]


def test_a_faulty_class_list(root: Path) -> None:
    (root / "objectInfo150.txt").write_text("Idx\tName\n2\twall\n")
    assert _findings(root)[0][:2] == ("fault", "objectInfo150.txt")


def test_without_a_class_list_labels_are_named_by_number(root: Path) -> None:
    (root / "objectInfo150.txt").unlink()
    check = check_dataset(root)
    assert check.splits[0].per_class == {"label 0": 4, "label 1": 4, "label 2": 8}
    assert [finding[:2] for finding in _findings(root)] == [("fault", "classes.json")]


def test_lists_of_files_that_are_not_there(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    lists = tmp_path / "ImageSets/Segmentation"
    (lists / "val.txt").write_text("a\n")
    (lists / "test.txt").write_bytes(b"\xff\xfe")
    findings = _findings(tmp_path)
    assert ("fault", "JPEGImages/a.jpg", "a list names it, but there is no such file") in findings
    assert any(file == "test" and "cannot be read" in reason for _, file, reason in findings)


def test_boxes_and_label_maps_of_one_folder_are_two_data_sets(tmp_path: Path) -> None:
    for folder in ("Annotations", "JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    for name in ("Main", "Segmentation"):
        (tmp_path / "ImageSets" / name).mkdir(parents=True)
        (tmp_path / "ImageSets" / name / "val.txt").write_text("a\n")
    Image.new("RGB", (6, 4)).save(tmp_path / "JPEGImages/a.jpg")
    Image.new("L", (6, 4), 15).save(tmp_path / "SegmentationClass/a.png")
    (tmp_path / "Annotations/a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>6</width><height>4</height></size>"
        "<object><name>person</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax>"
        "<ymax>4</ymax></bndbox></object></annotation>"
    )
    found = find_datasets(tmp_path)
    assert [layout for _, layout in found] == ["voc", "voc_segmentation"]
    boxes, labels = (check_layout(*one) for one in found)
    assert boxes.splits[0].per_class == {"person": 1}
    assert labels.splits[0].per_class["person"] == 24
    assert boxes.faults == labels.faults == ()
