"""YOLO as Darknet and CVAT lay it out: text files beside their images."""

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
from ziggurat.data.yolo_format import yolo_splits
from ziggurat.errors import ZigguratError
from ziggurat.types import Detections

WIDTH, HEIGHT = 50, 40
BOX = [10.0, 5.0, 30.0, 25.0]


def write_split(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, 40)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("1 0.4 0.375 0.4 0.5\n")


def darknet(root: Path, train: str = "obj_train_data", val: str = "obj_valid_data") -> None:
    """A data set below a folder that is called images, which means nothing."""
    write_split(root / train, "a", "frames/b")
    write_split(root / val, "c")
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    (root / "train.txt").write_text(f"data/{train}/a.png\ndata/{train}/frames/b.png\n")


def plain(image: Image.Image, target: Detections) -> tuple[Tensor, Detections]:
    return pil_to_tensor(image) / 255, target


def open_split(root: Path, split: str) -> CocoDetection:
    return CocoDetection(*find_split(root, split), plain, train=False, keep_empty=True)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("obj_train_data", "obj_valid_data"),
        ("obj_Train_data", "obj_Validation_data"),
        ("train", "valid"),
    ],
)
def test_folders_are_splits(tmp_path: Path, train: str, val: str) -> None:
    root = tmp_path / "images" / "mine"
    darknet(root, train, val)
    assert find_datasets(root) == ((root, "yolo"),)
    data = open_split(root, "train")
    assert data.classes == ("cat", "dog")
    assert tuple(data.file.file_names) == ("a.png", "frames/b.png")
    assert torch.allclose(data.target(0).boxes, torch.tensor([BOX]), atol=1e-4)
    assert data.target(1).labels.tolist() == [1]
    assert tuple(open_split(root, "val").file.file_names) == ("c.png",)
    check = check_dataset(root)
    assert [split.num_images for split in check.splits] == [2, 1]
    assert [fault.reason for fault in check.faults] == [
        "class 'cat' is empty: no annotation has it"
    ]
    assert convert_to_coco(root, tmp_path / "coco") == {"train": (2, 2), "val": (1, 1)}
    assert tuple(open_split(tmp_path / "coco", "train").file.file_names) == (
        "a.png",
        "frames/b.png",
    )


def test_images_and_texts_that_are_alone(tmp_path: Path) -> None:
    darknet(tmp_path)
    (tmp_path / "obj_train_data/a.txt").unlink()
    (tmp_path / "obj_train_data/classes.txt").write_text("cat\ndog\n")  # as LabelImg leaves it
    assert len(open_split(tmp_path, "train").target(0)) == 0
    (tmp_path / "obj_train_data/z.txt").write_text("")
    with pytest.raises(ZigguratError, match=r"obj_train_data/z\.txt: there is no image that it"):
        find_split(tmp_path, "train")


def test_a_folder_of_another_name_is_a_split_of_that_name(tmp_path: Path) -> None:
    write_split(tmp_path / "obj", "a")
    (tmp_path / "obj.data").write_text("classes = 1\n")
    assert yolo_splits(tmp_path) == ("obj",)
    with pytest.raises(ZigguratError, match=r"YOLO\) has no split 'train'; it has obj"):
        find_split(tmp_path, "train")
    with pytest.raises(ZigguratError, match="does not name its classes"):
        find_split(tmp_path, "obj")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    assert open_split(tmp_path, "obj").classes == ("cat", "dog")


def test_no_split_without_its_file_or_without_texts(tmp_path: Path) -> None:
    darknet(tmp_path)
    for name in ("obj.names", "obj.data"):
        assert yolo_splits(tmp_path)
        (tmp_path / name).unlink()
    assert yolo_splits(tmp_path) == ()
    (tmp_path / "obj.names").write_text("cat\n")
    for path in tmp_path.glob("obj_*/**/*.txt"):
        path.unlink()
    assert yolo_splits(tmp_path) == ()
