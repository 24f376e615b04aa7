"""Evaluation of weights on data in both layouts, with classes matched by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from ziggurat.data.pack import pack
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.evaluation_result import describe_evaluation
from ziggurat.inference.predictor import load
from ziggurat.types import BadFile


def test_classifier_agrees_with_the_predictor(classifier_file: Path, folder_root: Path) -> None:
    bad: list[BadFile] = []
    steps: list[tuple[int, int]] = []
    evaluation = evaluate(
        classifier_file,
        data_root=folder_root,
        batch_size=2,
        device="cpu",
        on_progress=lambda done, total: steps.append((done, total)),
        on_bad_file=bad.append,
    )
    predictor = load(classifier_file, device="cpu")
    files = sorted(folder_root.glob("val/*/[01].png"))
    right = sum(predictor(file).top(1)[0][0] == file.parent.name for file in files)
    assert evaluation.report.num_images == 6
    assert evaluation.report.numbers["top1"] == right / 6
    assert [Path(file.path).name for file in bad] == ["damaged.png"]
    assert evaluation.bad_files == tuple(bad)
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert evaluation.coco_results is None


def test_a_model_is_evaluated_as_its_file(
    classifier_file: Path, detector_file: Path, folder_root: Path, coco_root: Path, tmp_path: Path
) -> None:
    """Here and below paths are texts."""
    for file, root in ((classifier_file, folder_root), (detector_file, coco_root)):
        expected = evaluate(str(file), data_root=str(root), device="cpu")
        found = evaluate(load(file, device="cpu").model, data_root=str(root), device="cpu")
        assert found.report.to_json() == expected.report.to_json()
        assert found.coco_results == expected.coco_results
        assert (found.weights, expected.weights) == (None, file)
        found.save(str(tmp_path / "out"))
        assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["weights"] is None
        assert [fact.name for fact in describe_evaluation(found).facts][:2] == ["model", "data"]
    with pytest.raises(ZigguratError, match="`data_root` in Python"):
        evaluate(load(file, device="cpu").model, device="cpu")


def test_places_may_be_texts(detector_file: Path, coco_root: Path) -> None:
    expected = evaluate(detector_file, data_root=coco_root, device="cpu").report
    places = (str(coco_root / "annotations" / "instances_val.json"), str(coco_root / "val"))
    options = EvaluationOptions(places=places)
    found = evaluate(str(detector_file), options=options, device="cpu").report
    assert found.to_json() == expected.to_json()


def test_what_is_saved_depends_on_the_model(
    classifier_file: Path, detector_file: Path, folder_root: Path, coco_root: Path, tmp_path: Path
) -> None:
    for file, root, name in (
        (classifier_file, folder_root, "confusion.png"),
        (detector_file, coco_root, "predictions.json"),
    ):
        out = tmp_path / "deep" / name.split(".")[0]
        evaluation = evaluate(file, data_root=root, device="cpu")
        written = evaluation.save(str(out))
        assert {path.name for path in written} == {"evaluation.json", "report.html", name}
        assert sorted(written) == sorted(out.iterdir())
        content = json.loads((out / "evaluation.json").read_text())
        assert content["weights"] == str(file)
        assert content["metrics"] == evaluation.report.to_json()["metrics"]
    assert json.loads((out / "predictions.json").read_text()) == evaluation.coco_results


def test_a_classifier_is_evaluated_in_the_views_of_prediction(
    classifier_file: Path, folder_root: Path, tmp_path: Path
) -> None:
    looks = Augmentation(flip=True, scales=(1.0, 1.5))
    predictor = load(classifier_file, device="cpu")
    files = sorted(folder_root.glob("val/*/[01].png"))
    best = [predictor(file, augmentation=looks).top(1)[0][0] for file in files]
    # Also where the photos are no files of their own.
    pack(folder_root, tmp_path / "packed", "shards", shard_bytes=10**6)
    for root in (folder_root, tmp_path / "packed"):
        report = evaluate(
            classifier_file,
            data_root=root,
            batch_size=4,
            device="cpu",
            options=EvaluationOptions(augmentation=looks),
        ).report
        right = sum(name == file.parent.name for name, file in zip(best, files, strict=True))
        assert report.numbers["top1"] == right / 6


def test_detector_agrees_with_the_predictor(detector_file: Path, coco_root: Path) -> None:
    evaluation = evaluate(detector_file, data_root=coco_root, device="cpu")
    assert evaluation.coco_results is not None
    predictor = load(detector_file, device="cpu")
    prediction = predictor(coco_root / "val" / "1.png", score_threshold=0.0).to_dict()
    # "tree" is label 2 of the model and category 4 of the data, "star" is unknown to them.
    expected = [entry for entry in prediction["objects"] if entry["class"] != "star"]
    found = [entry for entry in evaluation.coco_results if entry["image_id"] == 49]
    assert len(found) == len(expected) > 0
    assert [entry["category_id"] for entry in found] == [
        {"tree": 4, "cell": 9}[entry["class"]] for entry in expected
    ]
    boxes = torch.tensor([entry["bbox"] for entry in found], dtype=torch.float64)
    boxes[:, 2:] += boxes[:, :2]
    expected_boxes = torch.tensor([entry["box"] for entry in expected], dtype=torch.float64)
    torch.testing.assert_close(boxes, expected_boxes)
    assert evaluation.report.num_images == 3
    assert {row["class"] for row in evaluation.report.per_class} == {"cell", "tree"}


def test_data_of_the_run_are_found(detector_file: Path, coco_root: Path, tmp_path: Path) -> None:
    shutil.copy(detector_file, tmp_path / "best.safetensors")
    run = {
        "task": "detection",
        "model": {"name": "retinanet_p2t_mini"},
        "data": {
            "root": str(coco_root),
            "val_annotations": "annotations/instances_val.json",
            "val_images": "val",
            "eval_batch_size": 3,
        },
        "optimizer": {"lr": 0.1},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    steps: list[int] = []
    evaluation = evaluate(
        tmp_path, device="cpu", on_progress=lambda done, total: steps.append(total)
    )
    assert evaluation.report.num_images == 3
    assert steps == [1]
    with pytest.raises(ZigguratError, match="no annotations"):
        evaluate(tmp_path, split="test", device="cpu")
    run["data"] = {"root": str(tmp_path / "moved")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    with pytest.raises(ZigguratError, match="give another with --data.root"):
        evaluate(tmp_path, device="cpu")


def test_run_of_another_task(classifier_file: Path, tmp_path: Path) -> None:
    shutil.copy(classifier_file, tmp_path / "best.safetensors")
    run = {
        "task": "detection",
        "model": {"name": "retinanet_p2t_mini"},
        "data": {"root": str(tmp_path)},
        "optimizer": {"lr": 0.1},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    with pytest.raises(ZigguratError, match="is of a detection run, but the weights are of p2t_"):
        evaluate(tmp_path, device="cpu")


def test_wrong_data(
    classifier_file: Path, detector_file: Path, coco_root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ZigguratError, match="give the data set with --data.root"):
        evaluate(detector_file, device="cpu")
    with pytest.raises(ZigguratError, match="does not exist"):
        evaluate(detector_file, data_root=tmp_path / "absent", device="cpu")
    with pytest.raises(ZigguratError, match="known classes"):
        evaluate(classifier_file, data_root=coco_root, split="..", device="cpu")
    for wrong in ("batch_size", "workers"):
        with pytest.raises(ZigguratError, match=f"{wrong} must be at least [01], got -1"):
            evaluate(detector_file, data_root=coco_root, device="cpu", **{wrong: -1})  # type: ignore[arg-type]


def test_objects_of_an_unknown_class(detector_file: Path, coco_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(coco_root, root)
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 11
    file.write_text(json.dumps(content))
    with pytest.raises(ZigguratError, match=r"was not trained on \(rock\)"):
        evaluate(detector_file, data_root=root, device="cpu")


def test_too_many_damaged_files(classifier_file: Path, folder_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(folder_root, root)
    for number in range(11):
        (root / "val" / "star" / f"bad{number}.png").write_bytes(b"")
    with pytest.raises(ZigguratError, match="cannot be decoded, the limit is 10"):
        evaluate(classifier_file, data_root=root, device="cpu")
