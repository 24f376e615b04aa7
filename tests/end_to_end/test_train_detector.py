"""`ziggurat train` of a detector on twelve images in COCO layout."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.engine.module import TrainingModule
from ziggurat.preprocessing import FitInside


@pytest.fixture
def train_detector(coco_folder: Path) -> Callable[..., int]:
    """Run `ziggurat train` on the coloured squares: two epochs of four steps."""

    def run(output: Path, *words: str) -> int:
        return main(
            [
                *("train", "retinanet_p2t_tiny_1x_coco", "--output", str(output)),
                *(f"--data.root={coco_folder}", "--data.short_side=72", "--data.long_side=96"),
                *("--data.batch_size=4", "--data.workers=0", "--model.head_channels=16"),
                *("--model.head_depth=1", "--optimizer.lr=0.004", "--schedule.warmup_steps=2"),
                *("--schedule.milestones=[50]", "--trainer.max_epochs=2"),
                *("--trainer.accelerator=cpu", "--trainer.log_every_steps=1", *words),
            ]
        )

    return run


def test_train_detector_learns_and_leaves_weights(
    tmp_path: Path, train_detector: Callable[..., int]
) -> None:
    output = tmp_path / "run"
    assert train_detector(output, "--trainer.max_epochs=8", "--trainer.val_every_epochs=4") == 0
    with (output / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    terms = {name.removeprefix("train/") for name in rows[0] if name.startswith("train/")}
    assert terms >= {"loss", "classification", "box", "lr", "images_per_second"}
    assert all(float(row["train/gradient_norm"]) > 0 for row in rows if row["train/loss"])
    seconds = [float(row["train/seconds"]) for row in rows if row["train/seconds"]]
    assert seconds == sorted(seconds)
    record = json.loads((output / "metrics.json").read_text())
    assert {"AP", "AP50"} <= record["last"]["metrics"].keys()
    assert len([row for row in rows if row["val/AP"]]) == 2
    model = load_weights(output / "best.safetensors")
    assert model.classes == ("red", "blue")
    assert model.preprocessing == FitInside(short_side=72, long_side=96)
    assert model.identity.head_channels == 16
    board = EventAccumulator(str(output / "tensorboard")).Reload()
    pictures = board.Tags()["images"]
    # All four validation images, at both validations.
    assert pictures == [f"predictions/{number}" for number in range(1, 5)]
    assert [event.step for event in board.Images(pictures[0])] == [16, 32]
    assert main(["report", str(output), "--images", "2"]) == 0
    page = (output / "report.html").read_text()
    assert "32 steps are done; the best AP is" in page
    assert page.count('alt="prediction of') == 2


def test_images_without_objects_can_be_trained_on(
    tmp_path: Path,
    coco_folder: Path,
    train_detector: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = coco_folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"] = content["annotations"][:1]
    file.write_text(json.dumps(content))
    output = tmp_path / "run"
    words = ("--trainer.max_epochs=null", "--trainer.max_steps=1")
    assert train_detector(output, *words, "--data.keep_empty=true") == 0
    printed = capsys.readouterr().out
    assert "12 training and 4 validation images" in printed
    assert "have no objects" not in printed
    assert train_detector(tmp_path / "other", *words) == 0
    assert "11 of 12 images have no objects and are not trained on" in capsys.readouterr().out


def test_resume_of_a_detector_repeats_the_whole_run(
    tmp_path: Path, train_detector: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # A random size for each image, so that a wrong order or seed shows.
    words = ("--data.train_short_sides=[66,72]",)
    assert train_detector(whole, *words) == 0
    original = TrainingModule.training_step
    calls = [0]

    def interrupted(self: TrainingModule, batch: object, batch_idx: int) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", interrupted)
        assert train_detector(parts, *words) == 130
    assert main(["train", "--output", str(parts), "--resume"]) == 0
    expected = load_weights(whole / "last.safetensors").state_dict()
    got = load_weights(parts / "last.safetensors").state_dict()
    assert all(torch.equal(value, got[name]) for name, value in expected.items())


def no_images(content: dict[str, Any]) -> None:
    content["images"] = content["annotations"] = []


def unknown_category(content: dict[str, Any]) -> None:
    content["annotations"][0]["category_id"] = 30


def other_categories(content: dict[str, Any]) -> None:
    content["categories"][1]["name"] = "green"


@pytest.mark.parametrize(
    ("split", "change", "parts"),
    [
        ("train", no_images, ["images"]),
        ("val", no_images, ["images"]),
        ("train", unknown_category, ["30"]),
        ("val", unknown_category, ["30"]),
        ("val", other_categories, ["same categories", "first: blue", "second: green"]),
    ],
)
def test_bad_annotations_are_one_sentence(
    split: str,
    change: Callable[[dict[str, Any]], None],
    parts: list[str],
    tmp_path: Path,
    coco_folder: Path,
    train_detector: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = coco_folder / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    assert train_detector(tmp_path / "run") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("ziggurat: error: ") and "\n" not in error
    assert path.name in error and all(part in error for part in parts), error
    assert not (tmp_path / "run").exists()


def test_validation_images_without_objects_give_a_dash(
    tmp_path: Path,
    coco_folder: Path,
    train_detector: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = coco_folder / "annotations" / "instances_val.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": []}))
    output = tmp_path / "run"
    assert train_detector(output) == 0
    said = capsys.readouterr().out
    assert "AP - (best -) on 4 images" in said and "done: best AP - at step" in said
    assert (output / "best.safetensors").is_file()
    assert json.loads((output / "metrics.json").read_text())["best"]["value"] is None
