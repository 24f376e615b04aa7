"""`ziggurat evaluate` and `ziggurat predict` from weights to files, without a training library."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.checkpoints.native import save_weights
from ziggurat.cli.main import main
from ziggurat.inference import video
from ziggurat.preprocessing import CenterCrop, FitInside
from ziggurat.zoo import create_model

CLASSES = ("cell", "star")


def save_photo(path: Path, seed: int, size: tuple[int, int] = (90, 120)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = create_model("p2t_tiny", num_classes=2)
    model.classes, model.preprocessing = CLASSES, CenterCrop(resize=72, crop=66)
    path = tmp_path / "weights" / "classifier.safetensors"
    save_weights(model, path)
    return path


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = create_model("retinanet_p2t_tiny", num_classes=2, head_channels=16, head_depth=1)
    model.classes, model.preprocessing = CLASSES, FitInside(short_side=72, long_side=120)
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            if name == "cls_logits.bias":
                parameter.zero_()  # a score of one half everywhere: something is found
    path = tmp_path / "weights" / "detector.safetensors"
    save_weights(model, path)
    return path


def test_predict_detector(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_photo(tmp_path / "in" / "a.png", 0)
    save_photo(tmp_path / "in" / "deep" / "a.jpg", 1)
    (tmp_path / "in" / "broken.jpg").write_text("no image")
    out = tmp_path / "out"
    words = ["predict", str(detector), str(tmp_path / "in"), str(tmp_path / "absent.jpg")]
    assert main([*words, "-o", str(out), "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert "broken.jpg" in printed.err
    assert "2 of 4 files could not be read" in printed.err
    assert sorted(file.name for file in out.iterdir()) == ["a.jpg", "a_2.jpg", "predictions.json"]
    entries = json.loads((out / "predictions.json").read_text())
    assert {entry["image_id"] for entry in entries} == {1, 3}
    for entry in entries:
        assert entry["category"] == CLASSES[entry["category_id"] - 1]
        assert entry["score"] >= 0.3
        x, y, width, height = entry["bbox"]
        assert x >= 0 and y >= 0 and x + width <= 120.01 and y + height <= 90.01  # noqa: PT018
    with Image.open(out / "a.jpg") as picture:
        assert picture.width % 120 == 0


def test_predict_classifier(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_photo(tmp_path / "in" / "a.png", 0)
    out = tmp_path / "out"
    assert main(["predict", str(classifier), str(tmp_path / "in"), "-o", str(out)]) == 0
    (entry,) = json.loads((out / "predictions.json").read_text())
    assert {score["class"] for score in entry["scores"]} == set(CLASSES)
    assert entry["file_name"].endswith("a.png")
    assert entry["scores"][0]["class"] in capsys.readouterr().out


def test_evaluate_classifier(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in CLASSES:
        save_photo(tmp_path / "data" / "test" / name / "0.png", len(name))
    words = ["evaluate", str(classifier), "--data.root", str(tmp_path / "data")]
    assert main([*words, "--data.split", "test", "-o", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "top1" in text
    assert "mistaken for" in text
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content["num_images"] == 2
    assert np.sum(content["confusion"]) == 2
    with Image.open(tmp_path / "out" / "confusion.png") as picture:
        assert picture.format == "PNG"
    assert main(words) == 1
    assert "no split folder 'val'" in capsys.readouterr().err


def test_evaluate_detector(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_photo(tmp_path / "data" / "val" / "0.png", 0)
    (tmp_path / "data" / "annotations").mkdir()
    annotations = {
        "images": [{"id": 5, "file_name": "0.png", "width": 120, "height": 90}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": [3, 3, 50, 50]}],
        "categories": [{"id": 2, "name": "star"}, {"id": 7, "name": "cell"}],
    }
    file = tmp_path / "data" / "annotations" / "instances_val.json"
    file.write_text(json.dumps(annotations))
    words = ["evaluate", str(detector), "--data.root", str(tmp_path / "data")]
    assert main([*words, "--batch_size", "1"]) == 0
    assert "AP_large" in capsys.readouterr().out
    out = detector.parent / "evaluation"
    content = json.loads((out / "evaluation.json").read_text())
    assert list(content["metrics"])[:3] == ["AP", "AP50", "AP75"]
    assert content["metrics"]["AP_small"] is None
    found = json.loads((out / "predictions.json").read_text())
    assert {entry["category_id"] for entry in found} <= {2, 7}


def test_evaluation_of_what_predict_wrote(detector: Path, tmp_path: Path) -> None:
    """The ids of the data are others than those that predict counts."""
    names = ("b.png", "a.png", "c.png")
    for number, name in enumerate(names):
        save_photo(tmp_path / "data" / "val" / name, number)
    objects = [(7, 5, [3, 3, 50, 50]), (3, 9, [20, 10, 80, 70]), (5, 5, [40, 20, 60, 60])]
    annotations = {
        "images": [
            {"id": number, "file_name": name, "width": 120, "height": 90}
            for number, name in zip((7, 5, 3), names, strict=True)
        ],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "bbox": box}
            for number, (image, category, box) in enumerate(objects)
        ],
        "categories": [
            {"id": number, "name": name} for number, name in zip((9, 5), CLASSES, strict=True)
        ],
    }
    file = tmp_path / "data" / "annotations" / "instances_val.json"
    file.parent.mkdir()
    file.write_text(json.dumps(annotations))
    named = ["--data.annotations", str(file), "--data.images", str(tmp_path / "data" / "val")]
    assert main(["evaluate", str(detector), *named, "-o", str(tmp_path / "first")]) == 0
    out = tmp_path / "out"
    words = [str(detector), str(tmp_path / "data" / "val"), "-o", str(out), "--no_pictures"]
    assert main(["predict", *words, "--score_threshold", "0"]) == 0
    results = ["evaluate", "--results", str(out / "predictions.json")]
    assert main([*results, "--data.root", str(tmp_path / "data")]) == 0
    found, expected = (
        json.loads((folder / "evaluation.json").read_text())
        for folder in (out / "evaluation", tmp_path / "first")
    )
    assert found["metrics"] == expected["metrics"]
    assert found["metrics"]["AP50"] > 0
    of_class, wanted = ({r["class"]: r for r in c["per_class"]} for c in (found, expected))
    assert of_class == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "absent"], "there are no weights at absent"),
        (["evaluate", "WEIGHTS"], "--data.root"),
        (["evaluate", "WEIGHTS", "--data.root", "absent"], "data folder absent does not exist"),
        (["evaluate", "WEIGHTS", "--workers", "-1"], "workers must be at least 0"),
        (["evaluate", "WEIGHTS", "--data.rot", "x"], "did you mean --data.root?"),
        (["predict", "absent", "photo.jpg", "-o", "out"], "there are no weights at absent"),
        (["predict", "WEIGHTS", "photo.jpg", "-o", "out", "--device", "tpu"], "no device 'tpu'"),
        (["predict", "WEIGHTS", "photo.jpg"], "-o/--output"),
    ],
)
def test_bad_input_is_one_sentence(
    classifier: Path,
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main([str(classifier) if word == "WEIGHTS" else word for word in words])
    error = capsys.readouterr().err
    assert code == 1
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_prediction_needs_no_training_library(tmp_path: Path) -> None:
    """As on a machine where lightning and tensorboard are not installed."""
    save_photo(tmp_path / "a.png", 0)
    weights = tmp_path / "weights.safetensors"
    # Not p2t_tiny, of which these tests use a smaller one that the new process does not know.
    save_weights(create_model("pvt_v2_b0", num_classes=2), weights)
    program = (
        "import sys\n"
        "for name in ('lightning', 'pytorch_lightning', 'tensorboard'):\n"
        "    sys.modules[name] = None\n"
        "from ziggurat.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = ["predict", str(weights), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a.jpg").is_file()


def test_a_video_that_breaks_off_keeps_its_first_frames(
    detector: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("av", reason="the extra `video` is not installed")

    def frames(path: Path) -> Iterator[video.Frame]:
        for number in range(3):
            yield video.Frame(Image.new("RGB", (64, 48)), number, number / 25)
        raise video.VideoError(f"cannot read video {path} after 3 frames: Invalid data")

    monkeypatch.setattr(video, "read_frames", frames)
    (tmp_path / "clip.mp4").touch()
    words = ["predict", str(detector), str(tmp_path / "clip.mp4"), "-o", str(tmp_path / "out")]
    assert main([*words, "--format", "csv"]) == 1
    error = capsys.readouterr().err
    assert "after 3 frames" in error
    assert "all else is done" in error
    assert (tmp_path / "out" / "predictions.csv").is_file()
    assert not (tmp_path / "out" / "clip.mp4").exists()
    assert main([*words, "--explain"]) == 1
    assert "clip.mp4 is a video; leave one of the two out" in capsys.readouterr().err


def test_a_mistyped_image_leaves_earlier_predictions_alone(
    detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "out" / "predictions.json"
    kept.parent.mkdir()
    kept.write_text("[1]")
    words = ["predict", str(detector), str(tmp_path / "typo.jpg"), "-o", str(kept.parent)]
    assert main(words) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert kept.read_text() == "[1]"
