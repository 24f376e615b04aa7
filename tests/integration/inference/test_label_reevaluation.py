"""Folders of label maps evaluated without a model: numbers, pictures, and clear refusals."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.cli.main import main
from ziggurat.errors import ZigguratError
from ziggurat.inference.label_files import LabelFileWriter
from ziggurat.inference.label_gallery import WorstImages, draw_worst_labels, worst_panels
from ziggurat.inference.label_reevaluation import evaluate_label_files
from ziggurat.metrics.segmentation import ImageScore
from ziggurat.types import LabelMap

CLASSES = ["sky", "sea", "ship"]
PALETTE = [[200, 220, 255], [0, 60, 120], [90, 20, 20]]


def write(folder: Path, name: str, values: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(folder / name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three photos of 12 x 10 pixels: sky above, sea below, an unlabelled column at the left."""
    root = tmp_path / "data"
    truth = np.zeros((10, 12))
    truth[5:] = 1
    truth[:, 0] = 255
    for name in ("a", "b", "c"):
        write(root / "images" / "val", f"{name}.png", np.full((10, 12, 3), 90))
        write(root / "annotations" / "val", f"{name}.png", truth)
    (root / "classes.json").write_text(json.dumps({"classes": CLASSES, "palette": PALETTE}))
    return root


@pytest.fixture
def found(data: Path) -> Path:
    """Label maps of them: one right, one with a wrong pixel, one with two rows of ships."""
    folder = data.parent / "found"
    right = np.zeros((10, 12))
    right[5:] = 1
    one, rows = right.copy(), right.copy()
    one[0, 1] = 2
    rows[:2] = 2
    for name, values in (("a", right), ("b", one), ("c", rows)):
        write(folder, f"{name}.png", values)
    return folder


def test_numbers_and_pictures(data: Path, found: Path) -> None:
    evaluation = evaluate_label_files(found, data_root=data)
    numbers = evaluation.report.numbers
    assert numbers["aAcc"] == pytest.approx(1 - 23 / 330)
    assert numbers["mIoU"] == pytest.approx((142 / 165 + 1 + 0) / 3)
    assert evaluation.data.endswith("3 of 3 images")
    assert evaluation.labels is not None
    assert evaluation.labels.colours.tolist() == PALETTE
    gallery = draw_worst_labels(evaluation.labels)
    assert [item.title[:30] for item in gallery.items] == [
        "c.png: 20.0 % of the pixels are"[:30],
        "b.png: 0.9 % of the pixels are "[:30],
    ]
    item = gallery.items[0]
    assert item.difference is not None
    assert [name for name, _ in item.legend] == ["sea", "sky", "ship"]
    names = [name for name, _ in worst_panels(evaluation.labels)]
    assert names == ["01_c.png", "02_b.png"]


