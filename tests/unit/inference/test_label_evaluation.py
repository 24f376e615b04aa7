"""Evaluation of segmenters: the numbers of their own label maps, classes matched by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.cli.main import main
from ziggurat.data.segmentation import eval_image
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import evaluate_run
from ziggurat.inference.label_evaluation import LabelOptions, label_table
from ziggurat.inference.label_reevaluation import evaluate_label_files
from ziggurat.inference.run_report import describe_evaluation
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.types import FitAligned, LabelMap
from ziggurat.zoo import create_model

CLASSES = ("sky", "sea", "ship")
PREPROCESSING = FitAligned(short_side=64, long_side=128)


@pytest.fixture(scope="module")
def segmenter_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a segmenter of three classes that finds more than one of them."""
    torch.manual_seed(1)
    model = create_model("segformer", backbone="topformer_tiny", num_classes=3, head_channels=8)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_()
    model.classes = CLASSES
    model.preprocessing = PREPROCESSING
    path = tmp_path_factory.mktemp("weights") / "segmenter.safetensors"
    save_weights(model, path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos of several sizes with labels, one of them all unlabelled."""
    root = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(0)
    for part in ("images", "annotations"):
        (root / part / "val").mkdir(parents=True)
    for number, (height, width) in enumerate([(70, 90), (64, 64), (90, 50)]):
        photo = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        labels = rng.integers(0, 3, (height, width), dtype=np.uint8)
        labels[: height // 3] = 255
        if number == 1:
            labels[:] = 255
        Image.fromarray(photo).save(root / "images" / "val" / f"{number}.png")
        Image.fromarray(labels).save(root / "annotations" / "val" / f"{number}.png")
    (root / "classes.json").write_text(json.dumps({"classes": CLASSES}))
    return root


def by_hand(weights: Path, data: Path) -> SegmentationMetric:
    model, metric = load_weights(weights).eval(), SegmentationMetric(CLASSES)
    for file in sorted((data / "images" / "val").iterdir()):
        photo = Image.open(file)
        tensor = eval_image(photo, PREPROCESSING)
        with torch.inference_mode():
            raw = model(tensor[None])
        size = (tensor.shape[1], tensor.shape[2])
        (found,) = model.decode(raw, [size], [(photo.height, photo.width)])
        truth = np.array(Image.open(data / "annotations" / "val" / file.name))
        metric.add(found, LabelMap(torch.from_numpy(truth)), image_id=0, path="")
    return metric


def test_equals_decoding_by_hand(segmenter_file: Path, data: Path) -> None:
    evaluation = evaluate_run(segmenter_file, data_root=data, device="cpu")
    expected = by_hand(segmenter_file, data).compute()
    assert evaluation.report.numbers == expected.numbers
    assert evaluation.report.per_class == expected.per_class
    assert evaluation.report.num_images == 3
    assert evaluation.report.confusion is not None
    assert (evaluation.report.confusion.sum(axis=0) > 0).sum() > 1
    assert evaluation.coco_results is None
    assert evaluation.labels is not None
    assert [image.pixels for image in evaluation.labels.images] == [90 * 47, 0, 50 * 60]
    assert len(evaluation.labels.worst) == 2  # the unlabelled one has nothing wrong
    page = describe_evaluation(evaluation)
    assert [plot.title for plot in page.plots] == ["Confusion", "Classes"]
    assert [gallery.title for gallery in page.galleries] == ["Worst images"]


def test_saved_label_maps_give_the_same_numbers(
    segmenter_file: Path, data: Path, tmp_path: Path
) -> None:
    options = LabelOptions(save_to=tmp_path / "labels")
    evaluation = evaluate_run(segmenter_file, data_root=data, labels=options, device="cpu")
    again = evaluate_label_files(tmp_path / "labels", data_root=data)
    assert again.report.numbers == evaluation.report.numbers
    assert again.report.per_class == evaluation.report.per_class
    with Image.open(tmp_path / "labels" / "0.png") as image:
        assert image.size == (90, 70)


def test_command(
    segmenter_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out / "worst").mkdir(parents=True)
    (out / "worst" / "07_old.png").touch()
    words = ["evaluate", str(segmenter_file), "--data.root", str(data), "-o", str(out)]
    assert main([*words, "--save_labels", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for text in ("boundary_mIoU", "3 classes", f"wrote {out / 'labels'}"):
        assert text in printed
    names = {file.name for file in (out / "worst").iterdir()}
    assert names in ({"01_0.png", "02_2.png"}, {"01_2.png", "02_0.png"})
    assert {file.name for file in (out / "labels").iterdir()} == {
        *("0.png", "1.png", "2.png"),
        "classes.json",
    }


def test_classes_of_the_data_in_another_order(
    segmenter_file: Path, data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "classes.json").write_text(json.dumps({"classes": ["ship", "sky"]}))
    for file in (root / "annotations" / "val").iterdir():
        labels = np.array(Image.open(file))
        Image.fromarray(np.array([1, 255, 0], dtype=np.uint8)[labels % 3]).save(file)
    report = evaluate_run(segmenter_file, data_root=root, device="cpu").report
    assert [row["class"] for row in report.per_class] == list(CLASSES)
    assert report.per_class[0]["pixels"] > 0  # type: ignore[operator]
    assert report.per_class[1]["pixels"] == 0


def test_classes_that_the_model_does_not_know(
    segmenter_file: Path, data: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "classes.json").write_text(json.dumps({"classes": ["sky", "sea", "ship", "moon"]}))
    with pytest.raises(ZigguratError, match=r"1 classes that the model does not know \(moon\)"):
        evaluate_run(segmenter_file, data_root=root, device="cpu")


def test_tables_of_labels() -> None:
    table = label_table(("b", "a"), ("a", "b", "c"), of="data", owner="the model")
    assert table[[0, 1, 255]].tolist() == [1, 0, 255]
    anonymous = ("class_0", "class_1")
    table = label_table(("b", "a"), anonymous, of="data", owner="the model")
    assert table[[0, 1, 255]].tolist() == [0, 1, 255]
    with pytest.raises(ZigguratError, match="the model tells 2 classes apart and data has 3"):
        label_table(("a", "b", "c"), anonymous, of="data", owner="the model")


def test_damaged_photos_are_left_out(segmenter_file: Path, data: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "images" / "val" / "0.png").write_bytes(b"\x89PNG nothing")
    evaluation = evaluate_run(segmenter_file, data_root=root, device="cpu")
    assert [Path(file.path).name for file in evaluation.bad_files] == ["0.png"]
    assert evaluation.report.num_images == 2


def test_options_are_for_segmenters(classifier_file: Path, folder_root: Path) -> None:
    options = LabelOptions(save_to=Path("labels"))
    with pytest.raises(ZigguratError, match="are for the evaluation of segmenters, and p2t_mini"):
        evaluate_run(classifier_file, data_root=folder_root, labels=options, device="cpu")
