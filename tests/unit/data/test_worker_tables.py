"""Sequences that worker processes share, and data sets that keep nothing else of their images."""

import gc
import json
import multiprocessing
import pickle
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ziggurat.data.class_masks import ClassMaskFolder, MaskTable
from ziggurat.data.coco import CocoDetection, find_coco
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.segmentation import EvalSegmentation
from ziggurat.data.tables import IdTable, PairTable, PathTable, SizeTable, TextTable
from ziggurat.preprocessing import FitAligned
from ziggurat.types import Detections

TEXTS = ["a.jpg", "", "Straße/ü 1.png", "two\nlines", "not\udcffutf8", "half a \ud83d character"]
PATHS = [Path("a"), Path("/data/b c.png"), Path("Straße/ü.png"), Path("not\udcffutf8")]
PAIRS = [(path, path.with_suffix(".png")) for path in PATHS]
SIZES = [(1, 2), (480, 640), (99_999_999, 1)]
MASKS = [{3: Path("d/a.png"), 255: Path("i/a.png"), 0: Path("a/a.png")}, {}, {1: Path("b/c.png")}]


@pytest.mark.parametrize(
    ("table", "entries"),
    [
        (TextTable(iter(TEXTS)), TEXTS),
        (PathTable(iter(PATHS)), PATHS),
        (PairTable(PAIRS), PAIRS),
        (IdTable([7, -3, 0, 2**63, 10**40]), [7, -3, 0, 2**63, 10**40]),
        (SizeTable(SIZES), SIZES),
        (MaskTable(MASKS), MASKS),
        (PathTable([]), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_table_is_read_as_a_list(table: Sequence[object], entries: list[object]) -> None:
    assert list(table) == entries
    assert list(table[1:]) == entries[1:] and len(table[1:]) == len(entries[1:])
    assert list(table[::-2][1:]) == entries[::-2][1:]
    for place in range(-len(entries), len(entries)):
        assert table[place] == entries[place]
        drawn = np.int64(place)  # as samplers draw it
        assert table[drawn] == entries[place]  # type: ignore[call-overload]
    for place in (len(entries), -len(entries) - 1):
        with pytest.raises(IndexError):
            table[place]


def test_files_of_an_image_keep_their_order() -> None:
    assert [list(files) for files in MaskTable(MASKS)] == [[3, 255, 0], [], [1]]


def test_sizes_are_taken_at_once() -> None:
    assert SizeTable(SIZES).take(np.array([2, 0])) == [SIZES[2], SIZES[0]]


def test_tables_are_shared_with_workers_that_are_spawned() -> None:
    paths = [Path(f"images/{number:09}.jpg") for number in range(2_000)]
    for table in (PairTable([(path, path) for path in paths]), IdTable(range(2_000))):
        described = len(multiprocessing.reduction.ForkingPickler.dumps(table))
        assert described < 10_000 < len(pickle.dumps(table))


def _coco(root: Path, count: int) -> CocoDetection:
    (root / "train").mkdir(parents=True)
    (root / "annotations").mkdir()
    corners = [5, 5, 25, 5, 25, 30]
    entry = {"category_id": 1, "bbox": [5, 5, 20, 25], "segmentation": [corners]}
    content = {
        "images": [
            {"id": 1000 + number, "file_name": f"{number}.jpg", "height": 300 + number, "width": 60}
            for number in range(count)
        ],
        "annotations": [
            entry | {"id": 2 * number + half, "image_id": 1000 + number}
            for number in range(count)
            for half in range(2)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    files = find_coco(root, "train")
    return CocoDetection(*files, _plain, train=True, keep_empty=False, with_masks=True)


def _plain(image: Image.Image, target: Detections) -> tuple[Tensor, Detections]:
    return pil_to_tensor(image) / 255, target


def _label_folder(root: Path, count: int) -> LabelFolder:
    _touch(root / "images" / "train", "jpg", count)
    _touch(root / "annotations" / "train", "png", count)
    (root / "classes.json").write_text('{"classes": ["road", "sky"]}')
    return LabelFolder(root, "train", EvalSegmentation(FitAligned()), train=True)


def _class_masks(root: Path, count: int) -> ClassMaskFolder:
    _touch(root / "images" / "train", "jpg", count)
    for name in ("road", "wet", "ignored"):
        _touch(root / "annotations" / "train" / name, "png", count)
    return ClassMaskFolder(root, "train", EvalSegmentation(FitAligned()), train=True)


def _touch(folder: Path, suffix: str, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number}.{suffix}").touch()


@pytest.mark.parametrize("build", [_coco, _label_folder, _class_masks])
def test_more_images_are_no_more_objects(
    tmp_path: Path, build: Callable[[Path, int], Sized]
) -> None:
    few, many = build(tmp_path / "a", 10), build(tmp_path / "b", 300)
    assert (len(few), len(many)) == (10, 300)
    assert _num_objects(many) < _num_objects(few) + 10


def _num_objects(start: object) -> int:
    """Count what can be reached from an object: each worker that looks at one copies it."""
    found: dict[int, object] = {}
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if id(one) not in found and not isinstance(one, type | FunctionType | ModuleType):
            found[id(one)] = one
            waiting += gc.get_referents(one)
    return len(found)
