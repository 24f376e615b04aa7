"""Label maps whose values mean another thing than their author thinks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.config.data import SegmentationData
from ziggurat.config.optimizer import OptimizerConfig
from ziggurat.config.tree import ModelConfig, SemanticSegmentationRun
from ziggurat.engine import labelled_share
from ziggurat.engine.data import RunData, build_data
from ziggurat.engine.labelled_share import check_labelled, notes_of_labels
from ziggurat.errors import ZigguratError


def data_of(root: Path, train: list[list[int]], val: list[list[int]]) -> RunData:
    """Make a data set of maps of 100 pixels, each with a tenth of every value in its list."""
    for split, maps in (("train", train), ("val", val)):
        for part in ("images", "annotations"):
            (root / part / split).mkdir(parents=True)
        for number, values in enumerate(maps):
            labels = np.repeat(np.array(values, dtype=np.uint8), 10).reshape(10, 10)
            Image.fromarray(labels).save(root / "annotations" / split / f"{number}.png")
            Image.new("RGB", (10, 10)).save(root / "images" / split / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["ground", "road"]}))
    return open_data(root)


def open_data(root: Path) -> RunData:
    """Open a data set as a run does."""
    config = SemanticSegmentationRun(
        model=ModelConfig(name="topformer_seg_tiny"),
        data=SegmentationData(str(root)),
        optimizer=OptimizerConfig(lr=1e-3),
    )
    return build_data(config)


def save_mask(path: Path, level: int) -> None:
    """Save a picture of one level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (10, 10), level).save(path)


def test_both_classes_and_some_unlabelled_pixels_are_no_news(tmp_path: Path) -> None:
    data = data_of(tmp_path, [[0] * 9 + [1], [255] * 10], [[255] * 10, [0] * 10])
    check_labelled(data, "root")
    assert notes_of_labels(data) == []


def test_a_mask_of_0_and_255_has_no_road(tmp_path: Path) -> None:
    data = data_of(tmp_path, [[0] * 5 + [255] * 5] * 3, [[0] * 10])
    (note,) = notes_of_labels(data)
    assert note.startswith("WARNING: no pixel of road in the 3 training label maps")


def test_little_that_is_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled_share, "MOST_MAPS", 2)
    maps = [[0] + [255] * 9, [0, 1] + [255] * 8, [255] * 10, [1] * 10]
    data = data_of(tmp_path, maps, [[0] * 10])
    absent, unlabelled = notes_of_labels(data)  # the first and the third map are looked at
    assert "no pixel of road in the 2 training label maps that were looked at, of 4" in absent
    assert unlabelled.startswith("WARNING: 95.0 % of the pixels in the 2 training label maps")


@pytest.mark.parametrize("use", ["train", "validate"])
def test_a_split_without_a_label_is_refused(use: str, tmp_path: Path) -> None:
    maps = {"train": [[0] * 10], "validate": [[0] * 10]} | {use: [[255] * 10] * 2}
    data = data_of(tmp_path, maps["train"], maps["validate"])
    with pytest.raises(ZigguratError, match=f"to {use} on must label some pixels, got 2 in root"):
        check_labelled(data, "root")


@pytest.mark.parametrize("use", ["train", "validate"])
def test_masks_of_which_nothing_counts(use: str, tmp_path: Path) -> None:
    root = tmp_path / "roads"  # a data set may lie one folder down
    for split in ("train", "val"):
        save_mask(root / "images" / split / "a.png", 0)
        save_mask(root / "annotations" / split / "road" / "a.png", 255)
    check_labelled(open_data(tmp_path), "root")
    folder = {"train": "train", "validate": "val"}[use]
    save_mask(root / "annotations" / folder / "ignored" / "a.png", 255)
    message = f"the masks to {use} on must label some pixels, got 1 in root without any; what"
    with pytest.raises(ZigguratError, match=message):
        check_labelled(open_data(tmp_path), "root")
