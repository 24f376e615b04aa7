"""Faults of an ImageFolder: each one is named with its file and reason."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from ziggurat.data.check import check_dataset
from ziggurat.data.preview import read_preview
from ziggurat.errors import ZigguratError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 6), (10, 200, 30)).save(folder / "1.png")
    return tmp_path


def _findings(root: Path) -> set[tuple[str, str, str]]:
    found = check_dataset(root).findings
    return {(finding.severity, finding.file, finding.reason) for finding in found}


def test_a_good_data_set_is_counted(root: Path) -> None:
    (root / "train" / "cat" / "more").mkdir()
    Image.new("L", (5, 5)).save(root / "train" / "cat" / "more" / "2.JPG", format="JPEG")
    looked_at: list[int] = []
    check = check_dataset(root, on_progress=looked_at.append)
    assert check.layout == "image_folder"
    assert check.findings == ()
    assert [(split.name, split.num_images, split.per_class) for split in check.splits] == [
        ("train", 3, {"cat": 2, "dog": 1}),
        ("val", 2, {"cat": 1, "dog": 1}),
    ]
    assert sum(looked_at) == 5
    preview = read_preview(check.examples[0])
    assert (preview.caption, preview.image.size, preview.objects) == ("train: cat", (8, 6), None)


def test_damaged_images_are_named(root: Path) -> None:
    path = root / "val" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    (root / "train" / "dog" / "2.jpg").write_bytes(b"")
    assert {(severity, file) for severity, file, _ in _findings(root)} == {
        ("fault", "val/dog/1.png"),
        ("fault", "train/dog/2.jpg"),
    }


def test_an_empty_class_is_a_fault_in_training(root: Path) -> None:
    (root / "train" / "cow").mkdir()
    (root / "val" / "cow").mkdir()
    reason = "class 'cow' is empty: no images in its folder"
    assert _findings(root) == {("fault", "train/cow", reason), ("note", "val/cow", reason)}


def test_a_class_that_training_does_not_know(root: Path) -> None:
    (root / "val" / "cat").rename(root / "val" / "cats")
    assert _findings(root) == {
        ("fault", "val/cats", "class 'cats' is unknown in train: no model will predict it"),
        ("note", "val", "1 class of the training split not in it: cat"),
    }


def test_files_that_are_left_aside(root: Path) -> None:
    (root / "train" / "cat" / "notes.txt").write_text("x")
    (root / "train" / "cat" / ".hidden.jpg").write_text("x")
    Image.new("L", (5, 5)).save(root / "train" / "loose.png")
    assert _findings(root) == {
        ("note", "train/cat", "1 file left aside, no image: notes.txt"),
        ("note", "train", "1 image in no class folder, left aside: loose.png"),
    }


def test_a_split_without_classes(root: Path) -> None:
    (root / "test").mkdir()
    assert _findings(root) == {("fault", "test", "no class folders in it; expected <class>/*.jpg")}


def test_validation_alone_is_fine(root: Path) -> None:
    shutil.rmtree(root / "train")
    check = check_dataset(root)
    assert [split.name for split in check.splits] == ["val"]
    assert check.findings == ()


def test_splits_may_have_any_name(root: Path) -> None:
    (root / "val").rename(root / "fold 2")
    (root / "notes").mkdir()
    check = check_dataset(root)
    assert [(split.name, split.num_images) for split in check.splits] == [
        ("train", 2),
        ("fold 2", 2),
    ]
    (note,) = check.findings
    assert note.severity == "note"
    assert note.reason.endswith("or name another with --data.val_split")
    (root / "train").rename(root / "fold 1")
    assert [split.name for split in check_dataset(root).splits] == ["fold 1", "fold 2"]


def test_class_folders_without_a_split(root: Path) -> None:
    # Images further down do not make a split of a class.
    (root / "train" / "cat" / "more").mkdir()
    Image.new("RGB", (8, 6)).save(root / "train" / "cat" / "more" / "2.png")
    (root / "train" / "train").mkdir()
    Image.new("RGB", (8, 6)).save(root / "train" / "train" / "1.png")
    check = check_dataset(root / "train")
    (split,) = check.splits
    assert (split.name, split.per_class) == (".", {"cat": 2, "dog": 1, "train": 1})
    (fault,) = check.findings
    assert (fault.file, fault.severity) == (".", "fault")
    assert "training needs <split>/<class>/*.jpg" in fault.reason
    (root / "train" / "cat" / "1.png").write_bytes(b"")
    assert [finding.file for finding in check_dataset(root / "train").faults] == [".", "cat/1.png"]


@pytest.mark.parametrize(
    "files",
    [["images/train/1.png", "images/val2017/1.png"], ["train/1.png", "val/1.png"], ["a/1.png"]],
)
def test_folders_of_images_that_are_no_classes(tmp_path: Path, files: list[str]) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True)
        Image.new("RGB", (8, 6)).save(tmp_path / file)
    with pytest.raises(ZigguratError, match="no data set is recognised"):
        check_dataset(tmp_path)
