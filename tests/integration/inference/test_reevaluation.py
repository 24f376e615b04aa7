"""Results files evaluated without a model: same numbers, pictures, and clear refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ziggurat.cli.main import main
from ziggurat.errors import ZigguratError
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.evaluation_result import Evaluation
from ziggurat.inference.gallery import draw_worst
from ziggurat.inference.reevaluation import evaluate_results
from ziggurat.visualize.report import Gallery

SIDES = (60, 40)  # width, height


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images, one object each, with masks."""
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    for number in (1, 2):
        Image.new("RGB", SIDES, (90, 120, 30)).save(root / "val" / f"{number}.png")
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": SIDES[0], "height": SIDES[1]}
            for n in (1, 2)
        ],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": 3,
                "bbox": [10, 10, 20, 20],
                "area": 400,
                "iscrowd": 0,
                "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
            }
            for n in (1, 2)
        ],
        "categories": [{"id": 3, "name": "cell"}, {"id": 8, "name": "star"}],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return root


def results(folder: Path, *entries: dict[str, Any]) -> Path:
    file = folder / "detections.json"
    file.write_text(json.dumps(entries))
    return file


def worst(evaluation: Evaluation) -> Gallery:
    assert evaluation.objects is not None
    return draw_worst(evaluation.objects, evaluation.report.errors[0])


