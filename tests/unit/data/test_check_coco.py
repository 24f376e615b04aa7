"""Faults of a COCO data set: each one is named with its file and reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ziggurat.data.check import check_dataset
from ziggurat.data.coco import find_coco
from ziggurat.data.findings import Finding
from ziggurat.data.preview import read_preview
from ziggurat.errors import ZigguratError

TRAIN = "annotations/instances_train.json"
SQUARE = [2, 3, 8, 3, 8, 7, 2, 7]


def _annotation(number: int, image_id: int, category_id: int) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [2, 3, 6, 4],
        "area": 24,
        "iscrowd": 0,
        "segmentation": [SQUARE],
    }


def _content() -> dict[str, Any]:
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 20, "height": 10}
            for number in (1, 2)
        ],
        "annotations": [_annotation(1, 1, 3), _annotation(2, 2, 5)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / TRAIN).write_text(json.dumps(_content()))
    (tmp_path / "train").mkdir()
    for number in (1, 2):
        Image.new("RGB", (20, 10), (90, 20, 20)).save(tmp_path / "train" / f"{number}.png")
    return tmp_path


def _edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = _content()
    change(content)
    (root / TRAIN).write_text(json.dumps(content))


def _findings(root: Path) -> list[Finding]:
    """All but that there is no validation split."""
    *others, last = check_dataset(root).findings
    assert last == Finding(
        ".",
        "no validation split, which a run needs: add one beside that of training, or name another "
        "with --data.val_split",
        "note",
    )
    return others


def _only_finding(root: Path) -> Finding:
    (finding,) = _findings(root)
    return finding


def test_a_good_data_set_is_counted(root: Path) -> None:
    check = check_dataset(root)
    assert check.layout == "coco"
    assert _findings(root) == []
    (split,) = check.splits
    assert (split.name, split.num_images, split.unit) == ("train", 2, "objects")
    assert split.per_class == {"cat": 1, "dog": 1}


def test_examples_hold_boxes_labels_and_masks(root: Path) -> None:
    runs = {"size": [10, 20], "counts": [23, 4, 173]}
    _edit(root, lambda c: c["annotations"][1].update(segmentation=runs))
    first, second = (read_preview(example) for example in check_dataset(root).examples)
    assert first.objects is not None and second.objects is not None
    assert first.objects.boxes.tolist() == [[2, 3, 8, 7]]
    assert first.objects.labels.tolist() == [0]
    assert first.objects.masks is not None and second.objects.masks is not None
    assert first.objects.masks.full()[0, 4, 5]
    assert second.objects.masks.full()[0].nonzero().tolist() == [[3, 2], [4, 2], [5, 2], [6, 2]]
    assert second.classes[second.objects.labels[0]] == "dog"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bbox": [18, 3, 6, 4]}, "box outside the image by 4 pixels"),
        ({"bbox": [-3, 3, 6, 4]}, "box outside the image by 3 pixels"),
        ({"bbox": [2, 3, 0, 4]}, "box without area"),
        ({"bbox": [2, 3, 6, -4]}, "box without area"),
        ({"bbox": [2, 3, 6]}, "not four finite numbers"),
        ({"bbox": [2, 3, 6, float("nan")]}, "not four finite numbers"),
        ({"bbox": None}, "not four finite numbers"),
        ({"category_id": 9}, "unknown category id 9"),
        ({"area": 0}, "area 0 is not a positive number"),
        ({"area": None}, "area None is not a positive number"),
        ({"iscrowd": "0"}, "iscrowd is '0'; expected 0, 1, false or true"),
        ({"difficult": 2}, "difficult is 2; expected 0, 1, false or true"),
        ({"segmentation": [[1, 2, 3, 4]]}, "a polygon has 4 numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, "x"]]}, "not a list of finite numbers"),
        ({"segmentation": [[1, 2, 30, 4, 5, 6]]}, "a polygon leaves the image by 10 pixels"),
        ({"segmentation": "x"}, "neither polygons nor run lengths"),
        ({"segmentation": {"size": [10, 20], "counts": [1, 2]}}, "add up to 3 pixels"),
        ({"segmentation": {"size": [20, 10], "counts": [200]}}, "run lengths have the size"),
        ({"segmentation": {"size": None, "counts": [200]}}, "run lengths have the size"),
        (
            {"segmentation": {"size": [10, 20], "counts": "\x01"}},
            "a character outside of their alphabet",
        ),
        ({"segmentation": {"size": [10, 20], "counts": None}}, "neither whole numbers nor text"),
    ],
)
def test_faulty_annotation(root: Path, changes: dict[str, Any], reason: str) -> None:
    _edit(root, lambda c: c["annotations"].append(_annotation(7, 1, 3) | changes))
    finding = _only_finding(root)
    assert finding.file == TRAIN
    assert finding.severity == "fault"
    assert finding.reason.startswith("annotation 7 (image 1.png): ")
    assert reason in finding.reason


def test_a_missing_area_is_worth_a_note(root: Path) -> None:
    def remove_areas(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            del entry["area"]

    _edit(root, remove_areas)
    finding = _only_finding(root)
    assert finding.severity == "note"
    assert finding.reason.startswith("2 annotations without 'area': that of the mask or the box")


def test_boxes_may_leave_the_image_by_rounding(root: Path) -> None:
    polygon = [14, 3, 20, 3, 20, 10]
    change = {"bbox": [14.4, 3, 6.2, 7.5], "segmentation": [polygon]}
    _edit(root, lambda c: c["annotations"][0].update(change))
    assert _findings(root) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["annotations"].append(_annotation(2, 1, 3)), "annotations has the id 2 twice"),
        (lambda c: c["images"].append(c["images"][0]), "images has the id 1 twice"),
        (lambda c: c["annotations"].append(_annotation(7, 8, 3)), "unknown image id 8"),
        (lambda c: c["annotations"].append({"id": "x"}), "entry 2 of annotations has no integer"),
        (lambda c: c["categories"].append({"id": 6, "name": "cow"}), "class 'cow' is empty"),
        (lambda c: c["images"][1].update(file_name="1.png"), "have the same file 1.png"),
        (lambda c: c["images"][1].pop("file_name"), "image 2 has no file_name"),
    ],
)
def test_faulty_tables(root: Path, change: Callable[[dict[str, Any]], None], reason: str) -> None:
    _edit(root, change)
    faults = check_dataset(root).faults
    assert [reason in fault.reason for fault in faults] == [True]
    assert faults[0].file == TRAIN


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "'images' is missing or no list"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
            "zero images",
        ),
        ('{"images": [], "annotations": [], "categories": []}', "zero categories"),
    ],
)
def test_faulty_annotation_file(root: Path, text: str, reason: str) -> None:
    (root / TRAIN).write_text(text)
    assert any(reason in fault.reason for fault in check_dataset(root).faults)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        (b"", "it is empty"),
        (b"no image at all", "it is text, not an image"),
        ("cut", "truncated"),
        ("small", "its size 10 x 19 (height x width) differs from 10 x 20"),
        ("turned", "it may be turned by its EXIF data"),
    ],
)
def test_faulty_image(root: Path, content: bytes | str | None, reason: str) -> None:
    path = root / "train" / "2.png"
    if content is None:
        path.unlink()
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:50])
    elif isinstance(content, str):
        Image.new("RGB", {"small": (19, 10), "turned": (10, 20)}[content]).save(path)
    else:
        path.write_bytes(content)
    check = check_dataset(root)
    (fault,) = check.faults
    assert fault.file == "train/2.png"
    assert reason in fault.reason
    assert [example.image for example in check.examples] == [root / "train" / "1.png"]


def test_a_missing_image_folder_is_named(root: Path) -> None:
    (root / "train").rename(root / "pictures")
    assert "has no images of split 'train'" in _only_finding(root).reason


def test_notes_are_no_faults(root: Path) -> None:
    def add_bare_image(content: dict[str, Any]) -> None:
        content["images"].append({"id": 4, "file_name": "4.png", "width": 6, "height": 5})

    _edit(root, add_bare_image)
    Image.new("RGB", (6, 5)).save(root / "train" / "4.png")
    Image.new("RGB", (6, 5)).save(root / "train" / "stranger.png")
    check = check_dataset(root)
    assert check.faults == ()
    assert {(note.file, note.reason) for note in _findings(root)} == {
        (TRAIN, "1 image without annotations: 4.png"),
        ("train", f"1 image not named in {TRAIN}: stranger.png"),
    }


def test_splits_must_agree_on_categories(root: Path) -> None:
    content = _content()
    content["categories"] = [{"id": 3, "name": "dog"}, {"id": 6, "name": "cow"}]
    content["annotations"] = []
    (root / "annotations/instances_val.json").write_text(json.dumps(content))
    (root / "train").rename(root / "images")
    (root / "images").mkdir(exist_ok=True)
    reasons = [fault.reason for fault in check_dataset(root).faults]
    assert "category 3 is 'dog', but 'cat' in the training split" in reasons
    assert "category 6 ('cow') is unknown in the training split" in reasons
    assert "categories of the training split are missing: dog" in reasons


def test_objects_without_masks_among_others_are_noted(root: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"].append(_annotation(3, 2, 5) | {"segmentation": [], "iscrowd": 1})
        del content["annotations"][0]["segmentation"]

    _edit(root, change)
    finding = _only_finding(root)
    assert finding.severity == "note"
    assert finding.reason.startswith("1 of 2 objects without a mask in 'segmentation'")


def test_an_object_with_an_empty_list_of_keypoints_has_none_labelled(root: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for category in content["categories"]:
            category |= {"keypoints": ["head"], "skeleton": []}
        content["annotations"][0]["keypoints"] = [3, 4, 2]
        content["annotations"][1]["keypoints"] = []

    _edit(root, change)
    assert _findings(root) == []


@pytest.mark.parametrize("name", ["val", "val2017", "valid", "validation"])
def test_a_validation_split_has_one_of_several_names(name: str, root: Path) -> None:
    (root / f"annotations/instances_{name}.json").write_text(json.dumps(_content()))
    shutil.copytree(root / "train", root / name)
    assert check_dataset(root).findings == ()
    assert find_coco(root, "val") == (root / f"annotations/instances_{name}.json", root / name)


def test_files_of_other_splits_are_named(root: Path) -> None:
    (root / TRAIN).rename(root / "annotations/instances_default.json")
    message = r"no annotations of split 'train': looked for .* it has .*instances_default\.json: .*"
    with pytest.raises(ZigguratError, match=f"{message}--data.train_annotations"):
        find_coco(root, "train")