def test_command_writes_everything(data: Path, found: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--results", str(found), "--data.root", str(data), "-o", str(out)]
    assert main(["evaluate", *arguments]) == 0
    content = json.loads((out / "evaluation.json").read_text())
    assert content["metrics"]["aAcc"] == pytest.approx(1 - 23 / 330)
    assert content["num_images"] == 3
    rows = list(csv.reader((out / "images.csv").read_text().splitlines()))
    assert rows[0] == ["image", "labelled_pixels", "wrong_pixels", "share_wrong", "mIoU"]
    assert [Path(row[0]).name for row in rows[1:]] == ["c.png", "b.png", "a.png"]
    assert rows[1][1:4] == ["110", "22", "0.200000"]
    for name in ("confusion.png", "classes.png", "worst/01_c.png", "report.html"):
        assert (out / name).stat().st_size > 100


def test_classes_in_another_order_are_matched_by_name(data: Path, found: Path) -> None:
    expected = evaluate_label_files(found, data_root=data).report
    shuffled = data.parent / "shuffled"
    order = ["ship", "sky", "cloud", "sea"]
    colours = np.array([[1, 2, 3]] * 4, dtype=np.uint8)
    writer = LabelFileWriter(shuffled, order, colours)
    for file in sorted(found.iterdir()):
        old = np.array(Image.open(file))
        values = np.array([order.index(name) for name in CLASSES])[old]
        writer.write(file.name, LabelMap(torch.from_numpy(values)))
    evaluation = evaluate_label_files(shuffled, data_root=data)
    assert evaluation.report.numbers["mIoU"] == expected.numbers["mIoU"]
    assert [row["class"] for row in evaluation.report.per_class] == order
    assert evaluation.labels is not None
    assert evaluation.labels.colours.tolist() == colours.tolist()


def test_missing_label_maps(data: Path, found: Path) -> None:
    (found / "b.png").unlink()
    with pytest.raises(ZigguratError, match=r"no label map b\.png .* \(1 of 3 are missing\)"):
        evaluate_label_files(found, data_root=data)
    evaluation = evaluate_label_files(found, data_root=data, is_partial=True)
    assert evaluation.data.endswith("2 of 3 images")
    assert evaluation.report.num_images == 2
    for file in found.iterdir():
        file.unlink()
    with pytest.raises(
        ZigguratError, match=r"has no label maps; expected files as a\.png, one for"
    ):
        evaluate_label_files(found, data_root=data, is_partial=True)


def test_label_maps_of_other_images(data: Path, found: Path) -> None:
    write(found, "z.png", np.zeros((10, 12)))
    with pytest.raises(ZigguratError, match=r"z\.png is of no image of .*data, val \(1 such"):
        evaluate_label_files(found, data_root=data)


def test_label_maps_of_another_size(data: Path, found: Path) -> None:
    write(found, "a.png", np.zeros((9, 12)))
    with pytest.raises(ZigguratError, match=r"a\.png has 12 x 9 pixels, but .* has 12 x 10"):
        evaluate_label_files(found, data_root=data)


def test_labels_that_are_no_class(data: Path, found: Path) -> None:
    write(found, "a.png", np.full((10, 12), 7))
    with pytest.raises(ZigguratError, match=r"a\.png cannot be used: .* label 7 "):
        evaluate_label_files(found, data_root=data)
    write(found, "a.png", np.full((10, 12), 255))
    with pytest.raises(ZigguratError, match=r"predicted labels of .*a\.png reach 255"):
        evaluate_label_files(found, data_root=data)


def test_damaged_files(data: Path, found: Path) -> None:
    truth = data / "annotations" / "val" / "b.png"
    truth.write_bytes(truth.read_bytes()[:40])
    evaluation = evaluate_label_files(found, data_root=data)
    assert [Path(file.path).name for file in evaluation.bad_files] == ["b.png"]
    assert evaluation.report.num_images == 2
    (found / "a.png").write_bytes(b"")
    with pytest.raises(ZigguratError, match=r"label map .*a\.png cannot be used: it is empty"):
        evaluate_label_files(found, data_root=data)


def test_classes_of_other_data(data: Path, found: Path) -> None:
    (found / "classes.json").write_text(json.dumps({"classes": ["sky", "sea"]}))
    with pytest.raises(ZigguratError, match=r"1 classes that .*found does not know \(ship\)"):
        evaluate_label_files(found, data_root=data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "give the data set with --data.root"),
        (("--flip",), "are for a model, and --results has been predicted"),
        (("--save_labels",), "are for a model, and --results has been predicted"),
        (("--batch_size", "2"), "are for a model, and --results has been predicted"),
        (("--workers", "0"), "are for a model, and --results has been predicted"),
        (("--device", "cpu"), "are for a model, and --results has been predicted"),
        (("--precision", "bf16"), "are for a model, and --results has been predicted"),
        (("--rules", "coco"), "--rules coco is for detections, and --results is a folder"),
        (("--tile_overlap", "3"), "without --tile_size there are none"),
    ],
)
def test_options_that_make_no_sense(
    found: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--results", str(found), *options]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_partial_is_for_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "detections.json"
    file.write_text("[]")
    for arguments in (["--results", str(file)], [str(file)]):
        assert main(["evaluate", *arguments, "--partial"]) == 1
        assert "--partial is for" in capsys.readouterr().err


def test_names_that_are_no_utf_8_and_images_without_mistakes_are_saved(
    data: Path, found: Path, tmp_path: Path
) -> None:
    evaluation = evaluate_label_files(str(found), data_root=str(data))
    assert evaluation.labels is not None
    image = ImageScore(1, "caf\udce9.png", pixels=10, wrong=0, iou=1.0)
    labels = replace(evaluation.labels, images=(image,), worst=())
    written = replace(evaluation, labels=labels).save(tmp_path / "out")
    assert sorted(written) == sorted((tmp_path / "out").iterdir())  # no folder worst
    assert "caf\\udce9.png" in (tmp_path / "out" / "images.csv").read_text()


def test_only_the_worst_are_kept_and_small() -> None:
    kept = WorstImages(limit=2)
    truth, found = LabelMap(torch.zeros(2, 2000).long()), LabelMap(torch.ones(2, 2000).long())
    for number, wrong in enumerate([5, 0, 9, 7, 1]):
        kept.offer(ImageScore(number, "", pixels=10, wrong=wrong, iou=0.5), truth, found)
    assert [image.score.wrong for image in kept.images] == [9, 7]
    labels = kept.images[0].labels
    assert labels.truth.shape == labels.wrong.shape == (1, 960)
    assert labels.prediction.all()
    assert labels.wrong.all()


def test_two_photos_of_one_name(tmp_path: Path) -> None:
    writer = LabelFileWriter(tmp_path, CLASSES, np.array(PALETTE, dtype=np.uint8))
    labels = LabelMap(torch.tensor([[0, 1], [2, 2]], dtype=torch.int16))
    file = writer.write("x/photo.jpg", labels)
    image = Image.open(file)
    assert image.mode == "P"
    assert np.array(image).tolist() == [[0, 1], [2, 2]]
    assert image.convert("RGB").getpixel((1, 1)) == tuple(PALETTE[2])
    with pytest.raises(ZigguratError, match=r"y/photo\.png and x/photo\.jpg have the same name"):
        writer.write("y/photo.png", labels)


def test_camvid_has_its_numbers(shared_data: Path) -> None:
    root = shared_data / "camvid"
    expected = json.loads((root / "expected_metrics.json").read_text())
    report = evaluate_label_files(
        root / "sample_predictions", data_root=root, is_partial=True
    ).report
    assert report.num_images == len(expected["files"])
    for name in ("aAcc", "mIoU", "mAcc", "mDice"):
        assert report.numbers[name] == pytest.approx(expected[name], abs=1e-15)
    found = {row["class"]: row["IoU"] for row in report.per_class}
    assert found == pytest.approx(expected["IoU"], abs=1e-15)


def test_ade20k_has_its_numbers_in_both_conventions(shared_data: Path) -> None:
    root = shared_data / "ade_sample"
    expected = json.loads((root / "expected_metrics.json").read_text())
    report = evaluate_label_files(root / "sample_predictions", data_root=root).report
    official, usual = expected["csail_official"], expected["mmseg_style"]
    assert report.numbers["mIoU_all"] == pytest.approx(official["mean_IoU_over_150"], abs=1e-15)
    assert report.numbers["aAcc"] == pytest.approx(official["pixel_accuracy"], abs=1e-15)
    assert report.numbers["mIoU"] == pytest.approx(usual["mIoU_nanmean"], abs=1e-15)
    assert report.numbers["mAcc"] == pytest.approx(usual["mAcc_nanmean"], abs=1e-15)
    of_label = expected["per_class_IoU_by_label_1_to_150"]
    for label, row in enumerate(report.per_class, start=1):
        assert row["IoU"] == pytest.approx(of_label.get(str(label)), abs=1e-15)
