"""Keypoints through views, fusion, tiles and every format of results."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import fuse
from ziggurat.inference.formats import FORMATS
from ziggurat.inference.joined_points import mean_points, surest_points
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.source import Source
from ziggurat.inference.tiles import merge_tiles
from ziggurat.inference.united import detect_united
from ziggurat.inference.views import View
from ziggurat.keypoints import Keypoints, Skeleton
from ziggurat.models.detector import Detector
from ziggurat.ops.nms import HARD
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections
from ziggurat.zoo import create_model

FACE = Skeleton(("nose", "left_eye", "right_eye"), ((0, 1), (0, 2)), ((1, 2),))
POINTS = torch.tensor([[[30.0, 40.0, 0.9], [20.5, 30.0, 0.5], [40.0, 30.0, 0.25]]])


def face(
    box: tuple[float, float, float, float] = (10.0, 20.0, 50.0, 60.0),
    points: torch.Tensor = POINTS,
    score: float = 0.75,
) -> Detections:
    return Detections(
        torch.tensor([box]),
        torch.tensor([score]),
        torch.tensor([1]),
        keypoints=Keypoints(points, FACE),
    )


def prediction(found: Detections) -> Prediction:
    return Prediction(Image.new("RGB", (120, 80)), found, ("dog", "face"))


def points_of(found: Detections) -> torch.Tensor:
    assert found.keypoints is not None
    assert found.keypoints.skeleton == FACE
    return found.keypoints.points


def write(name: str, folder: Path, found: Detections) -> Path:
    writer = FORMATS[name].new(folder / "out", ("dog", "face"))
    writer.add(prediction(found), Source(1, folder / "1.png", "photo"))
    return writer.close()


def test_a_mirrored_view_is_turned_back() -> None:
    view = View((5, 7, 60, 70), is_mirrored=True)
    seen = face((10.0, 20.0, 50.0, 60.0))
    found = view.undo(seen, (100, 200))
    # x from the right border of the region, and the eyes change names.
    expected = torch.tensor([[35.0, 47.0, 0.9], [25.0, 37.0, 0.25], [44.5, 37.0, 0.5]])
    assert torch.equal(points_of(found)[0], expected)
    assert found.boxes.tolist() == [[15, 27, 55, 67]]


def test_views_that_agree_meet_in_the_middle() -> None:
    other = POINTS.clone()
    other[0, 0] = torch.tensor([33.0, 40.0, 0.45])  # near, and half as sure
    other[0, 1] = torch.tensor([48.0, 30.0, 0.4])  # another place
    fused = fuse([face(score=0.8), face(points=other, score=0.8)])
    points = points_of(fused)
    assert len(fused) == 1
    assert points[0, 0].tolist() == pytest.approx([31.0, 40.0, (0.9 + 0.45) / 2])
    assert points[0, 1].tolist() == pytest.approx([20.5, 30.0, 0.5 / 2])
    assert points[0, 2].tolist() == pytest.approx(POINTS[0, 2].tolist())


def test_views_that_are_suppressed_together_find_the_same_points() -> None:
    torch.manual_seed(0)
    model = create_model(
        "keypoint_rcnn", backbone="topformer_tiny", num_keypoints=3, head_channels=4
    ).eval()
    assert isinstance(model, Detector)
    model.skeleton, model.preprocessing = FACE, FitInside(short_side=64, long_side=64)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 60, 3), dtype=np.uint8)
    image, view = Image.fromarray(pixels), View((0, 0, 60, 64))
    alone, twice, mirrored = (
        detect_united(model, image, views, HARD, device=torch.device("cpu"), batch_size=2)
        for views in ([view], [view, view], [view, replace(view, is_mirrored=True)])
    )
    assert len(alone) == len(twice) > 0
    torch.testing.assert_close(points_of(twice)[..., :2], points_of(alone)[..., :2])
    torch.testing.assert_close(points_of(twice)[..., 2], points_of(alone)[..., 2])
    assert len(points_of(mirrored)) == len(mirrored) > 0


def test_nothing_found_has_no_points() -> None:
    nothing = face().above(0.9)
    assert points_of(fuse([nothing, nothing])).shape == (0, 3, 3)
    keypoints = Keypoints(POINTS, FACE)
    assert len(surest_points(keypoints, [])) == 0
    assert len(mean_points(keypoints, torch.zeros(1, 4), [], torch.ones(1))) == 0


def test_of_joined_pieces_the_surest_points_are_kept() -> None:
    right = POINTS.clone()
    right[0, 2, 2] = 0.8
    right[0, 2, :2] = torch.tensor([77.0, 30.0])
    # Two tiles side by side, each of which sees a part of the same long object.
    merged = merge_tiles(
        [(0, 0, 60, 80), (40, 0, 60, 80)],
        [face((10.0, 20.0, 60.0, 60.0)), face((40.0, 20.0, 90.0, 60.0), right, 0.7)],
        (80, 100),
    )
    assert merged.boxes.tolist() == [[10, 20, 90, 60]]
    expected = torch.cat([POINTS[0, :2], right[0, 2:]])
    torch.testing.assert_close(points_of(merged)[0], expected)


def test_as_a_dictionary() -> None:
    (entry,) = prediction(face()).to_dict()["objects"]
    assert entry["class"] == "face"
    assert entry["keypoints"][1] == {"name": "left_eye", "x": 20.5, "y": 30.0, "score": 0.5}


def test_coco(tmp_path: Path) -> None:
    (entry,) = json.loads(write("coco", tmp_path, face()).read_text())
    # COCO counts pixels, from 0.
    assert entry["keypoints"] == [29.5, 39.5, pytest.approx(0.9), 20, 29.5, 0.5, 39.5, 29.5, 0.25]


def test_csv(tmp_path: Path) -> None:
    (row,) = csv.DictReader(write("csv", tmp_path, face()).read_text().splitlines())
    assert (row["left_eye x"], row["left_eye y"], row["left_eye score"]) == ("20.5", "30.0", "0.5")
    assert row["x2"] == "50.0"


def test_yolo(tmp_path: Path) -> None:
    labels = write("yolo", tmp_path, face())
    numbers = [float(word) for word in (labels / "photo.txt").read_text().split()]
    assert numbers[0] == 1
    places = np.array(numbers[5:]).reshape(3, 3)
    np.testing.assert_allclose(places[:, :2] * [120, 80], POINTS[0, :, :2], atol=1e-4)
    assert (places[:, 2] == 2).all()
    about = yaml.safe_load((labels.parent / "data.yaml").read_text())
    assert about["kpt_shape"] == [3, 3]
    assert about["flip_idx"] == [0, 2, 1]


def test_labelme(tmp_path: Path) -> None:
    folder = write("labelme", tmp_path, face())
    shapes = json.loads((folder / "photo.json").read_text())["shapes"]
    assert [shape["shape_type"] for shape in shapes] == ["rectangle", "point", "point", "point"]
    assert len({shape["group_id"] for shape in shapes}) == 1
    assert shapes[2]["label"] == "left_eye"
    assert shapes[2]["points"] == [[20.5, 30.0]]


@pytest.mark.parametrize("count", [0, 1])
def test_supervision(count: int) -> None:
    pytest.importorskip("supervision", reason="the library supervision is not installed")
    found = face().select(torch.arange(count))
    points = prediction(found).to_supervision_keypoints()
    assert points.xy.shape == (count, 3, 2)
    assert len(points) == count
    assert len(prediction(found).to_supervision()) == count
    if count:
        np.testing.assert_array_equal(points.xy, POINTS[..., :2].numpy())
        assert list(points.data["class_name"]) == ["face"]


def test_supervision_needs_keypoints() -> None:
    boxes = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ZigguratError, match="predict with a model for keypoint_detection"):
        prediction(boxes).to_supervision_keypoints()
