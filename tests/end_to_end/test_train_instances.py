"""`ziggurat train`, `evaluate` and `data` on masks of objects as Pascal VOC and Cityscapes have."""

import json
from pathlib import Path

import pytest

from ziggurat.cli.main import main

NUM_CLASSES = {"voc": 20, "cityscapes": 8}


@pytest.mark.parametrize("name", [pytest.param("voc", marks=pytest.mark.slow), "cityscapes"])
def test_two_steps_of_mask_rcnn_and_its_numbers(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root: Path = request.getfixturevalue(f"{name}_folder")
    words = [
        *(f"--data.root={root}", "--data.short_side=72", "--data.long_side=128"),
        *("--data.batch_size=2", "--data.workers=1", "--model.head_channels=32"),
        *("--trainer.accelerator=cpu", "--trainer.max_steps=2"),
    ]
    run = tmp_path / "run"
    assert main(["train", "mask_rcnn_p2t_tiny_1x_coco", "--output", str(run), *words]) == 0
    record = json.loads((run / "metrics.json").read_text())
    assert (record["last"]["step"], record["last"]["num_images"]) == (2, 2)
    assert "mask_AP" in record["last"]["metrics"]
    if name == "cityscapes":
        assert "left out as no target: 4 x crowd" in capsys.readouterr().out
    for rules, primary in (("coco", "mask_AP"), ("voc", "VOC_AP"), ("cityscapes", "Cityscapes_AP")):
        assert main(["evaluate", str(run), "--rules", rules, "--device", "cpu"]) == 0
        content = json.loads((run / "evaluation" / "evaluation.json").read_text())
        assert (content["primary"], content["num_images"]) == (primary, 2)
        assert len(content["per_class"]) == NUM_CLASSES[name]
    # The same numbers of the results file, and of the data as COCO.
    again = [str(run / "evaluation" / "predictions.json"), "--rules", "cityscapes"]
    assert main(["data", "convert", str(root), "--masks", "-o", str(tmp_path / "coco")]) == 0
    for data in (root, tmp_path / "coco"):
        out = tmp_path / "again"
        command = ["evaluate", "--results", *again, "--data.root", str(data), "-o", str(out)]
        assert main(command) == 0
        read = json.loads((out / "evaluation.json").read_text())
        assert read["metrics"] == content["metrics"]
    check = ["data", "check", str(root), "--contact_sheet", str(tmp_path / "sheet.png")]
    main(check)  # the boxes and label maps of the folder have notes and faults of their own
    title = {"voc": "masks of objects of Pascal VOC", "cityscapes": "objects of Cityscapes"}[name]
    assert f"({title}): train 4 images, " in capsys.readouterr().out


def test_rules_for_masks_and_a_model_of_boxes(
    tmp_path: Path, cityscapes_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *(f"--data.root={cityscapes_folder}", "--data.short_side=72", "--data.long_side=128"),
        *("--data.batch_size=2", "--data.workers=0", "--model.head_channels=16"),
        *("--model.head_depth=1", "--trainer.accelerator=cpu", "--trainer.max_steps=1"),
    ]
    run = str(tmp_path / "run")
    assert main(["train", "retinanet_p2t_tiny_1x_coco", "--output", run, *words]) == 0
    assert main(["evaluate", run, "--rules", "cityscapes"]) == 1
    assert "are about masks, and retinanet_p2t_tiny finds boxes only" in capsys.readouterr().err


def test_rules_for_a_classifier(
    tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *(f"--data.root={image_folder}", "--data.image_size=72", "--data.resize=80"),
        *("--data.batch_size=4", "--data.workers=0"),
        *("--trainer.accelerator=cpu", "--trainer.max_steps=1"),
    ]
    run = str(tmp_path / "run")
    assert main(["train", "p2t_tiny_300e_imagenet", "--output", run, *words]) == 0
    assert main(["evaluate", run, "--rules", "voc"]) == 1
    assert "the rules of voc are for detectors, and p2t_tiny is none" in capsys.readouterr().err