HIT: dict[str, Any] = {"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "score": 0.9}
# Columns 10 to 29, rows 10 to 29 of an image 40 pixels high.
MASK = {"size": [40, 60], "counts": [410, *[20, 20] * 19, 20, 1210]}


def test_boxes(data: Path, tmp_path: Path) -> None:
    wrong = HIT | {"image_id": 2, "category_id": 8}
    evaluation = evaluate_results(results(tmp_path, HIT, wrong), data_root=data)
    assert evaluation.report.numbers["AP50"] == pytest.approx(51 / 101)
    (breakdown,) = evaluation.report.errors
    assert {kind.name for kind in breakdown.kinds if kind.count} == {"classification"}
    gallery = worst(evaluation)
    assert [item.title for item in gallery.items] == ["2.png: 1 classification"]
    assert gallery.items[0].truth.tobytes() != gallery.items[0].prediction.tobytes()


def test_masks_are_drawn(data: Path, tmp_path: Path) -> None:
    entry = {"image_id": 1, "category_id": 3, "segmentation": MASK, "score": 0.9}
    evaluation = evaluate_results(results(tmp_path, entry), data_root=data)
    assert evaluation.report.numbers["mask_AP50"] == pytest.approx(51 / 101)
    (item,) = worst(evaluation).items
    assert item.title == "2.png: 1 missed"
    factor = item.truth.width // SIDES[0]
    inside, outside = (20 * factor, 20 * factor), (50 * factor, 35 * factor)
    assert item.truth.getpixel(inside) != (90, 120, 30)
    assert item.truth.getpixel(outside) == (90, 120, 30)


def test_an_annotation_file_alone(data: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "instances_val.json"
    evaluation = evaluate_results(results(tmp_path, HIT), data_root=file)
    assert evaluation.report.num_images == 2
    assert worst(evaluation).items == []
    with pytest.raises(ZigguratError, match="is a file and has no splits"):
        evaluate_results(results(tmp_path, HIT), data_root=file, split="val")


def test_a_file_and_its_images_in_other_places(data: Path, tmp_path: Path) -> None:
    file = (data / "annotations" / "instances_val.json").rename(tmp_path / "truth.json")
    words = ["evaluate", "--results", str(results(tmp_path, HIT)), "--data.annotations", str(file)]
    assert main([*words, "--data.images", str(data / "val"), "-o", str(tmp_path / "out")]) == 0
    assert "Worst images" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    words = [*words[:-1], "../truth.json", "--data.root", str(data), "--data.images", "val"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data.annotations", "a.json"], "belong together"),
        (["--data.images", "val"], "belong together"),
        (
            ["--data.annotations", "a.json", "--data.images", "b", "--data.split", "val"],
            "--data.split val chooses among the splits of a data set",
        ),
    ],
)
def test_places_that_are_half_named(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--results", "x.json", *words]) == 1
    assert message in capsys.readouterr().err


def test_a_model_is_evaluated_on_a_file_in_another_place(
    detector_file: Path,
    classifier_file: Path,
    coco_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = coco_root / "annotations" / "instances_val.json"
    out = tmp_path / "out"
    expected = evaluate(detector_file, data_root=coco_root, device="cpu").report
    places = ["--data.annotations", str(file), "--data.images", str(coco_root / "val")]
    assert main(["evaluate", str(detector_file), *places, "-o", str(out)]) == 0
    content = json.loads((out / "evaluation.json").read_text())
    assert content["metrics"] == expected.to_json()["metrics"] and content["notes"] == []
    assert main(["evaluate", str(classifier_file), *places, "-o", str(out)]) == 1
    assert "name the objects of a detector" in capsys.readouterr().err
    assert main(["evaluate", str(detector_file), "--data.root", str(file)]) == 1
    error = capsys.readouterr().err
    assert "is a file; give the folder" in error and "--data.annotations" in error


def test_what_cannot_be_meant_so_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    for number, bbox in enumerate(([10, 10, -5, 5], [70, 50, 9, 9], [1, 1, 0, 5]), start=3):
        content["annotations"].append(first | {"id": number, "bbox": bbox})
    content["annotations"].append(first | {"id": 9, "bbox": [1, 1, 0, 5], "iscrowd": 1})
    file.write_text(json.dumps(content))
    found = results(tmp_path, HIT, HIT | {"bbox": [5000, 10, 20, 20]})
    words = ["evaluate", "--results", str(found), "--data.root", str(data)]
    assert main(words) == 0
    notes = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["notes"]
    assert notes == [
        f"{file}: counted as pycocotools does, but cannot be found: 1 x box of negative size, "
        "1 x box outside the image, 1 x box without area; `ziggurat data check` names each one",
        f"{found}: 1 of 2 boxes lie wholly outside their image: expected x, y, width, height in "
        "pixels of the image as it is on disk",
    ]
    printed = capsys.readouterr().out
    assert all(note in printed for note in notes)
    masks = results(
        tmp_path, {key: HIT[key] for key in HIT if key != "bbox"} | {"segmentation": MASK}
    )
    assert evaluate_results(masks, data_root=data).notes == ()


def test_images_that_are_gone_are_not_drawn(data: Path, tmp_path: Path) -> None:
    (data / "val" / "2.png").write_bytes(b"")
    evaluation = evaluate_results(results(tmp_path, HIT), data_root=data)
    assert worst(evaluation).items == []


def test_voc(data: Path, tmp_path: Path) -> None:
    evaluation = evaluate_results(results(tmp_path, HIT), data_root=data, rules="voc")
    assert evaluation.report.numbers["VOC_AP"] == 0.5
    assert evaluation.report.errors == ()
    entry = {"image_id": 1, "category_id": 3, "segmentation": MASK, "score": 0.9}
    with pytest.raises(ZigguratError, match="has no boxes"):
        evaluate_results(results(tmp_path, entry), data_root=data, rules="voc")


def test_results_of_other_data(data: Path, tmp_path: Path) -> None:
    file = results(tmp_path, HIT, HIT | {"image_id": 139})
    with pytest.raises(ZigguratError, match=r"entry 1 .*139.*instances_val.json.*another data set"):
        evaluate_results(file, data_root=data)
    with pytest.raises(ZigguratError, match="give the data set"):
        evaluate_results(file, data_root=None)
    with pytest.raises(ZigguratError, match="does not exist"):
        evaluate_results(file, data_root=tmp_path / "absent")


def test_what_evaluate_writes_can_be_read_back(
    detector_file: Path, coco_root: Path, tmp_path: Path
) -> None:
    first = evaluate(detector_file, data_root=coco_root, device="cpu")
    assert first.coco_results is not None
    file = results(tmp_path, *first.coco_results)
    again = evaluate_results(file, data_root=coco_root)
    assert again.report.to_json()["metrics"] == first.report.to_json()["metrics"]
    found, expected = again.report.errors[0].to_json(), first.report.errors[0].to_json()
    assert found == expected


def test_command(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = results(tmp_path, HIT | {"segmentation": MASK})
    words = ["evaluate", "--results", str(file), "--data.root", str(data)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "mask_AP_small" in text
    assert "sizes of objects" in text
    assert "what they cost" in text
    out = tmp_path / "evaluation"
    content = json.loads((out / "evaluation.json").read_text())
    assert content["primary"] == "mask_AP"
    assert content["errors"]["masks"]["kinds"]["missed"]["count"] == 1
    assert content["per_size"][0]["objects"] == 2
    assert "Worst images" in (out / "report.html").read_text(encoding="utf-8")
    assert main([*words, "--rules", "voc"]) == 0
    assert "VOC07_AP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate"], "give either a run or weights"),
        (["evaluate", "run", "--results", "x.json"], "and not both"),
        (["evaluate", "--results", "x.json"], "--data.root"),
        (["evaluate", "--results", "x.json", "--data.root", "DATA"], "cannot read the results"),
        (["evaluate", "run", "--rules", "cocoa"], "--rules"),
    ],
)
def test_bad_arguments(
    data: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(data) if word == "DATA" else word for word in words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
