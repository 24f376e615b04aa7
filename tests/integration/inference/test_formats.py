"""What is written in each format is what was found."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from ziggurat.errors import ZigguratError
from ziggurat.inference.formats import FORMATS, choose_format
from ziggurat.inference.outlines import polygons_of, simplify
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.source import Source
from ziggurat.types import (
    ClassMasks,
    ClassScores,
    Detections,
    LabelMap,
    ModelIdentity,
    ObjectMasks,
)

CLASSES = ("cat", "lion, big")


def disc(height: int, width: int, x: float, y: float, radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 < radius**2


def prediction(*, has_masks: bool, count: int = 2) -> Prediction:
    boxes = torch.tensor([[10.0, 20.0, 50.0, 60.0], [60.0, 5.0, 100.5, 45.0]])[:count]
    masks = None
    if has_masks:
        full = torch.stack([disc(80, 120, 30, 40, 20), disc(80, 120, 80, 25, 20)])[:count]
        masks = ObjectMasks.from_full(full)
    scores, labels = torch.tensor([0.75, 0.5])[:count], torch.tensor([1, 0])[:count]
    found = Detections(boxes, scores, labels, masks)
    return Prediction(Image.new("RGB", (120, 80)), found, CLASSES)


def write(name: str, folder: Path, *predictions: Prediction) -> Path:
    writer = FORMATS[name].new(folder / "out", CLASSES)
    for number, one in enumerate(predictions, start=1):
        writer.add(one, Source(number, folder / f"{number}.png", f"photo_{number}"))
    return writer.close()


def test_coco(tmp_path: Path) -> None:
    file = write(
        "coco", tmp_path, prediction(has_masks=False), prediction(has_masks=False, count=1)
    )
    entries = json.loads(file.read_text())
    assert [entry["image_id"] for entry in entries] == [1, 1, 2]
    assert entries[0]["bbox"] == [10, 20, 40, 40]
    assert entries[0]["category_id"] == 2
    assert entries[0]["category"] == "lion, big"
    assert entries[2]["file_name"].endswith("2.png")
    assert "frame" not in entries[0]


@pytest.mark.parametrize("name", ["coco", "csv"])
def test_names_of_files_that_are_no_utf8(name: str, tmp_path: Path) -> None:
    writer = FORMATS[name].new(tmp_path, CLASSES)
    photo = Path("photo\udcff.png")  # as Python names a file that is called photo\xff.png
    writer.add(prediction(has_masks=False), Source(1, photo, "photo"))
    text = writer.close().read_text(encoding="utf-8")
    if name == "coco":
        assert json.loads(text)[0]["file_name"] == str(photo)
    else:
        assert text.splitlines()[1].startswith("photo\\udcff.png,")


def test_frames_are_named(tmp_path: Path) -> None:
    for name in ("coco", "csv"):
        writer = FORMATS[name].new(tmp_path, CLASSES)
        source = Source(9, Path("a.mp4"), "a", frame=3, time=0.25)
        writer.add(prediction(has_masks=False, count=1), source)
        text = writer.close().read_text()
        if name == "coco":
            (entry,) = json.loads(text)
        else:
            (entry,) = csv.DictReader(text.splitlines())
        assert (int(entry["frame"]), float(entry["time"])) == (3, 0.25)


def test_cityscapes(tmp_path: Path) -> None:
    writer = FORMATS["cityscapes"].new(tmp_path, ("car", "person"))
    found = prediction(has_masks=True)
    assert isinstance(found.result, Detections) and found.result.masks is not None
    empty = ObjectMasks.from_full(torch.zeros(2, 80, 120, dtype=torch.bool))
    writer.add(found, Source(1, tmp_path / "a.png", "aachen_000000_000019"))
    nothing = Prediction(found.image, replace(found.result, masks=empty), found.classes)
    writer.add(nothing, Source(2, tmp_path / "b.png", "bonn_000000_000019"))
    folder = writer.close()
    assert folder == tmp_path / "cityscapes"
    lines = (folder / "aachen_000000_000019.txt").read_text().splitlines()
    assert lines == ["aachen_000000_000019_0.png 24 0.75", "aachen_000000_000019_1.png 26 0.5"]
    for place, mask in enumerate(found.result.masks.full()):
        with Image.open(folder / f"aachen_000000_000019_{place}.png") as image:
            assert np.array_equal(np.array(image), mask.numpy() * 255)
    assert (folder / "bonn_000000_000019.txt").read_text() == ""
    assert len(list(folder.iterdir())) == 4
    with pytest.raises(ZigguratError, match="is for models of Cityscapes' classes .* knows 'cat'"):
        FORMATS["cityscapes"].new(tmp_path, CLASSES)


def test_csv(tmp_path: Path) -> None:
    file = write("csv", tmp_path, prediction(has_masks=True), prediction(has_masks=True, count=0))
    with file.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == 2
    assert rows[0]["class"] == "lion, big"
    assert [float(rows[1][name]) for name in ("x1", "y1", "x2", "y2")] == [60, 5, 100.5, 45]
    assert (rows[1]["label"], rows[1]["score"], rows[1]["frame"]) == ("0", "0.5", "")


def test_yolo_boxes(tmp_path: Path) -> None:
    folder = write(
        "yolo", tmp_path, prediction(has_masks=False), prediction(has_masks=False, count=0)
    )
    lines = (folder / "photo_1.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["1", "0"]
    x, y, width, height = (float(word) for word in lines[0].split()[1:])
    assert (x * 120, y * 80) == pytest.approx((30, 40), abs=1e-3)
    assert (width * 120, height * 80) == pytest.approx((40, 40), abs=1e-3)
    assert (folder / "photo_2.txt").read_text() == ""
    names = yaml.safe_load((folder.parent / "data.yaml").read_text())["names"]
    assert names == {0: "cat", 1: "lion, big"}


def test_yolo_boxes_stay_in_the_image(tmp_path: Path) -> None:
    found = Detections(torch.tensor([[-5.0, 10.0, 130.0, 90.0]]), torch.ones(1), torch.tensor([0]))
    folder = write("yolo", tmp_path, Prediction(Image.new("RGB", (120, 80)), found, CLASSES))
    values = [float(word) for word in (folder / "photo_1.txt").read_text().split()]
    assert values == pytest.approx([0, 0.5, 0.5625, 1.0, 0.875])


def test_yolo_polygons_cover_the_mask(tmp_path: Path) -> None:
    one = prediction(has_masks=True)
    assert isinstance(one.result, Detections)
    assert one.result.masks is not None
    folder = write("yolo", tmp_path, one)
    lines = (folder / "photo_1.txt").read_text().splitlines()
    for line, mask in zip(lines, one.result.masks.full().numpy(), strict=True):
        values = np.array([float(word) for word in line.split()[1:]]).reshape(-1, 2)
        assert ((values >= 0) & (values <= 1)).all()
        assert overlap(values * (120, 80), mask) > 0.95


def overlap(polygon: np.ndarray, mask: np.ndarray) -> float:
    """IoU, the polygon rasterised eight times as fine."""
    canvas = Image.new("1", (mask.shape[1] * 8, mask.shape[0] * 8))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in (polygon * 8 - 0.5).tolist()], fill=1)
    drawn, fine = np.array(canvas), mask.repeat(8, axis=0).repeat(8, axis=1)
    return float((drawn & fine).sum() / (drawn | fine).sum())


def test_labelme(tmp_path: Path) -> None:
    write("labelme", tmp_path, prediction(has_masks=False), prediction(has_masks=True, count=1))
    content = json.loads((tmp_path / "out" / "photo_1.json").read_text())
    assert (content["imageWidth"], content["imageHeight"]) == (120, 80)
    assert (tmp_path / "out" / content["imagePath"]).resolve() == (tmp_path / "1.png").resolve()
    first = content["shapes"][0]
    assert (first["label"], first["shape_type"]) == ("lion, big", "rectangle")
    assert first["points"] == [[10, 20], [50, 60]]
    assert first["score"] == 0.75
    (shape,) = json.loads((tmp_path / "out" / "photo_2.json").read_text())["shapes"]
    assert shape["shape_type"] == "polygon"
    mask = disc(80, 120, 30, 40, 20).numpy()
    assert overlap(np.array(shape["points"]), mask) > 0.95


def two_parts_and_a_hole() -> Detections:
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 5:25, 5:25] = True
    mask[0, 10:15, 10:15] = False
    mask[0, 30:35, 40:50] = True
    box = torch.tensor([[5.0, 5.0, 50.0, 35.0]])
    return Detections(box, torch.ones(1), torch.tensor([0]), ObjectMasks.from_full(mask))


def test_parts_and_holes(tmp_path: Path) -> None:
    found = two_parts_and_a_hole()
    (polygons,) = polygons_of(found)
    corners = [sorted(map(tuple, polygon.tolist())) for polygon in polygons]
    assert corners == [
        [(5, 5), (5, 25), (25, 5), (25, 25)],
        [(40, 30), (40, 35), (50, 30), (50, 35)],
    ]
    one = Prediction(Image.new("RGB", (60, 40)), found, CLASSES)
    write("labelme", tmp_path, one)
    shapes = json.loads((tmp_path / "out" / "photo_1.json").read_text())["shapes"]
    assert [shape["group_id"] for shape in shapes] == [0, 0]
    folder = write("yolo", tmp_path, one)
    (line,) = (folder / "photo_1.txt").read_text().splitlines()
    points = np.array([float(word) for word in line.split()[1:]]).reshape(-1, 2) * (60, 40)
    np.testing.assert_allclose(points.max(axis=0), [25, 25], atol=1e-3)


def test_a_mask_without_pixels_is_its_box(tmp_path: Path) -> None:
    full = torch.zeros(1, 80, 120, dtype=torch.bool)
    box = torch.tensor([[30.0, 20.0, 60.0, 40.0]])
    found = Detections(box, torch.ones(1), torch.tensor([0]), ObjectMasks.from_full(full))
    one = Prediction(Image.new("RGB", (120, 80)), found, CLASSES)
    folder = write("yolo", tmp_path, one)
    assert len((folder / "photo_1.txt").read_text().split()) == 9
    write("labelme", tmp_path, one)
    (shape,) = json.loads((tmp_path / "out" / "photo_1.json").read_text())["shapes"]
    assert shape["shape_type"] == "rectangle"


def test_simplified_corners_are_near_the_polygon() -> None:
    steps = np.array([(x, x + y) for x in range(40) for y in (0, 1)], dtype=np.float64)
    polygon = np.concatenate([steps, [[40.0, 0.0]]])
    short = simplify(polygon, 1.0)
    assert len(short) <= 5
    assert {tuple(point) for point in short.tolist()} <= {tuple(p) for p in polygon.tolist()}
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    np.testing.assert_array_equal(simplify(square, 1.0), square)


def test_classifiers(tmp_path: Path) -> None:
    scores = Prediction(Image.new("RGB", (9, 9)), ClassScores(torch.tensor([0.25, 0.75])), CLASSES)
    (entry,) = json.loads(write("coco", tmp_path, scores).read_text())
    assert [score["class"] for score in entry["scores"]] == ["lion, big", "cat"]
    with write("csv", tmp_path, scores).open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [(row["class"], row["score"]) for row in rows] == [
        ("lion, big", "0.75"),
        ("cat", "0.25"),
    ]


def test_label_maps(tmp_path: Path) -> None:
    labels = torch.tensor([[0, 0, 1], [1, 1, 1]], dtype=torch.int16)
    one = Prediction(Image.new("RGB", (3, 2)), LabelMap(labels), CLASSES)
    folder = write("labels", tmp_path, one)
    with Image.open(folder / "photo_1.png") as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == labels.tolist()
    assert json.loads((folder / "classes.json").read_text())["classes"] == list(CLASSES)
    (entry,) = json.loads(write("json", tmp_path, one).read_text())
    assert entry["file_name"].endswith("1.png")
    assert [(area["label"], area["pixels"]) for area in entry["areas"]] == [(1, 4), (0, 2)]
    with write("csv", tmp_path, one).open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [row["class"] for row in rows] == [CLASSES[1], CLASSES[0]]
    assert [float(row["share"]) for row in rows] == pytest.approx([4 / 6, 2 / 6])


def test_a_format_is_chosen_by_what_is_predicted() -> None:
    video = Path("a.mp4")
    detector = ModelIdentity("detection", "retinanet", "p2t_tiny", 3)
    segmenter = ModelIdentity("semantic_segmentation", "segformer", "p2t_tiny", 3)
    overlapping = replace(segmenter, overlapping=True)
    classifier = ModelIdentity("classification", "classifier", "p2t_tiny", 3)
    assert choose_format(None, detector, None) is FORMATS["coco"]
    assert choose_format(None, segmenter, video) is FORMATS["labels"]
    assert choose_format(None, overlapping, None) is FORMATS["masks"]
    assert choose_format("json", segmenter, video) is FORMATS["json"]
    with pytest.raises(ZigguratError, match=r"yolo cannot hold .* of coco, csv"):
        choose_format("yolo", classifier, None)
    with pytest.raises(ZigguratError, match=r"coco cannot hold .* one of labels, csv, json"):
        choose_format("coco", segmenter, None)
    with pytest.raises(ZigguratError, match=r"classes that overlap .* one of masks, csv, json"):
        choose_format("labels", overlapping, None)
    with pytest.raises(ZigguratError, match=r"yolo describes image files and a\.mp4 is a video"):
        choose_format("yolo", detector, video)


def test_masks_of_classes_that_overlap(tmp_path: Path) -> None:
    masks = torch.zeros(3, 4, 5, dtype=torch.bool)
    masks[0, :2], masks[2, 1:] = True, True
    result = ClassMasks(masks, torch.zeros(4, 5, dtype=torch.bool))
    one = Prediction(Image.new("RGB", (5, 4)), result, ("wet", "dry", "road"))
    writer = FORMATS["masks"].new(tmp_path, one.classes)
    writer.add(one, Source(1, Path("a.png"), "a"))
    writer.add(one, Source(2, Path("b.mp4"), "b", frame=7, time=0.1))
    folder = writer.close()
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.png"))
    assert files == ["road/a.png", "road/b/000007.png", "wet/a.png", "wet/b/000007.png"]
    with Image.open(folder / "road" / "a.png") as image:
        assert np.array_equal(np.asarray(image), masks[2].numpy())
    assert json.loads((folder / "classes.json").read_text())["classes"] == ["wet", "dry", "road"]
    nothing = replace(one, result=ClassMasks(masks & False, result.ignored))
    writer.add(nothing, Source(1, Path("a.png"), "a"))
    assert not (folder / "road" / "a.png").exists()  # of the time before


@pytest.mark.parametrize("classes", [("../wet", "dry"), ("", "a"), ("a", "Ignored"), ("a", "A")])
def test_classes_that_cannot_be_folders(tmp_path: Path, classes: tuple[str, ...]) -> None:
    with pytest.raises(ZigguratError, match=r"can be called .*; choose csv or json"):
        FORMATS["masks"].new(tmp_path, classes)


def test_label_maps_of_frames_have_a_folder(tmp_path: Path) -> None:
    labels = LabelMap(torch.tensor([[0, 1], [1, 1]]))
    one = Prediction(Image.new("RGB", (2, 2)), labels, CLASSES)
    writer = FORMATS["labels"].new(tmp_path, CLASSES)
    for frame in (0, 1):
        writer.add(one, Source(frame + 1, Path("b.mp4"), "b", frame=frame, time=0.1))
    writer.add(one, Source(3, Path("b_000001.png"), "b_000001"))
    files = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png"))
    assert files == ["labels/b/000000.png", "labels/b/000001.png", "labels/b_000001.png"]


def test_a_palette_of_the_data_goes_before_the_usual_one(tmp_path: Path) -> None:
    palette = ((1, 2, 3), (255, 0, 255))
    labels = LabelMap(torch.tensor([[0, 1], [1, 1]]))
    one = Prediction(Image.new("RGB", (2, 2)), labels, ("road", "sky"), palette)
    writer = FORMATS["labels"].new(tmp_path, one.classes)
    writer.add(one, Source(1, Path("a.png"), "a"))
    folder = writer.close()
    assert json.loads((folder / "classes.json").read_text())["palette"] == [
        [1, 2, 3],
        [255, 0, 255],
    ]
    with Image.open(folder / "a.png") as image:
        assert image.getpalette()[3:6] == [255, 0, 255]  # type: ignore[index]
    drawn = np.asarray(one.draw())
    assert (drawn == (140, 0, 140)).all(axis=-1).any()  # 55 % of it on black
