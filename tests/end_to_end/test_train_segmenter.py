"""Segmenters from a folder of label maps, or of masks, to numbers and pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import ziggurat
from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.types import ClassMasks, LabelMap

SMALL = [
    "--model.head_channels=16",
    "--data.short_side=64",
    "--data.long_side=96",
    "--data.crop=[64,64]",
    "--data.scale=[0.9,1.1]",
    "--data.distort=false",
    "--data.batch_size=4",
    "--data.workers=0",
    "--optimizer.lr=3e-3",
    "--trainer.accelerator=cpu",
]


def train(root: Path, output: Path, *words: str) -> None:
    recipe = "segformer_pvt_v2_b0_from_scratch"
    command = ["train", recipe, "--output", str(output), f"--data.root={root}"]
    assert main([*command, "--model.backbone=p2t_tiny", *SMALL, *words]) == 0


def test_a_recipe_in_steps_says_what_another_batch_takes(
    label_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "semantic_fpn_p2t_tiny_80k_ade20k", f"--data.root={label_folder}", *SMALL]
    command += ["--trainer.sync_batch_norm=false", "--trainer.max_minutes=1e-9", "--output"]
    assert main([*command, str(tmp_path / "run")]) == 0
    advice = "80000 steps of 4 images see 320000 images; as many as 80000 steps of 16 take"
    assert f"{advice} trainer.max_steps 320000, trainer.val_" in capsys.readouterr().out
    # Who follows it is not told again, nor who goes on.
    assert main([*command, str(tmp_path / "other"), "--trainer.max_steps=320000"]) == 0
    assert main(["train", "--output", str(tmp_path / "run"), "--resume"]) == 0
    assert "; as many as" not in capsys.readouterr().out


def test_a_segmenter_learns_and_is_evaluated_and_predicts(
    label_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    losses = ["--loss.dice=0.5", "--loss.class_weights=balanced"]
    train(label_folder, run, "--trainer.max_epochs=16", "--trainer.val_every_epochs=16", *losses)
    record = json.loads((run / "metrics.json").read_text())
    assert record["best"]["value"] > 0.7  # ground alone is a third
    assert yaml.safe_load((run / "run.yaml").read_text())["loss"]["dice"] == 0.5
    assert (run / "metrics.csv").read_text().splitlines()[0].count("train/dice") == 1

    evaluation = tmp_path / "evaluation"
    assert main(["evaluate", str(run), "-o", str(evaluation), "--save_labels"]) == 0
    found = json.loads((evaluation / "evaluation.json").read_text())
    assert found["metrics"]["mIoU"] == pytest.approx(record["best"]["value"], abs=1e-6)
    labels = str(evaluation / "labels")
    again = tmp_path / "again"
    words = ["--results", labels, "--data.root", str(label_folder), "-o", str(again)]
    assert main(["evaluate", *words]) == 0
    repeated = json.loads((again / "evaluation.json").read_text())
    assert repeated["metrics"]["mIoU"] == pytest.approx(found["metrics"]["mIoU"])
    report = (evaluation / "report.html").read_text()
    assert "red" in report and "<img" in report

    output = tmp_path / "predicted"
    photos = label_folder / "images" / "val"
    assert main(["predict", str(run), str(photos), "-o", str(output)]) == 0
    for file in photos.iterdir():
        with Image.open(file) as photo, Image.open(output / "labels" / file.name) as predicted:
            assert predicted.size == photo.size
    assert "%" in capsys.readouterr().out
    one = ziggurat.load(run, device="cpu")(next(photos.iterdir()))
    assert isinstance(one.result, LabelMap)


def test_classes_that_overlap(mask_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["--trainer.max_epochs=16", "--trainer.val_every_epochs=16"]
    train(mask_folder, run, *words)
    record = json.loads((run / "metrics.json").read_text())
    assert record["best"]["value"] > 0.5
    evaluation = tmp_path / "evaluation"
    assert main(["evaluate", str(run), "-o", str(evaluation)]) == 0
    found = json.loads((evaluation / "evaluation.json").read_text())
    assert found["metrics"]["mIoU"] == pytest.approx(record["best"]["value"], abs=1e-6)
    rows = (evaluation / "images.csv").read_text().splitlines()
    assert len(rows) == 1 + 4
    num_wrong = sum(int(row.split(",")[2]) > 0 for row in rows[1:])
    assert len(list((evaluation / "worst").glob("*.png"))) == num_wrong
    assert (evaluation / "classes.png").is_file()
    assert not (evaluation / "confusion.png").exists()
    photos = mask_folder / "images" / "val"
    output = tmp_path / "predicted"
    words = ["predict", str(run), str(photos), "-o", str(output), "--format"]
    assert main([*words, "json"]) == 0
    areas = json.loads((output / "areas.json").read_text())
    assert len(areas) == 4
    assert main([*words, "labels"]) == 1
    assert main(words[:-1]) == 0
    written = {file.parent.name for file in (output / "masks").rglob("*.png")}
    assert written <= {"red", "blue", "thing"}
    assert len(list((output / "masks" / "thing").iterdir())) == 4
    one = ziggurat.load(run, device="cpu")(next(photos.iterdir()))
    assert isinstance(one.result, ClassMasks)
    assert one.colours.tolist() == [[255, 0, 0], [0, 0, 255], [9, 99, 9]]


def test_colours_of_the_data_are_those_of_predictions(label_folder: Path, tmp_path: Path) -> None:
    palette = [[10, 20, 30], [255, 0, 255], [0, 90, 0]]
    classes = {"classes": ["ground", "red", "blue"], "palette": palette}
    (label_folder / "classes.json").write_text(json.dumps(classes))
    run, output = tmp_path / "run", tmp_path / "predicted"
    train(label_folder, run, "--trainer.max_steps=1")
    photo = str(label_folder / "images/val/0.png")
    assert main(["predict", str(run), photo, "-o", str(output)]) == 0
    assert json.loads((output / "labels/classes.json").read_text()) == classes


def test_label_maps_of_other_classes_are_refused(
    label_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(label_folder, run, "--trainer.max_steps=1")
    classes = label_folder / "classes.json"
    classes.write_text(json.dumps({"classes": ["ground", "red", "green"]}))
    assert main(["evaluate", str(run)]) == 1
    assert "does not know (green)" in capsys.readouterr().err


def test_weights_of_other_classes(
    label_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    train(label_folder, first, "--trainer.max_steps=1")
    classes = label_folder / "classes.json"
    classes.write_text(json.dumps({"classes": ["ground", "red", "blue", "green"]}))
    weights = f"--model.weights={first / 'last.safetensors'}"
    words = ["train", "segformer_pvt_v2_b0_from_scratch", f"--data.root={label_folder}"]
    words += ["--model.backbone=p2t_tiny", *SMALL, "--trainer.max_steps=1", weights]
    assert main([*words, "--output", str(tmp_path / "second")]) == 1
    assert "only the classes differ, `--model.reset_classes true`" in capsys.readouterr().err
    again = [*words, "--output", str(tmp_path / "third"), "--model.reset_classes=true"]
    assert main(again) == 0


def test_an_auxiliary_head_is_trained_and_kept(label_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = ["--trainer.max_steps=1", "--trainer.log_every_steps=1"]
    train(label_folder, run, *steps, "--model.auxiliary_head=true")
    assert "train/auxiliary" in (run / "metrics.csv").read_text().splitlines()[0]
    assert main(["train", "--output", str(run), "--resume", "--trainer.max_steps=2"]) == 0
    model = load_weights(run / "last.safetensors")
    assert isinstance(model, SemanticSegmenter) and model.auxiliary_head is not None
    one = ziggurat.load(run, device="cpu")(label_folder / "images/val/0.png")
    assert isinstance(one.result, LabelMap)
    weights = f"--model.weights={run / 'last.safetensors'}"
    train(label_folder, tmp_path / "without", *steps, weights)
    model = load_weights(tmp_path / "without" / "last.safetensors")
    assert isinstance(model, SemanticSegmenter) and model.auxiliary_head is None


def test_a_batch_norm_that_sees_one_value_is_named(
    label_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "segformer_pvt_v2_b0_from_scratch", f"--data.root={label_folder}"]
    words += ["--output", str(tmp_path / "run"), "--model.backbone=p2t_tiny", *SMALL]
    assert main([*words, "--model.name=upernet", "--data.batch_size=1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("ziggurat: error: data.batch_size must be at least 2 for upernet")
    assert "trainer.sync_batch_norm=true" in error and error.count("\n") == 1


def test_labels_that_say_nothing(
    label_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["segformer_pvt_v2_b0_from_scratch", "--model.backbone=p2t_tiny", *SMALL]
    words += ["--trainer.max_steps=1", f"--data.root={label_folder}"]
    command = ["train", *words, "--output"]
    for path in (label_folder / "annotations" / "train").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels == 2, 255, labels).astype(np.uint8)).save(path)
    assert main([*command, str(tmp_path / "one")]) == 0
    assert "WARNING: no pixel of blue in the 12 training label maps" in capsys.readouterr().out
    for path in (label_folder / "annotations" / "val").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.full_like(labels, 255)).save(path)
    assert main([*command, str(tmp_path / "two")]) == 1
    assert "the label maps to validate on must label some pixels" in capsys.readouterr().err
