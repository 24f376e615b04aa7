"""Masks of classes that overlap: read, moved with the image, checked."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.check import check_dataset, find_datasets
from ziggurat.data.class_masks import ClassMaskFolder, combine, find_class_masks, separate
from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.items import Unreadable
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.loading import collate
from ziggurat.data.preview import read_preview
from ziggurat.data.segmentation import EvalSegmentation, SegmentationTransform
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import FitAligned
from ziggurat.types import ClassMasks, LabelMap, Sample

SMALL = FitAligned(short_side=16, long_side=64, divisor=4)
EVAL = EvalSegmentation(SMALL)
LEFT = np.array([[1, 1, 0, 0]]).repeat(8, 1).repeat(16, 0)
MIDDLE = np.array([[0, 1, 1, 0]]).repeat(8, 1).repeat(16, 0)
RIGHT = np.array([[0, 0, 0, 1]]).repeat(8, 1).repeat(16, 0)


def _save(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _save(tmp_path / "images/train/a.png", np.stack([LEFT * 255, MIDDLE * 255, LEFT], axis=2))
    _save(tmp_path / "annotations/train/wet/a.png", MIDDLE * 255)
    _save(tmp_path / "annotations/train/road/a.png", LEFT)
    _save(tmp_path / "annotations/train/ignored/a.png", RIGHT)
    return tmp_path


def _target(item: Sample | Unreadable) -> ClassMasks:
    assert isinstance(item, Sample)
    assert isinstance(item.target, ClassMasks)
    return item.target


def test_classes_may_overlap(root: Path) -> None:
    data = ClassMaskFolder(root, "train", EVAL, train=False)
    assert (data.classes, len(data)) == (("road", "wet"), 1)
    target = _target(data[0])
    assert target.masks[0].equal(torch.from_numpy(LEFT > 0))
    assert target.masks[1].equal(torch.from_numpy(MIDDLE > 0))
    assert target.ignored.equal(torch.from_numpy(RIGHT > 0))


@pytest.mark.parametrize("part", ["labels", "masks"])
def test_masks_in_a_folder_of_another_name(root: Path, part: str) -> None:
    (root / "annotations").rename(root / part)
    assert find_datasets(root) == ((root, "class_masks"),)
    data = ClassMaskFolder(root, "train", EVAL, train=False)
    assert data.classes == ("road", "wet")
    assert _target(data[0]).masks[1].equal(torch.from_numpy(MIDDLE > 0))
    _save(root / part / "train/wet/a.png", LEFT * 0)
    assert [finding.file for finding in check_dataset(root).findings] == [f"{part}/train", "."]
    with pytest.raises(ZigguratError, match=f"into images/val and its masks into {part}/val/<cl"):
        ClassMaskFolder(root, "val", EVAL, train=False)


def test_masks_below_their_split(root: Path) -> None:
    (root / "train").mkdir()
    (root / "images/train").rename(root / "train/images")
    (root / "annotations/train").rename(root / "train/masks")
    for part in ("images", "annotations"):
        (root / part).rmdir()
    assert find_datasets(root) == ((root, "class_masks"),)
    data = ClassMaskFolder(root, "train", EVAL, train=False)
    assert data.classes == ("road", "wet")
    assert _target(data[0]).ignored.equal(torch.from_numpy(RIGHT > 0))
    with pytest.raises(ZigguratError, match="into val/images and its masks into val/annotations/<"):
        ClassMaskFolder(root, "val", EVAL, train=False)


def test_boxes_in_the_other_folder(root: Path) -> None:
    (root / "annotations").rename(root / "masks")
    (root / "annotations/train").mkdir(parents=True)
    (root / "annotations/train/a.xml").write_text("<annotation/>")
    assert (root, "class_masks") in find_datasets(root)
    assert _target(ClassMaskFolder(root, "train", EVAL, train=False)[0]).masks[0].any()


def test_a_data_set_one_folder_down(root: Path, tmp_path: Path) -> None:
    assert find_class_masks(root) == root
    home = tmp_path / "home"
    (home / "roads").mkdir(parents=True)
    for part in ("images", "annotations"):
        (root / part).rename(home / "roads" / part)
    assert find_class_masks(home) == home / "roads"
    maps = home / "maps"
    _save(maps / "images/train/a.png", LEFT)
    _save(maps / "annotations/train/a.png", LEFT)
    assert find_class_masks(maps) is None
    with pytest.raises(ZigguratError, match=r"holds 2 data sets \(maps, roads\); name one of them"):
        find_class_masks(home)


def test_white_in_colours(root: Path) -> None:
    path = root / "annotations/train/road/a.png"
    _save(path, np.stack([LEFT * 255] * 3, axis=2))
    target = _target(ClassMaskFolder(root, "train", EVAL, train=False)[0])
    assert target.masks[0].equal(torch.from_numpy(LEFT > 0))
    _save(path, np.stack([LEFT * 255, LEFT, LEFT], axis=2))
    reason = r"it has the colour \(255, 1, 1\) in 256 .* expected \(0, 0, 0\), \(1, 1, 1\), \(255"
    assert re.search(reason, check_dataset(root).faults[0].reason)


@pytest.mark.parametrize("suffix", [".PNG", ".tif", ".bmp"])
def test_masks_of_other_kinds(root: Path, suffix: str) -> None:
    for path in root.glob("annotations/train/*/a.png"):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    assert find_datasets(root) == ((root, "class_masks"),)
    target = _target(ClassMaskFolder(root, "train", EVAL, train=False)[0])
    assert target.masks[1].equal(torch.from_numpy(MIDDLE > 0))
    assert target.ignored.equal(torch.from_numpy(RIGHT > 0))


@pytest.mark.parametrize("place", ["images/train", "annotations/train/wet"])
def test_two_files_of_one_name(root: Path, place: str) -> None:
    _save(root / place / "a.bmp", MIDDLE)
    reason = f"{place}/a.png: a.bmp has the same name but for its suffix; only one can be paired"
    with pytest.raises(ZigguratError, match=reason):
        ClassMaskFolder(root, "train", EVAL, train=False)
    assert check_dataset(root).faults[0].reason.endswith(reason)


def test_another_folder_beside_images_may_be_an_image_folder(root: Path) -> None:
    (root / "annotations").rename(root / "crops")
    assert find_datasets(root) == ((root / "crops", "image_folder"),)


def test_images_and_masks_move_together(root: Path) -> None:
    transform = SegmentationTransform(SMALL, (16, 16), is_distorted=False)
    data = ClassMaskFolder(root, "train", transform, train=True)
    flips = set()
    for epoch in range(12):
        item = data[epoch, 0]
        target = _target(item)
        assert isinstance(item, Sample)
        if target.ignored.all():
            continue
        # Red is where the road is, green where it is wet; away from edges, which are blurred.
        for channel, mask in enumerate(target.masks):
            bright = item.image[channel] > 0
            counted = ~target.ignored
            agree = (bright == mask)[counted].float().mean()
            assert agree > 0.8
        flips.add(tuple(target.masks[0, 0].tolist()))
    assert len(flips) > 2


def test_a_class_without_a_file_is_nowhere(root: Path) -> None:
    _save(root / "images/train/b.png", np.zeros((16, 32, 3)))
    data = ClassMaskFolder(root, "train", EVAL, train=False)
    target = _target(data[1])
    assert target.masks.shape == (2, 16, 32)
    assert not target.masks.any() and not target.ignored.any()
    batch = collate([data[0], data[1]], divisor=1)
    assert isinstance(batch.targets, list) and len(batch.targets) == 2


def test_the_order_of_the_classes(root: Path) -> None:
    (root / "classes.json").write_text('{"classes": ["wet", "snow", "road"]}')
    assert _target(ClassMaskFolder(root, "train", EVAL, train=False)[0]).masks.shape[0] == 3
    (root / "classes.json").write_text('{"classes": ["wet", "roads"]}')
    with pytest.raises(ZigguratError, match="unknown class .* 'road'; did you mean 'roads'"):
        ClassMaskFolder(root, "train", EVAL, train=False)


def test_faulty_masks(root: Path) -> None:
    def reason() -> str:
        item = ClassMaskFolder(root, "train", EVAL, train=False)[0]
        assert isinstance(item, Unreadable)
        return item.skipped[0].reason

    _save(root / "annotations/train/wet/a.png", MIDDLE * 7)
    assert "it has the label 7 in 256 pixels; expected 3 values in 0..255" in reason()
    _save(root / "annotations/train/wet/a.png", MIDDLE[:4])
    assert reason() == "its size 4 x 32 (height x width) differs from 16 x 32 of the image"
    _save(root / "annotations/train/wet/a.png", np.full((16, 32, 3), 7))
    assert "it has the colour (7, 7, 7) in 512 pixels; expected (0, 0, 0), (1, 1, 1)" in reason()


def test_what_does_not_fit(root: Path, tmp_path: Path) -> None:
    _save(root / "annotations/train/wet/z.png", MIDDLE)
    with pytest.raises(ZigguratError, match=r"wet/z\.png has no image of its name in .*images/tr"):
        ClassMaskFolder(root, "train", EVAL, train=False)
    with pytest.raises(ZigguratError, match="has no split 'val'; it has train"):
        ClassMaskFolder(root, "val", EVAL, train=False)
    (tmp_path / "images/val").mkdir()
    (tmp_path / "annotations/val").mkdir()
    with pytest.raises(ZigguratError, match="images/val has no image files"):
        ClassMaskFolder(root, "val", EVAL, train=False)


def test_a_folder_without_classes(tmp_path: Path) -> None:
    for part in ("images", "annotations"):
        (tmp_path / part / "train").mkdir(parents=True)
    with pytest.raises(ZigguratError, match="has 0 classes; expected 1 to 254 folders"):
        ClassMaskFolder(tmp_path, "train", EVAL, train=False)


def test_they_are_no_label_maps(root: Path) -> None:
    with pytest.raises(ZigguratError, match="no label maps are recognised"):
        LabelFolder(root, "train", EVAL, train=False)


def test_many_combinations() -> None:
    size = (32, 32)
    numbers = np.arange(1024).reshape(size)
    bits = {label: (numbers >> label) % 2 > 0 for label in range(7)}
    labels, table = combine(bits, None, size, 9, Path("a.png"))
    masks = separate(LabelMap(torch.from_numpy(labels)), table).masks.numpy()
    for label in range(9):
        assert (masks[label] == bits.get(label, np.zeros(size, dtype=bool))).all()
    more = {label: (numbers >> label) % 2 > 0 for label in range(8)}
    with pytest.raises(ImageDecodeError, match=r"a\.png: its classes overlap in more than 255"):
        combine(more, None, size, 9, Path("a.png"))


def test_the_check(root: Path) -> None:
    check = check_dataset(root)
    assert check.layout == "class_masks"
    assert [note.reason[:19] for note in check.findings] == ["no validation split"]
    assert check.splits[0].per_class == {"road": 256, "wet": 256}
    preview = read_preview(check.examples[0])
    assert preview.label_map is not None
    assert preview.label_map[0, [0, 12, 20, 31]].tolist() == [0, 1, 1, 255]


def test_faults_are_named(root: Path) -> None:
    _save(root / "annotations/train/road/a.png", LEFT * 9)
    (root / "images/train/b.png").write_bytes(b"")
    faults = {(fault.file, fault.reason[:27]) for fault in check_dataset(root).faults}
    assert faults == {
        ("annotations/train/road/a.png", "it has the label 9 in 256 p"),
        ("images/train/b.png", "it is empty (0 bytes)"),
        ("annotations/train", "class 'road' is empty: no m"),
    }
    _save(root / "annotations/train/road/c.png", LEFT)
    assert "has no image of its name" in check_dataset(root).faults[0].reason
    (root / "classes.json").write_text("{}")
    assert check_dataset(root).faults[0].file == "classes.json"
