"""Keypoint R-CNN from the command line: train on squares with named corners, evaluate, predict."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.keypoints import Skeleton
from ziggurat.models.detector import Detector

CORNERS = Skeleton(
    ("upper_left", "upper_right", "lower_right", "lower_left"),
    ((0, 1), (1, 2), (2, 3), (3, 0)),
    ((0, 1), (3, 2)),
)


@pytest.fixture
def train_keypoints(coco_folder: Path) -> Callable[..., int]:
    """Run `ziggurat train` on the corners of coloured squares: two epochs of three steps."""

    def run(output: Path, *words: str) -> int:
        return main(
            [
                *("train", "keypoint_rcnn_resnet50_1x_coco", "--output", str(output)),
                *("--model.name=keypoint_rcnn", "--model.backbone=p2t_tiny"),
                *(f"--data.root={coco_folder}", "--data.short_side=72", "--data.long_side=96"),
                *("--data.batch_size=4", "--data.workers=0", "--model.head_channels=16"),
                *("--model.freeze_stages=null", "--model.freeze_norms=false"),
                *("--data.train_short_sides=null", "--optimizer.kind=adamw"),
                *("--optimizer.lr=0.003", "--optimizer.momentum=null"),
                *("--optimizer.reference_batch=null", "--optimizer.bias_lr_factor=1"),
                *("--schedule.warmup_steps=2", "--schedule.milestone_steps=[50]"),
                *("--trainer.max_epochs=2", "--trainer.max_steps=null"),
                *("--trainer.val_every_steps=null", "--trainer.accelerator=cpu"),
                *("--trainer.log_every_steps=1", *words),
            ]
        )

    return run


def test_from_training_to_prediction(
    tmp_path: Path,
    coco_folder: Path,
    train_keypoints: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    words = ("--data.batch_size=2", "--trainer.max_epochs=2", "--trainer.val_every_epochs=2")
    assert train_keypoints(output, *words) == 0
    with (output / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/keypoint"]]
    losses = [float(row["train/keypoint"]) for row in rows]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    model = load_weights(output / "best.safetensors")
    assert isinstance(model, Detector)
    assert model.skeleton == CORNERS
    assert model.identity.num_keypoints == 4
    capsys.readouterr()

    assert main(["evaluate", str(output), "--device", "cpu"]) == 0
    assert "keypoint_AP50" in capsys.readouterr().out
    report = json.loads((output / "evaluation" / "evaluation.json").read_text())
    assert report["primary"] == "keypoint_AP"
    numbers = report["metrics"]
    assert len([name for name in numbers if name.startswith("keypoint_")]) == 10
    assert {"AP", "AP50"} <= numbers.keys()
    found = output / "evaluation" / "predictions.json"
    assert all(len(entry["keypoints"]) == 12 for entry in json.loads(found.read_text()))

    again = ["evaluate", "--results", str(found), "--data.root", str(coco_folder)]
    assert main([*again, "-o", str(tmp_path / "again")]) == 0
    repeated = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    assert repeated["metrics"] == numbers

    photo, out = coco_folder / "val" / "1.png", tmp_path / "out"
    command = ["predict", str(output), str(photo), "-o", str(out), "--device", "cpu"]
    assert main([*command, "--score_threshold", "0", "--flip"]) == 0
    entries = json.loads((out / "predictions.json").read_text())
    assert entries
    assert all(len(entry["keypoints"]) == 12 for entry in entries)
    with Image.open(out / "1.jpg") as picture, Image.open(photo) as original:
        assert picture.width % original.width == 0


def test_points_and_masks_are_not_mixed_up(
    tmp_path: Path, train_keypoints: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        (
            ["--model.name=mask_rcnn"],
            "model.name of a keypoint_detection run must be a keypoint_detection model, got "
            "'mask_rcnn', which does instance_segmentation",
        ),
        (["--data.copy_paste=0.5"], "a model of the task keypoint_detection learns keypoints"),
    ):
        assert train_keypoints(tmp_path / "run", *words) == 1
        assert message in capsys.readouterr().err


def test_data_without_keypoints_are_one_sentence(
    tmp_path: Path,
    coco_folder: Path,
    train_keypoints: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = coco_folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category["keypoints"] = category["keypoints"][::-1]
    path.write_text(json.dumps(content))
    assert train_keypoints(tmp_path / "run") == 1
    assert "must have the same keypoints, skeleton and flip_pairs" in capsys.readouterr().err
    for category in content["categories"]:
        del category["keypoints"]
    path.write_text(json.dumps(content))
    assert train_keypoints(tmp_path / "run") == 1
    error = capsys.readouterr().err.strip()
    assert "instances_val.json has no usable keypoints" in error
    assert "\n" not in error


def test_a_keypoint_detector_cannot_be_sharded(
    tmp_path: Path, train_keypoints: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--trainer.strategy=fsdp", "--trainer.devices=2")
    assert train_keypoints(tmp_path / "run", *words) == 1
    error = capsys.readouterr().err
    assert "trainer.strategy must be auto or ddp with a detector, got 'fsdp'" in error
