"""Results files: read back to the same numbers, and refused where they do not fit the data."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ziggurat.errors import ZigguratError
from ziggurat.metrics.coco import count_report
from ziggurat.metrics.coco_results import count_outside, read_results
from ziggurat.metrics.coco_truth import read_truth

SQUARE = [[2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]]
TRUTH: dict[str, Any] = {
    "images": [{"id": 1, "height": 10, "width": 12}, {"id": 4, "height": 10, "width": 12}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 5, "bbox": [2, 2, 6, 6], "segmentation": SQUARE}
    ],
    "categories": [{"id": 5, "name": "cell"}],
}
# Columns 2 to 7, rows 2 to 7 of an image of 10 x 12 pixels.
RUNS = [22, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 42]
MASK = {"size": [10, 12], "counts": RUNS}
GOOD: dict[str, Any] = {"image_id": 1, "category_id": 5, "score": 0.5, "bbox": [2, 2, 6, 6]}


def write(folder: Path, content: object) -> Path:
    file = folder / "detections.json"
    file.write_text(json.dumps(content))
    return file


def test_boxes_and_masks(tmp_path: Path) -> None:
    truth = read_truth(TRUTH, with_masks=True)
    results = read_results(write(tmp_path, [GOOD | {"segmentation": MASK}]))
    assert results.kinds == ("boxes", "masks")
    found = results.objects(truth)
    assert list(found) == [1, 4]  # images without detections count, too
    assert len(found[4].rows) == 0
    report = count_report(truth, found, [5], ["cell"], results.kinds)
    assert report.primary == "mask_AP"
    assert report.numbers["AP"] == pytest.approx(1.0)
    assert report.numbers["mask_AP"] == pytest.approx(1.0)
    assert len(report.numbers) == 24


def test_masks_only(tmp_path: Path) -> None:
    entry = {key: value for key, value in GOOD.items() if key != "bbox"}
    results = read_results(write(tmp_path, [entry | {"segmentation": MASK}]))
    assert results.kinds == ("masks",)
    truth = read_truth(TRUTH, with_masks=True)
    report = count_report(truth, results.objects(truth), [5], ["cell"], results.kinds)
    assert list(report.numbers)[0] == "mask_AP"
    assert report.numbers["mask_AP"] == pytest.approx(1.0)
    assert "AP" not in report.numbers


def test_nothing_found_at_all(tmp_path: Path) -> None:
    results = read_results(write(tmp_path, []))
    truth = read_truth(TRUTH, with_masks=False)
    report = count_report(truth, results.objects(truth), [5], ["cell"], results.kinds)
    assert report.numbers["AP"] == 0.0
    assert report.num_images == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 77}, "entry 1 has the image_id 77, which is not in the annotations"),
        ({"image_id": True}, "has the image_id True"),
        ({"image_id": None}, "has the image_id None"),
        ({"category_id": 9}, "has the category_id 9, .* another data set or split"),
        ({"score": math.nan}, "entry 1 has the score nan; expected a finite number"),
        ({"score": "high"}, "has the score 'high'"),
        ({"bbox": [1, 2, 3]}, "has the bbox"),
        ({"bbox": [1, 2, math.inf, 3]}, "has the bbox"),
        ({"bbox": [1, 2, -3, 3]}, "no size below 0"),
        ({"bbox": None}, "has the bbox None"),
        ({"segmentation": "abc"}, "entry 0 has no mask"),
    ],
)
def test_wrong_entries(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = write(tmp_path, [GOOD, GOOD | change])
    truth = read_truth(TRUTH, with_masks=False)
    with pytest.raises(ZigguratError, match=message) as caught:
        read_results(file).objects(truth)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [10, 12], "counts": [120, 3]}, "no mask that can be read"),
        ({"size": [10, 12], "counts": [-1, 121]}, "no mask that can be read"),
        ({"size": [10, 12], "counts": "P"}, "no mask that can be read"),
        ({"size": [10, 12], "counts": "01"}, "no mask that can be read"),
        ({"size": [10, 12], "counts": 5}, "no mask that can be read"),
        ({"size": [10], "counts": [120]}, "no mask that can be read"),
        ({"size": [12, 10], "counts": [120]}, "12 x 10 pixels, but its image has 10 x 12"),
        (SQUARE, "no mask that can be read"),
    ],
)
def test_wrong_masks(tmp_path: Path, mask: object, message: str) -> None:
    file = write(tmp_path, [GOOD | {"segmentation": mask}])
    truth = read_truth(TRUTH, with_masks=True)
    with pytest.raises(ZigguratError, match=message):
        read_results(file).objects(truth)


FILES = {1: "a.jpg", 4: "old/a.jpg", 6: "night/b.jpg", 7: "day/b.jpg"}
NAMED: dict[str, Any] = TRUTH | {
    "images": [
        {"id": number, "file_name": name, "height": 10, "width": 12}
        for number, name in FILES.items()
    ],
    "categories": [{"id": 5, "name": "cell"}, {"id": 9, "name": "star"}],
}


@pytest.mark.parametrize(
    ("file_name", "image_id"),
    [
        ("a.jpg", 1),
        ("/data/val/a.jpg", 1),
        ("data/old/a.jpg", 4),
        (".\\old\\a.jpg", 4),
        ("night/b.jpg", 6),
        ("../val/day/b.jpg", 7),
    ],
)
def test_names_of_images_and_classes_go_before_ids(
    tmp_path: Path, file_name: str, image_id: int
) -> None:
    """As `ziggurat predict` writes them: ids count its images, and the classes of the model."""
    entry = GOOD | {"image_id": 4, "category_id": 5, "file_name": file_name, "category": "star"}
    truth = read_truth(NAMED, with_masks=False)
    found = read_results(write(tmp_path, [entry, entry])).objects(truth)
    assert {
        number: len(objects.rows) for number, objects in found.items() if len(objects.rows)
    } == {image_id: 2}
    assert found[image_id].rows[0].tolist() == [0, 2, 2, 6, 6, 0.5, 9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"file_name": "c.jpg"},
            r"entry 1 is of the file 'c.jpg', which is not in the annotations",
        ),
        ({"file_name": "evening/b.jpg"}, "is of the file 'evening/b.jpg', which is not in"),
        ({"file_name": ""}, "is of the file '', which is not in"),
        ({"file_name": "b.jpg"}, r"may be 2 images of the annotations \(night/b.jpg, day/b.jpg\)"),
        ({"file_name": "y/a.jpg"}, "'y/a.jpg', and earlier ones are of 'x/a.jpg', .* one image of"),
        ({"category": "start"}, r"the category 'start', which is not in .*did you mean 'star'\?"),
    ],
)
def test_names_that_the_annotations_do_not_have(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    first = GOOD | {"file_name": "x/a.jpg", "category": "cell"}
    truth = read_truth(NAMED, with_masks=False)
    with pytest.raises(ZigguratError, match=message) as caught:
        read_results(write(tmp_path, [first, first | change])).objects(truth)
    assert "\n" not in str(caught.value)


def test_boxes_outside_their_image_are_counted(tmp_path: Path) -> None:
    boxes = ([2, 2, 6, 6], [5000, 2, 50, 50], [2, 11, 3, 3], [-9, 2, 8, 3], [-9, 2, 12, 3])
    entries = [GOOD | {"bbox": list(box)} for box in boxes]
    truth = read_truth(TRUTH, with_masks=False)
    assert count_outside(truth, read_results(write(tmp_path, entries)).objects(truth)) == 3


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="cannot read the results file"):
        read_results(tmp_path / "absent.json")
    broken = tmp_path / "broken.json"
    broken.write_bytes(b'[{"image_id": 1')
    with pytest.raises(ZigguratError, match=r"broken.json is no valid JSON"):
        read_results(broken)
    for content, message in (
        (TRUTH, "looks like annotations"),
        ({"AP": 1}, "expected a list of detections"),
        ([[1, 2]], r"entry 0 is \[1, 2\]"),
        ([{"image_id": 1, "category_id": 5, "score": 1}], "neither bbox, segmentation nor key"),
    ):
        with pytest.raises(ZigguratError, match=message):
            read_results(write(tmp_path, content))


@pytest.mark.parametrize("flag", ["iscrowd", "difficult"])
@pytest.mark.parametrize("mask", [None, []])
def test_the_box_is_the_mask_of_what_need_not_be_found(flag: str, mask: object) -> None:
    entry = TRUTH["annotations"][0] | {"segmentation": mask, flag: 1}
    truth = read_truth(TRUTH | {"annotations": [entry]}, with_masks=True)
    expected = read_truth(TRUTH, with_masks=True)  # whose square is its box
    assert truth.objects[0]["segmentation"] == expected.objects[0]["segmentation"]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([], "annotation 1 of image 1 has no mask that can be read"),
        ([[1, 2, 3, 4]], "at least three points"),
        ([[1, 2, 3, 4, 5, math.nan]], "at least three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "at least three points"),
        ({"size": [10, 12], "counts": [3]}, "no mask that can be read"),
        ({"size": [10, 11], "counts": [110]}, "10 x 11 pixels, but the image has 10 x 12"),
        (None, "no mask that can be read"),
    ],
)
def test_wrong_masks_of_annotations(mask: object, message: str) -> None:
    content = TRUTH | {"annotations": [TRUTH["annotations"][0] | {"segmentation": mask}]}
    with pytest.raises(ZigguratError, match=message):
        read_truth(content, with_masks=True)
    read_truth(content, with_masks=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iscrowd": "0"}, "iscrowd is '0'; expected 0, 1, false or true in annotation 1 of image"),
        ({"difficult": 2}, "difficult is 2; expected 0, 1, false or true in annotation 1"),
        ({"area": "36"}, "annotation 1 of image 1 has the area '36'; expected a finite number"),
        ({"area": math.nan}, "has the area nan"),
    ],
)
def test_wrong_marks_of_annotations(change: dict[str, Any], message: str) -> None:
    content = TRUTH | {"annotations": [TRUTH["annotations"][0] | change]}
    with pytest.raises(ZigguratError, match=message):
        read_truth(content, with_masks=False)


def test_a_part_of_two_points_is_left_out() -> None:
    parts = [*SQUARE, [1.0, 1.0, 3.0, 3.0]]
    content = TRUTH | {"annotations": [TRUTH["annotations"][0] | {"segmentation": parts}]}
    kept = read_truth(content, with_masks=True).objects[0]
    assert kept["segmentation"] == read_truth(TRUTH, with_masks=True).objects[0]["segmentation"]
    assert kept["area"] == 36  # the mask's, where the file names none


@pytest.mark.shared_data
@pytest.mark.parametrize(("kind", "name"), [("boxes", "bbox"), ("masks", "segm")])
def test_equals_pycocotools_on_real_annotations(kind: str, name: str, shared_data: Path) -> None:
    """Made-up detections with duplicates, crowd hits and more than 100 in an image."""
    root = shared_data / "coco_mini"
    truth = read_truth(root / "annotations" / "instances_val2017.json", with_masks=kind == "masks")
    golden = json.loads((root / "eval_golden" / "expected_metrics.json").read_text())
    results = read_results(root / "eval_golden" / f"detections_{name}.json")
    assert results.kinds == (kind,)
    categories = sorted(truth.categories, key=lambda category: category["id"])
    report = count_report(
        truth,
        results.objects(truth),
        [category["id"] for category in categories],
        [category["name"] for category in categories],
        results.kinds,
    )
    prefix = "mask_" if kind == "masks" else ""
    assert report.numbers == {prefix + key: value for key, value in golden[name].items()}
    per_class = {row["class"]: row[f"{prefix}AP"] for row in report.per_class}
    assert per_class == golden[f"{name}_per_category_AP"]
