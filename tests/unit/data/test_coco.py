"""CocoDetection: which boxes and images count, labels, and one sentence for every wrong file."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ziggurat.data.check import check_dataset
from ziggurat.data.coco import CocoDetection, find_coco
from ziggurat.data.items import Unreadable
from ziggurat.errors import ZigguratError
from ziggurat.types import Detections, Sample

CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 60, "height": 40},
        {"id": 3, "file_name": "b.png", "width": 40, "height": 60},
        {"id": 5, "file_name": "small.png", "width": 31, "height": 90},
        {"id": 1, "file_name": "empty.png", "width": 50, "height": 50},
        {"id": 2, "file_name": "crowd.png", "width": 50, "height": 50},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 9, "bbox": [1, 2, 10, 20], "area": 200},
        {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0.5, 0, 30, 20.5], "area": 600},
        {"id": 3, "image_id": 3, "category_id": 4, "bbox": [5, 5, 50, 50], "iscrowd": 0},
        {"id": 4, "image_id": 3, "category_id": 4, "bbox": [5, 5, 0.9, 50], "area": 45},
        {"id": 5, "image_id": 3, "category_id": 4, "bbox": [5, 5, 5, 0], "area": 1},
        {"id": 6, "image_id": 3, "category_id": 4, "bbox": [5, 5, 5, 5], "area": 0},
        {"id": 7, "image_id": 3, "category_id": 4, "bbox": [40, 5, 5, 5], "area": 25},
        {"id": 8, "image_id": 5, "category_id": 4, "bbox": [1, 1, 9, 9], "area": 81},
        {"id": 9, "image_id": 2, "category_id": 4, "bbox": [1, 1, 9, 9], "iscrowd": 1},
    ],
    "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
}


def plain(image: Image.Image, target: Detections) -> tuple[Tensor, Detections]:
    return pil_to_tensor(image) / 255, target


def write(root: Path, content: object = CONTENT) -> tuple[Path, Path]:
    (root / "annotations").mkdir(exist_ok=True)
    (root / "train").mkdir(exist_ok=True)
    path = root / "annotations" / "instances_train.json"
    path.write_text(json.dumps(content))
    for image in CONTENT["images"]:
        size = (image["width"], image["height"])
        Image.new("RGB", size, (image["id"] * 10, 0, 0)).save(root / "train" / image["file_name"])
    return path, root / "train"


def open_train(root: Path, content: object = CONTENT) -> CocoDetection:
    return CocoDetection(*write(root, content), plain, train=True, keep_empty=False)


def sample(item: object) -> Sample:
    assert isinstance(item, Sample)
    return item


def test_training_keeps_images_with_usable_boxes(tmp_path: Path) -> None:
    dataset = open_train(tmp_path)
    assert [sample(dataset[i]).info.image_id for i in range(len(dataset))] == [7, 3]
    assert dataset.sizes == [(40, 60), (60, 40)]


def test_evaluation_keeps_every_image_in_order(tmp_path: Path) -> None:
    dataset = CocoDetection(*write(tmp_path), plain, train=False, keep_empty=True)
    assert [sample(dataset[i]).info.image_id for i in range(len(dataset))] == [7, 3, 5, 1, 2]
    assert [len(dataset.target(i)) for i in range(5)] == [1, 2, 1, 0, 0]
    empty = dataset.target(3)
    assert empty.boxes.shape == (0, 4) and empty.labels.dtype == torch.int64


def test_labels_follow_sorted_category_ids(tmp_path: Path) -> None:
    dataset = open_train(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.category_ids == (4, 9)
    target = dataset.target(1)
    assert target.labels.tolist() == [1, 0]
    assert target.scores.tolist() == [1, 1]
    assert target.boxes.tolist() == [[1, 2, 11, 22], [5, 5, 55, 55]]


def test_an_item_has_its_image_boxes_and_source(tmp_path: Path) -> None:
    item = sample(open_train(tmp_path)[0])
    assert item.image.shape == (3, 40, 60)
    assert float(item.image[0, 0, 0]) == pytest.approx(70 / 255)
    assert isinstance(item.target, Detections)
    assert item.target.boxes.tolist() == [[0.5, 0, 30.5, 20.5]]
    assert item.info.path == str(tmp_path / "train" / "a.png")
    assert item.info.original_size == (40, 60)


def test_ids_may_have_any_length(tmp_path: Path) -> None:
    def lengthen(content: dict[str, Any]) -> None:
        for entry, key in ((content["images"][0], "id"), (content["annotations"][1], "image_id")):
            entry[key] = 10**30

    assert sample(open_train(tmp_path, edited(lengthen))[0]).info.image_id == 10**30


def with_masks(edit: Callable[[dict[str, Any]], object] = lambda _: None) -> dict[str, Any]:
    """The objects of image 3 with a polygon and run lengths; all others with their box."""
    content = copy.deepcopy(CONTENT)
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        annotation["segmentation"] = [corners]
    content["annotations"][2]["segmentation"] = {"size": [60, 40], "counts": [65, 3, 2332]}
    edit(content)
    return content


def open_masks(root: Path, content: object, *, copy_paste: float = 0.0) -> CocoDetection:
    files = write(root, content)
    return CocoDetection(
        *files, plain, train=True, keep_empty=False, with_masks=True, copy_paste=copy_paste
    )


def test_masks_come_in_the_order_of_the_boxes(tmp_path: Path) -> None:
    dataset = open_masks(tmp_path, with_masks())
    masks = dataset.target(1).masks
    assert masks is not None and masks.size == (60, 40)
    assert masks.windows.tolist() == [[1, 2, 10, 20], [1, 5, 1, 3]]
    assert masks.pixels.all()
    assert dataset.target(0).masks is not None
    assert open_train(tmp_path, with_masks()).target(0).masks is None


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    def add_sliver(content: dict[str, Any]) -> None:
        content["annotations"][0]["segmentation"].append([1, 2, 3, 4])

    dataset = open_masks(tmp_path, with_masks(add_sliver))
    assert dataset.file.left_out == {
        "crowd": 1,
        "box below 1 x 1 pixel": 2,
        "no area": 1,
        "box outside the image": 1,
        "polygon below three corners": 1,
    }
    assert dataset.target(1).masks is not None


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "id 1 has no usable mask: it has no segmentation; masks need one for every object"),
        ([], "id 1 has no usable mask: it has no segmentation"),
        ([[1, 2, 3, 4]], "id 1 has no usable mask: a polygon has 4 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "a polygon is not a list of finite numbers"),
        ({"size": [40, 60], "counts": [2400]}, r"size \[40, 60\], the image \[60, 40\]"),
        ({"size": [60, 40], "counts": [5]}, "add up to 5 pixels, not to 60 x 40"),
        ({"size": [60, 40], "counts": "X"}, "end in the middle of a number"),
    ],
)
def test_a_mask_that_cannot_be_read(tmp_path: Path, segmentation: object, message: str) -> None:
    content = with_masks(lambda c: c["annotations"][0].update(segmentation=segmentation))
    with pytest.raises(ZigguratError, match=message) as caught:
        open_masks(tmp_path, content)
    assert "instances_train.json" in str(caught.value)
    assert len(open_train(tmp_path, content)) == 2  # boxes alone do not mind


def test_masks_of_what_is_left_out_do_not_matter(tmp_path: Path) -> None:
    content = with_masks(lambda c: c["annotations"][8].pop("segmentation"))
    assert len(open_masks(tmp_path, content)) == 2


def test_images_without_objects_can_be_kept(tmp_path: Path) -> None:
    files = write(tmp_path, with_masks())
    found = CocoDetection(
        *files, plain, train=True, keep_empty=True, with_masks=True, copy_paste=1.0
    )
    usual = open_masks(tmp_path, with_masks())
    assert len(found) == len(usual) + usual.num_empty
    assert (found.num_empty, found.num_small) == (0, usual.num_small)
    sizes = {len(found.target(index)) for index in range(len(found))}
    assert 0 in sizes
    for epoch in range(6):
        for index in range(len(found)):
            item = sample(found[(epoch, index)])
            assert isinstance(item.target, Detections) and item.target.masks is not None


def test_objects_are_pasted_from_another_image(tmp_path: Path) -> None:
    dataset = open_masks(tmp_path, with_masks(), copy_paste=1.0)
    counts = set()
    for epoch in range(12):
        item = sample(dataset[(epoch, 0)])
        again = sample(dataset[(epoch, 0)])
        assert isinstance(item.target, Detections) and isinstance(again.target, Detections)
        assert torch.equal(item.image, again.image)
        assert torch.equal(item.target.boxes, again.target.boxes)
        assert item.target.masks is not None and item.target.masks.size == (40, 60)
        counts.add(len(item.target))
    assert len(counts) > 1
    with pytest.raises(ValueError, match="copy_paste needs with_masks"):
        CocoDetection(*write(tmp_path), plain, train=True, keep_empty=False, copy_paste=0.5)


def test_changing_a_target_changes_no_other(tmp_path: Path) -> None:
    dataset = open_train(tmp_path)
    dataset.target(0).boxes.zero_()
    assert dataset.target(0).boxes.sum() > 0


def test_an_image_of_another_size_than_stated_is_bad(tmp_path: Path) -> None:
    dataset = open_train(tmp_path)
    Image.new("RGB", (40, 60)).save(tmp_path / "train" / "a.png")
    item = sample(dataset[0])
    assert item.info.image_id == 3
    assert "it is 40 x 60 pixels, but instances_train.json says 60 x 40" in item.skipped[0].reason


def test_missing_image_in_evaluation(tmp_path: Path) -> None:
    dataset = CocoDetection(*write(tmp_path), plain, train=False, keep_empty=True)
    (tmp_path / "train" / "a.png").unlink()
    item = dataset[0]
    assert isinstance(item, Unreadable)
    assert item.skipped[0].reason == "there is no such file"


def edited(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(CONTENT)
    edit(content)
    return content


BAD = [
    (lambda c: c["annotations"][0].update(category_id=5), r"id 1 .*unknown category_id 5"),
    (lambda c: c["annotations"][1].update(image_id=70), r"id 2 .*unknown image_id 70"),
    (lambda c: c["annotations"][1].update(image_id="7"), r"id 2 .*unknown image_id '7'"),
    (lambda c: c["annotations"][1].update(id=1), r"annotations has the id 1 twice"),
    (lambda c: c["images"][1].update(id=7), r"images has the id 7 twice"),
    (lambda c: c["categories"][1].update(id=9), r"categories has the id 9 twice"),
    (lambda c: c.update(images=[]), r"zero images"),
    (lambda c: c.update(categories=[]), r"zero categories"),
    (lambda c: c.update(annotations=[]), r"5 images but none with a box"),
    (lambda c: c.pop("annotations"), r"'annotations' is missing or no list"),
    (lambda c: c.update(images={"id": 1}), r"'images' is missing or no list"),
    (lambda c: c["images"][0].pop("id"), r"entry 0 of images has no integer 'id' \(got None\)"),
    (lambda c: c["images"].append("x.png"), r"entry 5 of images has no integer 'id'"),
    (lambda c: c["images"][0].pop("height"), r"image id 7 has no 'height'"),
    (lambda c: c["images"][0].update(height=0), r"image id 7 has width 60 and height 0"),
    (lambda c: c["images"][0].update(width="60"), r"image id 7 has width '60'"),
    (lambda c: c["images"][0].update(filename=c["images"][0].pop("file_name")), r"'filename'\?"),
    (lambda c: c["images"][0].update(width=60.0), r"image id 7 has width 60.0"),
    (lambda c: c["images"][0].update(width=True), r"image id 7 has width True"),
    (lambda c: c["images"][0].update(width=10**8), r"width 100000000 and height 40; expected"),
    (lambda c: c["images"][0].update(file_name=7), r"image id 7 has the file_name 7; expected a"),
    (lambda c: c["images"][0].update(file_name=""), r"image id 7 has the file_name ''"),
    (lambda c: c["categories"][0].pop("name"), r"category id 9 has no 'name'"),
    (lambda c: c["categories"][0].update(name=3), r"category id 9 has the name 3; expected a text"),
    (lambda c: c["categories"][0].update(name=""), r"category id 9 has the name ''"),
    (lambda c: c["categories"][0].update(name=None), r"category id 9 has the name None"),
    (
        lambda c: c["categories"][0].update(name="cat"),
        r"categories 4 and 9 have the same name 'cat'",
    ),
    (lambda c: c["annotations"][2].pop("bbox"), r"annotation id 3 has no 'bbox'"),
    (lambda c: c["annotations"][2].update(bbox=[1, 2, 3]), r"id 3 has the bbox \[1, 2, 3\]"),
    (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, None]), r"id 3 has the bbox"),
    (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, float("nan")]), r"four finite numbers"),
    (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, float("inf")]), r"four finite numbers"),
    (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, 10**400]), r"four finite numbers"),
    (
        lambda c: c["annotations"][2].update(iscrowd="0"),
        r"annotation id 3: iscrowd is '0'; expected",
    ),
    (lambda c: c["annotations"][2].update(iscrowd=2), r"id 3: iscrowd is 2; expected 0, 1, false"),
    (lambda c: c["annotations"][2].update(iscrowd=None), r"id 3: iscrowd is None; expected"),
    (lambda c: c["annotations"][2].update(difficult="0"), r"id 3: difficult is '0'; expected"),
    (lambda c: c["annotations"][2].update(area="24"), r"id 3: area is '24'; expected a finite"),
    (lambda c: c["annotations"][2].update(area=None), r"id 3: area is None; expected a finite"),
    (lambda c: c["annotations"][2].update(area=float("nan")), r"id 3: area is nan; expected"),
]


@pytest.mark.parametrize(("edit", "message"), BAD)
def test_a_wrong_file_is_explained(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(ZigguratError, match=message) as caught:
        open_train(tmp_path, edited(edit))
    assert str(tmp_path / "annotations" / "instances_train.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("edit", [edit for edit, _ in BAD])
def test_what_the_reader_refuses_is_a_fault_for_the_check(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    write(tmp_path)
    before = set(check_dataset(tmp_path).faults)
    write(tmp_path, edited(edit))
    assert set(check_dataset(tmp_path).faults) - before


@pytest.mark.parametrize("text", ["", "{", "[1, 2", '{"images": [}', "\xff"])
def test_no_json(tmp_path: Path, text: str) -> None:
    path, images = write(tmp_path)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ZigguratError, match=r"instances_train.json is no valid JSON"):
        CocoDetection(path, images, plain, train=True, keep_empty=False)


def test_a_list_is_no_annotation_file(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="is no COCO annotation file"):
        open_train(tmp_path, [{"image_id": 1}])


def test_missing_file_and_folder(tmp_path: Path) -> None:
    path, images = write(tmp_path)
    with pytest.raises(ZigguratError, match="absent.json does not exist"):
        CocoDetection(tmp_path / "absent.json", images, plain, train=True, keep_empty=False)
    with pytest.raises(ZigguratError, match="cannot read annotation file"):
        CocoDetection(tmp_path, images, plain, train=True, keep_empty=False)
    with pytest.raises(ZigguratError, match="image folder .*absent does not exist"):
        CocoDetection(path, tmp_path / "absent", plain, train=True, keep_empty=False)


def test_find_coco(tmp_path: Path) -> None:
    write(tmp_path)
    annotations = tmp_path / "annotations"
    assert find_coco(tmp_path, "train") == (
        annotations / "instances_train.json",
        tmp_path / "train",
    )
    (annotations / "instances_val2017.json").write_text("{}")
    (tmp_path / "val2017").mkdir()
    expected = (annotations / "instances_val2017.json", tmp_path / "val2017")
    assert find_coco(tmp_path, "val") == expected
    assert find_coco(tmp_path, "val2017") == expected


def test_find_coco_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="absent does not exist"):
        find_coco(tmp_path / "absent", "train")
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(ZigguratError, match=r"file.json is a file; expected a folder"):
        find_coco(tmp_path / "file.json", "train")
    with pytest.raises(ZigguratError, match=r"instances_val.json and .*instances_val2017.json"):
        find_coco(tmp_path, "val")
    write(tmp_path)
    (tmp_path / "annotations" / "instances_val.json").write_text("{}")
    with pytest.raises(ZigguratError, match=r"no images of split 'val': looked for .*/val and "):
        find_coco(tmp_path, "val")


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "split", "images", "boxes"),
    [("bccd", "train", 205, 2804), ("bccd", "val", 87, 1137), ("coco_mini", "val", 129, 1180)],
)
def test_real_annotations(
    shared_data: Path, name: str, split: str, images: int, boxes: int
) -> None:
    found = find_coco(shared_data / name, split)
    dataset = CocoDetection(*found, plain, train=False, keep_empty=True)
    assert len(dataset) == images
    assert sum(len(dataset.target(i)) for i in range(images)) == boxes
    first = sample(dataset[0])
    assert first.info.original_size == dataset.sizes[0]
