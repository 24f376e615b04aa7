"""COCO-Stuff 10k and Pascal Context, made up as they are downloaded, become label maps."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image
from pycocotools import mask as coco_mask

from ziggurat.class_lists import class_list
from ziggurat.data.check import check_dataset, find_datasets
from ziggurat.data.context_file import CATEGORIES
from ziggurat.data.convert_labels import convert_labels, natural_format
from ziggurat.data.findings import Layout
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.loading import TrainingLoader
from ziggurat.data.output_folder import whole_folder
from ziggurat.data.segmentation import SegmentationTransform
from ziggurat.data.segmentation_layouts import open_labels
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import FitAligned
from ziggurat.types import LabelMap

SIZE = (20, 30)
STUFF = {"COCO_train2014_000000000077": "train", "COCO_train2014_000000000113": "train"}
STUFF |= {"COCO_train2014_000000000127": "test"}
NUMBERS = (0, 1, 13, 92, 182)
"""Numbers in S: unlabelled, person, stop sign, banner, wood."""
VALUES = (255, 0, 12, 91, 181)
"""The values of the published PNG files for them."""
OTHER_NAMES = """
bag bed bench book building cabinet ceiling cloth computer cup door fence floor flower food grass
ground keyboard light mountain mouse curtain platform sign plate road rock shelves sidewalk sky snow
bedclothes track tree truck wall water window wood
"""
"""Classes of Pascal Context that Pascal VOC has not, as the data set lists them."""


def _photo(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _stripes(values: tuple[int, ...]) -> np.ndarray:
    """Give each value a sixth of the width or more."""
    return np.resize(np.repeat(values, SIZE[1] // len(values)), SIZE)


def _matlab(path: Path, numbers: np.ndarray, num_names: int = 182) -> None:
    names = np.array([[f"name {n}"] for n in range(num_names)], dtype=object)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "S": numbers,
        "names": names,
        "captions": np.array([["a photo"]], dtype=object),
        "regionMapStuff": np.ones(numbers.shape),
        "regionLabelsStuff": np.array([[92.0]]),
    }
    scipy.io.savemat(path, content)


def _stuff(root: Path) -> Path:
    for name in STUFF:
        _photo(root / "images" / f"{name}.jpg")
        _matlab(root / "annotations" / f"{name}.mat", _stripes(NUMBERS).astype(np.float64))
    (root / "imageLists").mkdir()
    for split in ("train", "test"):
        names = [name for name, where in STUFF.items() if where == split]
        (root / "imageLists" / f"{split}.txt").write_text("".join(f"{n}\n" for n in names))
    (root / "imageLists" / "all.txt").write_text("\n".join(STUFF))
    return root


def _region(number: int, image_id: int, category: int, columns: slice) -> dict[str, Any]:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[:, columns] = 1
    runs = coco_mask.encode(mask)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
        "area": int(mask.sum()),
        "bbox": coco_mask.toBbox(runs).tolist(),
        "iscrowd": 0,
        "parts": [],
    }


def _image(image_id: int, phase: str) -> dict[str, Any]:
    name = f"{str(image_id)[:4]}_{str(image_id)[4:]}.jpg"
    size = {"height": SIZE[0], "width": SIZE[1]}
    captured = {"date_captured": "31-May-2015 17:46:52"}
    return {"image_id": image_id, "file_name": name, "phase": phase, **size, **captured}


def _context_content() -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "images": [
            _image(2008000003, "train"),
            _image(2008000002, "train"),
            _image(2009001427, "val"),
            _image(2010006084, "test"),
        ],
        "annos_segmentation": [
            _region(1, 2008000002, 458, slice(0, 20)),
            _region(2, 2008000002, 7, slice(0, 10)),  # of no class, but nothing of it can be seen
            _region(3, 2008000002, 2, slice(0, 12)),
            _region(4, 2009001427, 284, slice(5, 30)),
            _region(5, 2009001427, 0, slice(20, 30)),
        ],
        "annos_occlusion": [{"image_id": 2008000002, "ne": 1, "edges": {"indices": [[1, 2]]}}],
        "categories": [{"category_id": 2, "name": "aeroplane", "onlysemantic": False}],
        "parts": [],
    }


def _context(root: Path, content: dict[str, Any] | None = None) -> Path:
    for name in ("2008_000002", "2008_000003", "2009_001427"):
        _photo(root / "JPEGImages" / f"{name}.jpg")
    text = json.dumps(_context_content() if content is None else content)
    (root / "trainval_merged.json").write_text(text)
    return root


def _labels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.array(image)


def _batch_of(root: Path, layout: Layout) -> set[int]:
    """Train on two images; returns the labels in a batch."""
    transform = SegmentationTransform(FitAligned(20, 60, 4), (16, 24), largest_share=1.0)
    dataset = LabelFolder(root, "train", transform, train=True, layout=layout)
    loader = TrainingLoader(
        dataset,
        batch_size=2,
        divisor=4,
        workers=0,
        seed=0,
        drop_last=True,
        group_by_aspect=False,
    )
    (batch,) = loader
    assert batch.images.shape == (2, 3, 16, 24)
    labels: set[int] = set()
    assert isinstance(batch.targets, list)
    for target in batch.targets:
        assert isinstance(target, LabelMap)
        labels |= set(target.labels.unique().tolist())
    return labels - {255}


def test_coco_stuff_10k(tmp_path: Path) -> None:
    root, output = _stuff(tmp_path / "cocostuff10k"), tmp_path / "out"
    assert natural_format(root) == "labels"
    done: list[tuple[int, int]] = []
    found = convert_labels(root, output, on_progress=lambda now, of: done.append((now, of)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert (found.layout, found.num_images) == ("coco_stuff", {"train2014": 2, "test2014": 1})
    assert not found.left_out
    for name, split in STUFF.items():
        photo = output / "images" / f"{split}2014" / f"{name}.jpg"
        assert photo.read_bytes() == (root / "images" / photo.name).read_bytes()
        labels = _labels(output / "annotations" / f"{split}2014" / f"{name}.png")
        assert np.array_equal(labels, _stripes(VALUES))
    assert sorted(path.name for path in output.iterdir()) == ["annotations", "images"]
    check = check_dataset(output)
    assert (check.layout, check.faults) == ("coco_stuff", ())
    counts = {name: count for name, count in check.splits[0].per_class.items() if count}
    assert set(counts) == {"person", "stop sign", "banner", "wood"}
    classes = class_list("coco_stuff").classes
    seen = {classes[label] for label in _batch_of(output, "coco_stuff")}
    assert seen and seen <= set(counts)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_numbers_of_any_type(tmp_path: Path, dtype: type[np.generic]) -> None:
    root = _stuff(tmp_path / "in")
    name, *_ = STUFF
    _matlab(root / "annotations" / f"{name}.mat", _stripes(NUMBERS).astype(dtype))
    convert_labels(root, tmp_path / "out")
    labels = _labels(tmp_path / "out" / "annotations" / "train2014" / f"{name}.png")
    assert np.array_equal(labels, _stripes(VALUES))


def _change_list(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "imageLists" / "test.txt").write_text(text)


def _change_matlab(**changes: Any) -> Callable[[Path], object]:
    options: dict[str, Any] = {"numbers": _stripes(NUMBERS), **changes}
    return lambda root: _matlab(root / f"annotations/{next(iter(STUFF))}.mat", **options)


STUFF_FAULTS = [
    (_change_list(""), r"imageLists/test\.txt names no image"),
    (_change_list("../a\n"), r"test\.txt has '\.\./a'; expected the name of a photo in images/"),
    (
        _change_list("COCO_train2014_000000000077\n"),
        r"test\.txt names COCO_train2014_000000000077, as train\.txt does already; an image belon",
    ),
    (lambda root: (root / "imageLists/train.txt").unlink(), r"train\.txt cannot be read"),
    (
        lambda root: (root / "annotations/COCO_train2014_000000000127.mat").unlink(),
        r"annotations/COCO_train2014_000000000127\.mat: there is no such file, though a list names",
    ),
    (
        lambda root: (root / "images/COCO_train2014_000000000127.jpg").unlink(),
        r"000127\.mat: its photo .*images/COCO_train2014_000000000127\.jpg does not exist",
    ),
    (
        lambda root: (root / "images/COCO_train2014_000000000127.jpg").write_bytes(b"x"),
        r"images/COCO_train2014_000000000127\.jpg is no image whose size can be read",
    ),
    (
        lambda root: _photo(root / "images/COCO_train2014_000000000127.jpg", (21, 30)),
        r"000127\.mat: its size 20 x 30 \(height x width\) differs from 21 x 30 of the image COCO_",
    ),
    (
        lambda root: (root / "annotations/COCO_train2014_000000000127.mat").write_bytes(b"x"),
        r"000127\.mat: it cannot be read \(.*\); expected a MATLAB file with S, the number of each",
    ),
    (_change_matlab(num_names=172), r"000077\.mat: it is of version 1\.0 .*; download version 1"),
    (_change_matlab(numbers=_stripes((1, 12))), r"S has the number 12 in 300 pixels; expected 0"),
    (_change_matlab(numbers=_stripes((1, 183))), r"has the number 183 in .*: 171 of 1\.\.182"),
    (_change_matlab(numbers=_stripes((1, 0)) / 2), r"its S has the number 0\.5 in 300 pixels"),
    (_change_matlab(numbers=np.full(SIZE, np.nan)), r"its S has the number nan in"),
    (_change_matlab(numbers=np.zeros((2, 3, 4))), r"its S has 3 dimensions of type float64; ex"),
]


@pytest.mark.parametrize(("spoil", "message"), STUFF_FAULTS)
def test_faults_of_coco_stuff_10k(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    root = _stuff(tmp_path / "in")
    spoil(root)
    with pytest.raises(ZigguratError, match=message):
        convert_labels(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_matlab_files_need_scipy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _stuff(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ZigguratError, match=r"read with scipy, .* pip install 'ziggurat\[train\]'"):
        convert_labels(root, tmp_path / "out")


def test_pascal_context(tmp_path: Path) -> None:
    root, output = _context(tmp_path / "VOC2010"), tmp_path / "out"
    assert natural_format(root) == "labels"
    found = convert_labels(tmp_path, output)
    assert (found.layout, found.num_images) == ("pascal_context", {"train": 2, "val": 1})
    assert found.left_out == {"image of the phase 'test'": 1}
    lists = output / "ImageSets" / "SegmentationContext"
    assert (lists / "train.txt").read_text() == "2008_000002\n2008_000003\n"
    assert (lists / "val.txt").read_text() == "2009_001427\n"
    maps = output / "SegmentationClassContext"
    for name, row in (
        ("2008_000002", [1] * 12 + [59] * 8 + [0] * 10),  # the later region is on top
        ("2008_000003", [0] * 30),
        ("2009_001427", [0] * 5 + [37] * 15 + [0] * 10),
    ):
        assert np.array_equal(_labels(maps / f"{name}.png"), np.tile(row, (SIZE[0], 1))), name
        photo = (root / "JPEGImages" / f"{name}.jpg").read_bytes()
        assert (output / "JPEGImages" / f"{name}.jpg").read_bytes() == photo
    check = check_dataset(output)
    assert (check.layout, check.faults) == ("pascal_context", ())
    seen = {name for split in check.splits for name, count in split.per_class.items() if count}
    assert seen == {"background", "aeroplane", "person", "wood"}
    assert 0 in _batch_of(output, "pascal_context") <= {0, 1, 59}
    assert _batch_of(output, "pascal_context_59") <= {0, 58}


def test_categories_are_those_of_the_classes() -> None:
    """In the order of the data set's list of 59 labels: Pascal VOC's twenty, then the others."""
    numbers = [2, 23, 25, 31, 34, 45, 59, 65, 72, 98, 397, 113, 207, 258, 284, 308, 347, 368, 416]
    numbers += [427, 9, 18, 22, 33, 44, 46, 68, 80, 85, 104, 115, 144, 158, 159, 162, 187, 189]
    numbers += [220, 232, 259, 260, 105, 296, 355, 295, 324, 326, 349, 354, 360, 366, 19, 415, 420]
    numbers += [424, 440, 445, 454, 458]
    names = [*class_list("pascal_voc").classes[1:], *OTHER_NAMES.split()]
    names[names.index("diningtable")] = "table"
    name_of = dict(zip(numbers, names, strict=True))
    classes = class_list("pascal_context").classes
    assert classes == ("background", *(name_of[number] for number in CATEGORIES))


def _at(*keys: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        entry: Any = content
        for key in keys[:-1]:
            entry = entry[key]
        entry[keys[-1]] = to

    return change


REGIONS = "annos_segmentation"
CONTEXT_FAULTS = [
    (
        _at("images", to=[]),
        r"annotation id 1 has the image_id 2008000002, which no entry of images",
    ),
    (_at("images", to=[_image(1, "test")]), r"annotation id 1 has the image_id 2008000002, which"),
    (lambda content: content.clear(), r"is no file of Pascal Context: .* and 'images' is missing"),
    (_at(REGIONS, to={}), r"is no file of Pascal Context: .* and 'annos_segmentation' is missing"),
    (
        lambda content: content.update(images=[], annos_segmentation=[]),
        r"has no image of the phase train or val",
    ),
    (_at("images", 1, to=7), r"entry 1 of images has the image_id None; expected a whole number"),
    (
        _at("images", 1, "image_id", to=2008000003),
        r"entry 1 of images has the image_id 2008000003, ",
    ),
    (
        _at("images", 2, "file_name", to="2008_000003.jpg"),
        r"two entries of images, of train and val, have the file_name '2008_000003\.jpg'; an image",
    ),
    (_at("images", 1, "file_name", to="../2008_000002.jpg"), r"has the file_name '\.\./2008_0000"),
    (_at("images", 1, "file_name", to=3), r"has the file_name 3; expected a photo of JPEGImages"),
    (
        _at("images", 1, "phase", to=None),
        r"\(2008_000002\.jpg\) has the phase None; expected train",
    ),
    (_at("images", 1, "width", to=3.5), r"has the height 20 and the width 3\.5; expected whole pi"),
    (
        _at("images", 0, "file_name", to="2008_9.jpg"),
        r"id 2008000003: its photo .*2008_9\.jpg does",
    ),
    (
        _at("images", 0, "width", to=31),
        r"id 2008000003: its size 20 x 31 .* differs from 20 x 30 of",
    ),
    (
        _at(REGIONS, 1, "id", to=1),
        r"entry 1 of annos_segmentation has the id 1, as one before it has",
    ),
    (
        _at(REGIONS, 1, "image_id", to=5),
        r"annotation id 2 has the image_id 5, which no entry of ima",
    ),
    (
        _at(REGIONS, 1, "category_id", to="a"),
        r"entry 1 of annos_segmentation has the category_id 'a'",
    ),
    (
        _at(REGIONS, 2, "category_id", to=7),
        r"annotation id 3 \(2008_000002\.jpg\) has the category_id 7; expected one of the 59 categ",
    ),
    (
        _at(REGIONS, 3, "segmentation", "size", to=[20, 31]),
        r"annotation id 4 \(2009_001427\.jpg\) has no usable mask: its run lengths have the size",
    ),
    (
        _at(REGIONS, 3, "segmentation", "counts", to="5"),
        r"annotation id 4 .* no usable mask: its run",
    ),
    (_at(REGIONS, 3, "segmentation", to=None), r"annotation id 4 .* it has no segmentation"),
]


@pytest.mark.parametrize(("change", "message"), CONTEXT_FAULTS)
def test_faults_of_pascal_context(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = _context_content()
    change(content)
    root = _context(tmp_path / "in", content)
    with pytest.raises(ZigguratError, match=rf"trainval_merged\.json\b.*{message}"):
        convert_labels(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(
        ZigguratError, match=r"data folder .*nowhere does not exist; name the folder"
    ):
        convert_labels(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(
        ZigguratError, match=r"has no labels to convert; expected COCO-Stuff 10k as"
    ):
        convert_labels(tmp_path, tmp_path / "out")
    _stuff(tmp_path / "a")
    _context(tmp_path / "b")
    with pytest.raises(ZigguratError, match=r"holds 2 data sets \(a, b\); convert one of them"):
        convert_labels(tmp_path, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ZigguratError, match="out is not empty; name a new folder with -o"):
        convert_labels(tmp_path / "a", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_boxes_go_before_labels(tmp_path: Path) -> None:
    root = _context(tmp_path / "VOC2010")
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    size = "<size><width>30</width><height>20</height></size>"
    (root / "Annotations").mkdir()
    (root / "Annotations" / "2008_000002.xml").write_text(
        f"<annotation>{size}<object><name>person</name>{box}</object></annotation>"
    )
    assert natural_format(root) == "coco"
    assert convert_labels(root, tmp_path / "out").num_images == {"train": 2, "val": 1}


def test_a_conversion_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_labels(_stuff(tmp_path / "in"), tmp_path / "out", on_progress=interrupt)
    assert not (tmp_path / "out").exists()


def test_what_a_killed_conversion_leaves_is_no_data_set(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    convert_labels(_stuff(tmp_path / "in"), whole)
    with whole_folder(tmp_path / "in", tmp_path / "out") as unfinished:
        for part in whole.iterdir():
            part.rename(unfinished / part.name)
        with pytest.raises(ZigguratError, match="no data set is recognised"):
            find_datasets(tmp_path / "out")
    assert find_datasets(tmp_path / "out") == ((tmp_path / "out", "coco_stuff"),)


@pytest.mark.parametrize("write", [_stuff, _context])
def test_whoever_reads_a_download_is_told_the_command(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    root = write(tmp_path / "in")
    command = f"`ziggurat data convert {root} --format labels -o NEW_FOLDER`"
    for split in ("train", "val"):
        with pytest.raises(ZigguratError, match=re.escape(command)):
            open_labels(root, split)
    faults = check_dataset(root).faults
    assert len(faults) == 2 and all(command in fault.reason for fault in faults)
