"""Results files: read back to the same numbers, and refused where they do not fit the data."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ziggurat.errors import ZigguratError
from ziggurat.metrics.coco import count_report
from ziggurat.metrics.coco_results import read_results
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
