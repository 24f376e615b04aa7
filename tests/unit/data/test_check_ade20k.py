"""Faults of a data set in ADE20K's layout: each one is named with its file and reason."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.data.check import check_dataset
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
    found = check_dataset(root).findings
    return [(finding.severity, finding.file, finding.reason) for finding in found]


def test_a_good_data_set_is_counted(root: Path) -> None:
    check = check_dataset(root)
    assert check.layout == "ade20k"
    assert check.findings == ()
    (split,) = check.splits
    assert (split.name, split.num_images, split.per_class) == ("training", 1, {"wall": 1, "sky": 1})
    preview = read_preview(check.examples[0])
    assert preview.classes == ("wall", "sky")
    assert preview.label_map is not None
    assert preview.label_map[0].tolist() == [0, 1, 2, 2, 255, 255]


def test_a_label_out_of_range(root: Path) -> None:
    _save_labels(root, np.array([[0, 1, 2, 3, 9, 9]] * 4))
    assert _findings(root) == [("fault", LABEL, "label out of range 0..2: 3, 9 in 12 pixels")]


def test_an_empty_class(root: Path) -> None:
    _save_labels(root, np.array([[0, 1, 1, 1, 1, 1]] * 4))
    reason = "class 'sky' is empty: no pixel of this split has its label"
    assert _findings(root) == [("fault", "annotations/training", reason)]


def test_sizes_that_differ(root: Path) -> None:
    _save_labels(root, np.array([[0, 1, 2]] * 4))
    reason = "its size 4 x 3 (height x width) differs from 4 x 6 of the image"
    assert _findings(root) == [("fault", LABEL, reason)]


def test_labels_in_colour(root: Path) -> None:
    with Image.open(root / LABEL) as image:
        image.convert("RGB").save(root / LABEL)
    assert ("fault", LABEL) in {finding[:2] for finding in _findings(root)}
    assert "expected one channel" in _findings(root)[0][2]


def test_palette_labels_are_read_as_indices(root: Path) -> None:
    with Image.open(root / LABEL) as image:
        coloured = image.copy()
    coloured.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    coloured.save(root / LABEL)
    assert _findings(root) == []


def test_missing_and_damaged_files(root: Path) -> None:
    _save_labels(root, np.array([[0, 1, 2, 2, 2, 2]] * 4))
    Image.new("RGB", (6, 4)).save(root / "images/training/b.jpg")
    Image.new("L", (6, 4)).save(root / "annotations/training/c.png")
    (root / "images/training/d.jpg").write_bytes(b"")
    (root / "annotations/training/d.png").write_bytes(b"\x89PNG\r\n")
    assert {(file, reason) for severity, file, reason in _findings(root) if severity == "fault"} > {
        ("images/training/b.jpg", "label file annotations/training/b.png is missing"),
        ("annotations/training/c.png", "image file images/training/c.jpg is missing"),
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


@pytest.mark.parametrize("table", ["Idx\tName\n2\twall\n", "Idx\tName\n", "wall, sky\nx\n"])
def test_a_faulty_class_list(root: Path, table: str) -> None:
    (root / "objectInfo150.txt").write_text(table)
    assert _findings(root)[0][:2] == ("fault", "objectInfo150.txt")


def test_without_a_class_list_labels_are_named_by_number(root: Path) -> None:
    (root / "objectInfo150.txt").unlink()
    check = check_dataset(root)
    assert check.splits[0].per_class == {"label 1": 1, "label 2": 1}
    assert [finding.severity for finding in check.findings] == ["note"]
