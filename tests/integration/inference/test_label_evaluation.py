"""Evaluation of segmenters: the numbers of their own label maps, classes matched by name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ziggurat.checkpoints.native import load_weights, save_weights
from ziggurat.cli.main import main
from ziggurat.data.findings import Layout
from ziggurat.data.items import KeyedDataset
from ziggurat.data.label_folder import LabelFolder
from ziggurat.data.segmentation import eval_image
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.evaluation import evaluate, find_run, open_data
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.evaluation_result import describe_evaluation
from ziggurat.inference.label_evaluation import label_table
from ziggurat.inference.label_reevaluation import evaluate_label_files
from ziggurat.inference.predictor import Prediction, Predictor
from ziggurat.inference.run_report import compare
from ziggurat.inference.tiles import Tiles
from ziggurat.metrics.multi_label import MultiLabelMetric
from ziggurat.metrics.segmentation import SegmentationMetric
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.ops.nms import HARD
from ziggurat.preprocessing import FitAligned
from ziggurat.types import Batch, ClassMasks, ImageInfo, LabelMap, Sample
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
        assert isinstance(found, LabelMap)
        truth = np.array(Image.open(data / "annotations" / "val" / file.name))
        metric.add(found, LabelMap(torch.from_numpy(truth)), image_id=0, path="")
    return metric


def test_equals_decoding_by_hand(segmenter_file: Path, data: Path) -> None:
    evaluation = evaluate(segmenter_file, data_root=data, device="cpu")
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


def test_photos_of_other_sizes_change_nothing(segmenter_file: Path, data: Path) -> None:
    alone, together = (
        evaluate(segmenter_file, data_root=data, device="cpu", batch_size=size).report
        for size in (1, 3)
    )
    assert alone.confusion is not None and together.confusion is not None
    np.testing.assert_array_equal(alone.confusion, together.confusion)
    assert alone.numbers == together.numbers


def test_saved_label_maps_give_the_same_numbers(
    segmenter_file: Path, data: Path, tmp_path: Path
) -> None:
    options = EvaluationOptions(save_to=tmp_path / "labels")
    evaluation = evaluate(segmenter_file, data_root=data, options=options, device="cpu")
    again = evaluate_label_files(tmp_path / "labels", data_root=data)
    assert again.report.numbers == evaluation.report.numbers
    assert again.report.per_class == evaluation.report.per_class
    with Image.open(tmp_path / "labels" / "0.png") as image:
        assert image.size == (90, 70)


def test_views_of_the_whole_image_change_nothing(segmenter_file: Path, data: Path) -> None:
    options = EvaluationOptions(augmentation=Augmentation(flip=False))
    seen = evaluate(segmenter_file, data_root=data, options=options, device="cpu")
    expected = by_hand(segmenter_file, data).compute()
    assert seen.report.numbers == expected.numbers
    options = EvaluationOptions(tiles=Tiles(64, 0))
    other = evaluate(segmenter_file, data_root=data, options=options, device="cpu")
    assert other.report.numbers != expected.numbers
    assert other.report.num_images == 3


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
    report = evaluate(segmenter_file, data_root=root, device="cpu").report
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
        evaluate(segmenter_file, data_root=root, device="cpu")


def test_the_layout_is_that_of_the_run(segmenter_file: Path, data: Path, tmp_path: Path) -> None:
    """A folder that can be read in two ways is read as in training, and so is a copy of it."""
    root = tmp_path / "data"
    shutil.copytree(data, root)
    (root / "objectInfo150.txt").write_text("Idx\tName\n1\tsea\n2\tship\n")
    shutil.copy(segmenter_file, tmp_path / "best.safetensors")
    run = {
        "task": "semantic_segmentation",
        "model": {"name": "segformer_topformer_tiny"},
        "data": {"root": str(root), "layout": "ade20k"},
        "optimizer": {"lr": 0.1},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    model, trained = load_weights(segmenter_file), find_run(tmp_path / "best.safetensors")
    copied = tmp_path / "copy"
    shutil.copytree(root, copied)

    def layout(of: Path | None, wanted: Layout | None = None) -> Layout:
        dataset = open_data(model, trained, of, None, layout=wanted).dataset
        assert isinstance(dataset, LabelFolder)
        return dataset.layout

    assert layout(None) == layout(root) == layout(copied) == "ade20k"
    assert layout(data) == "label_folder"  # other data
    assert layout(None, "label_folder") == "label_folder"


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
    evaluation = evaluate(segmenter_file, data_root=root, device="cpu")
    assert [Path(file.path).name for file in evaluation.bad_files] == ["0.png"]
    assert evaluation.report.num_images == 2


class OneClass(Predictor):
    """Stands for a predictor: finds the sea everywhere."""

    def __init__(self) -> None:
        pass

    def __call__(self, images, *, score_threshold):  # type: ignore[no-untyped-def, override]  # noqa: ANN001, ANN204, D102
        assert score_threshold is None
        return Prediction(images, LabelMap(torch.ones(images.height, images.width).long()), CLASSES)


def test_pictures_for_the_page_of_a_run(segmenter_file: Path, data: Path) -> None:
    opened = open_data(load_weights(segmenter_file), None, data, None)
    items = compare(OneClass(), opened, [0, 1], 0.4)
    assert [item.title for item in items] == ["0.png", "1.png"]
    assert {name for name, _ in items[0].legend} == set(CLASSES)
    assert items[0].difference is not None
    assert items[0].difference.size == (90, 70)
    assert items[1].legend == []  # nothing is labelled


class Recorder(Predictor):
    """Stands for a predictor and notes what it is asked."""

    def __init__(self, model: SemanticSegmenter) -> None:
        self.model = model
        self.asked: list[tuple[object, ...]] = []

    def __call__(self, images, **options):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN003, ANN204, D102
        self.asked.append((images, options))
        found = LabelMap(torch.zeros(1, 1).long())
        return [Prediction(Image.new("RGB", (1, 1)), found, CLASSES) for _ in images]


def test_views_are_those_of_the_predictor(segmenter_file: Path) -> None:
    tiles, augmentation = Tiles(64, 16), Augmentation(flip=True, scales=(0.5, 1.0))
    options = EvaluationOptions(tiles, augmentation)
    assert options.has_views
    assert not EvaluationOptions(save_to=Path("labels"), layout="ade20k").has_views
    infos = [ImageInfo(number, f"{number}.png", (1, 1)) for number in range(2)]
    model = load_weights(segmenter_file)
    assert isinstance(model, SemanticSegmenter)
    recorder = Recorder(model)
    batch = Batch(torch.zeros(2, 3, 1, 1), [(1, 1)] * 2, None, infos)
    results = options.predict(recorder, batch, KeyedDataset())  # photos are files
    assert len(results) == 2
    expected = {
        "score_threshold": None,
        "tiles": tiles,
        "augmentation": augmentation,
        "suppression": None,
        "batch_size": 2,
    }
    assert recorder.asked == [([Path("0.png"), Path("1.png")], expected)]


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """One photo with masks of two of three classes, which overlap."""
    root = tmp_path / "masks"
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name, rows in (("sea", 40), ("ship", 20)):
        mask = np.zeros((64, 64), dtype=np.uint8)
        mask[:rows] = 255
        (root / "annotations" / "val" / name).mkdir(parents=True)
        Image.fromarray(mask).save(root / "annotations" / "val" / name / "a.png")
    (root / "images" / "val").mkdir(parents=True)
    Image.fromarray(photo).save(root / "images" / "val" / "a.png")
    (root / "classes.json").write_text(json.dumps({"classes": CLASSES}))
    return root


def test_masks_that_overlap_are_opened(segmenter_file: Path, masks: Path) -> None:
    model = load_weights(segmenter_file)
    assert isinstance(model, SemanticSegmenter)
    model.identity = replace(model.identity, overlapping=True)
    opened = open_data(model, None, masks, None)
    assert isinstance(opened.metric, MultiLabelMetric)
    item = opened.dataset[0]
    assert isinstance(item, Sample)
    assert isinstance(item.target, ClassMasks)
    opened.metric.update(
        [item.target], Batch(item.image[None], [(64, 64)], [item.target], [item.info])
    )
    report = opened.metric.compute()
    assert [row["pixels"] for row in report.per_class] == [0, 40 * 64, 20 * 64]
    assert report.numbers["mIoU"] == 1.0
    found = evaluate(model, data_root=masks, device="cpu").report
    assert found.num_images == 1
    assert 0 <= found.numbers["mIoU"] < 1


def test_masks_of_other_classes_or_for_another_model(
    segmenter_file: Path, masks: Path, data: Path
) -> None:
    with pytest.raises(ZigguratError, match="gives each pixel one class, but .* has a mask for"):
        evaluate(segmenter_file, data_root=masks, device="cpu")
    model = load_weights(segmenter_file)
    assert isinstance(model, SemanticSegmenter)
    model.identity = replace(model.identity, overlapping=True)
    with pytest.raises(ZigguratError, match="gives a mask for each class, .* has label maps"):
        open_data(model, None, data, None)
    (masks / "classes.json").write_text(json.dumps({"classes": CLASSES[::-1]}))
    with pytest.raises(ZigguratError, match=r"classes ship, sea, sky, but .* in the same order"):
        open_data(model, None, masks, None)


def test_label_maps_are_saved_for_models_that_make_them(segmenter_file: Path) -> None:
    model = load_weights(segmenter_file)
    options = EvaluationOptions(save_to=Path("labels"))
    options.check(model)
    model.identity = replace(model.identity, overlapping=True)
    EvaluationOptions().check(model)
    with pytest.raises(ZigguratError, match="one class, and .* does not; leave them out"):
        options.check(model)
    EvaluationOptions(tiles=Tiles(64, 0)).check(model)


def test_label_maps_are_saved_for_segmenters(classifier_file: Path, folder_root: Path) -> None:
    options = EvaluationOptions(save_to=Path("labels"))
    with pytest.raises(ZigguratError, match="one class, and p2t_mini does not; leave"):
        evaluate(classifier_file, data_root=folder_root, options=options, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EvaluationOptions(tiles=Tiles(64, 0)), "p2t_mini is neither; leave them out"),
        (EvaluationOptions(suppression=HARD), "p2t_mini finds none; leave them out"),
    ],
)
def test_a_classifier_has_neither_tiles_nor_suppression(
    classifier_file: Path, folder_root: Path, options: EvaluationOptions, message: str
) -> None:
    with pytest.raises(ZigguratError, match=message):
        evaluate(classifier_file, data_root=folder_root, options=options, device="cpu")
