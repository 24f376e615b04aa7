"""Items of images with label maps, from files to tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.items import Unreadable
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.segmentation import EvalSegmentation, SegmentationTransform
from ziggurat.preprocessing import FitAligned
from ziggurat.types import LabelMap, Sample

SMALL = FitAligned(short_side=16, long_side=64, divisor=4)
TRAIN = SegmentationTransform(SMALL, (16, 16))


def _write(root: Path, name: str, labels: np.ndarray) -> None:
    for part, suffix, values in (
        ("images", "jpg", np.full((*labels.shape, 3), 90, dtype=np.uint8)),
        ("annotations", "png", labels.astype(np.uint8)),
    ):
        folder = root / part / "train"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / f"{name}.{suffix}")
    (root / "classes.json").write_text('{"classes": ["road", "sky"]}')


def _first(root: Path, *, train: bool = True) -> Sample | Unreadable:
    dataset = LabelFolder(root, "train", TRAIN if train else EvalSegmentation(SMALL), train=train)
    return dataset[0, 0]


def _sample(root: Path, *, train: bool = True) -> tuple[Sample, LabelMap]:
    sample = _first(root, train=train)
    assert isinstance(sample, Sample)
    assert isinstance(sample.target, LabelMap)
    return sample, sample.target


def test_an_item(tmp_path: Path) -> None:
    _write(tmp_path, "a", np.array([[0, 1], [255, 1]]).repeat(8, 0).repeat(20, 1))
    dataset = LabelFolder(tmp_path, "train", EvalSegmentation(SMALL), train=False)
    assert (dataset.classes, dataset.layout, len(dataset)) == (("road", "sky"), "label_folder", 1)
    sample, target = _sample(tmp_path, train=False)
    assert sample.image.shape == (3, 16, 40)
    assert target.labels.shape == (16, 40)
    assert target.labels[:, 0].tolist() == [0] * 8 + [255] * 8
    assert sample.info.original_size == (16, 40)


def test_the_same_epoch_gives_the_same_item(tmp_path: Path) -> None:
    _write(tmp_path, "a", np.random.default_rng(0).integers(0, 2, (30, 40)))
    dataset = LabelFolder(tmp_path, "train", TRAIN, train=True, seed=3)
    first, again, later = dataset[1, 0], dataset[1, 0], dataset[2, 0]
    assert isinstance(first, Sample) and isinstance(again, Sample) and isinstance(later, Sample)
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, later.image)


@pytest.mark.parametrize("train", [True, False])
def test_a_one_pixel_image(tmp_path: Path, train: bool) -> None:
    _write(tmp_path, "a", np.array([[1]]))
    sample, target = _sample(tmp_path, train=train)
    if train:  # enlarged at random, and what is missing of the crop does not count
        assert target.labels.shape == sample.image.shape[1:] == (16, 16)
        assert set(target.labels.unique().tolist()) <= {1, 255}
        assert (target.labels == 1).any()
    else:
        assert sample.image.shape == (3, 16, 16)
        assert target.labels.tolist() == [[1]]


def test_an_image_that_nobody_labelled(tmp_path: Path) -> None:
    _write(tmp_path, "a", np.full((20, 30), 255))
    sample, target = _sample(tmp_path)
    assert (target.labels == 255).all()
    assert sample.image.isfinite().all()


def test_faulty_label_files_are_replaced_in_training_and_named(tmp_path: Path) -> None:
    _write(tmp_path, "a", np.zeros((8, 8)))
    _write(tmp_path, "b", np.ones((8, 8)))
    labels = tmp_path / "annotations" / "train" / "a.png"
    Image.new("L", (5, 8)).save(labels)
    sample, _ = _sample(tmp_path)
    assert sample.info.path.endswith("b.jpg")
    assert [file.reason for file in sample.skipped] == [
        "its size 8 x 5 (height x width) differs from 8 x 8 of the image"
    ]
    Image.new("L", (8, 8), 7).save(labels)
    skipped = _first(tmp_path, train=False)
    assert isinstance(skipped, Unreadable)
    assert skipped.skipped[0].path == str(labels)
    assert "the label 7 in 64 pixels" in skipped.skipped[0].reason
    labels.write_bytes(labels.read_bytes()[:40])
    assert isinstance(_first(tmp_path, train=False), Unreadable)
