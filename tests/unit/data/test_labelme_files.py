"""LabelMe: which photo a file is about, and masks of pixels."""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.check import check_dataset
from ziggurat.data.coco import CocoDetection
from ziggurat.data.convert import convert_to_coco
from ziggurat.data.detection_layouts import find_split
from ziggurat.errors import ZigguratError
from ziggurat.inference.formats import FORMATS
from ziggurat.inference.prediction import Prediction
from ziggurat.inference.source import Source
from ziggurat.types import Detections, Sample

WIDTH, HEIGHT = 50, 40
BOX = [10.0, 5.0, 30.0, 25.0]
PHOTOS = {"photos/a.png": 10, "photos/b.png": 60, "more/a.png": 110}
"""Grey value of each photo; two of them have the same name."""


def write_photo(path: Path, grey: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (grey, grey, grey)).save(path)


def predict(root: Path, *, has_pictures: bool) -> None:
    """Write what `ziggurat predict --format labelme -o my/train` writes."""
    output = root / "my/train"
    writer = FORMATS["labelme"].new(output, ("cat",))
    for number, (name, grey) in enumerate(PHOTOS.items(), start=1):
        write_photo(root / name, grey)
        found = Detections(torch.tensor([BOX]), torch.ones(1), torch.tensor([0]))
        with Image.open(root / name) as photo:
            prediction = Prediction(photo.convert("RGB"), found, ("cat",))
        stem = ("a", "b", "a_2")[number - 1]
        writer.add(prediction, Source(number, root / name, stem))
        if has_pictures:
            prediction.save(output / f"{stem}.jpg")


def samples(dataset: CocoDetection) -> list[Sample]:
    items = [dataset[index] for index in range(len(dataset))]
    return [item for item in items if isinstance(item, Sample)]


def greys(dataset: CocoDetection) -> list[int]:
    return [round(255 * float(sample.image[0, 0, 0])) for sample in samples(dataset)]


def open_split(root: Path, *, with_masks: bool = False) -> CocoDetection:
    def plain(image: Image.Image, target: Detections) -> tuple[torch.Tensor, Detections]:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return pixels / 255, target

    files = find_split(root, "train")
    return CocoDetection(*files, plain, train=False, keep_empty=True, with_masks=with_masks)


def reasons(root: Path) -> list[str]:
    return [f"{fault.file}: {fault.reason}" for fault in check_dataset(root).faults]


@pytest.mark.parametrize("has_pictures", [True, False])
def test_predictions_are_read_with_their_photos(tmp_path: Path, has_pictures: bool) -> None:
    predict(tmp_path, has_pictures=has_pictures)
    train = open_split(tmp_path / "my")
    found = [Path(sample.info.path).resolve() for sample in samples(train)]
    expected = [(tmp_path / name).resolve() for name in PHOTOS]
    assert sorted(found) == sorted(expected)
    assert train.target(0).boxes.tolist() == [BOX]
    assert reasons(tmp_path / "my") == []


def test_converted_they_have_their_photos_inside(tmp_path: Path) -> None:
    predict(tmp_path, has_pictures=True)
    before = open_split(tmp_path / "my")
    assert convert_to_coco(tmp_path / "my", tmp_path / "coco") == {"train": (3, 3)}
    content = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    assert sorted(names) == ["a.png", "a_2.png", "b.png"]
    assert sorted(path.name for path in (tmp_path / "coco/train").iterdir()) == sorted(names)
    assert greys(open_split(tmp_path / "coco")) == greys(before)
    assert sorted(greys(before)) == sorted(PHOTOS.values())


def test_a_copy_takes_no_name_that_is_there(tmp_path: Path) -> None:
    predict(tmp_path, has_pictures=False)
    folder = tmp_path / "my/train"
    write_photo(folder / "A.png", 200)
    content = json.loads((folder / "a.json").read_text())
    (folder / "c.json").write_text(json.dumps({**content, "imagePath": "A.png"}))
    before = open_split(tmp_path / "my")
    convert_to_coco(tmp_path / "my", tmp_path / "coco")
    names = sorted(path.name for path in (tmp_path / "coco/train").iterdir())
    assert names == ["A.png", "a_2.png", "a_3.png", "b.png"]
    assert greys(open_split(tmp_path / "coco")) == greys(before)


def test_folders_of_another_machine_are_passed_over(tmp_path: Path) -> None:
    shape: dict[str, object] = {
        "label": "cat",
        "points": [[10, 5], [30, 25]],
        "shape_type": "rectangle",
    }
    for stated in ("..\\photos\\a.png", "/elsewhere/a.png", "C:\\photos\\a.png", "", "a.png"):
        write_shapes(tmp_path, [shape], imagePath=stated)
        assert tuple(open_split(tmp_path).file.file_names) == ("a.png",)
    write_photo(tmp_path / "train/deep/a.png")
    write_shapes(tmp_path, [shape], imagePath="deep\\a.png")
    assert tuple(open_split(tmp_path).file.file_names) == ("deep/a.png",)


def write_shapes(root: Path, shapes: list[dict[str, object]], **more: object) -> None:
    content = {
        "version": "5.5.0",
        "imagePath": "a.png",
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        "imageData": None,
        "shapes": shapes,
    }
    write_photo(root / "train/a.png")
    (root / "train/a.json").write_text(json.dumps(content | more))


def base64_png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def mask_shape(pixels: np.ndarray, x: int, y: int, **more: object) -> dict[str, object]:
    """A shape as LabelMe writes it: the second point is the last pixel."""
    height, width = pixels.shape[:2]
    return {
        "label": "cat",
        "points": [[x, y], [x + width - 1, y + height - 1]],
        "shape_type": "mask",
        "mask": base64_png(pixels),
        **more,
    }


def ring() -> np.ndarray:
    pixels = np.ones((6, 8), dtype=np.uint8)
    pixels[2:4, 3:5] = 0
    return pixels


@pytest.mark.parametrize(
    ("pixels", "more", "box"),
    [
        (ring(), {}, [10, 5, 18, 11]),
        (ring() * 255, {}, [10, 5, 18, 11]),
        (ring().astype(bool), {}, [10, 5, 18, 11]),
        # As some versions write it: the second point lies behind the last pixel.
        (ring(), {"points": [[10, 5], [18, 11]]}, [10, 5, 18, 11]),
        (ring(), {"points": [[10.6, 5.2], [17.6, 10.2]]}, [10, 5, 18, 11]),
        (ring(), {"points": [[42, 34], [50, 40]]}, [42, 34, 50, 40]),
        (np.pad(ring(), 1), {}, [11, 6, 19, 12]),
    ],
)
def test_masks_of_pixels(
    tmp_path: Path, pixels: np.ndarray, more: dict[str, object], box: list[float]
) -> None:
    write_shapes(tmp_path, [mask_shape(pixels, 10, 5, **more)])
    assert reasons(tmp_path) == []
    target = open_split(tmp_path, with_masks=True).target(0)
    assert target.boxes.tolist() == [box]
    assert target.masks is not None
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    x1, y1, x2, y2 = (int(side) for side in box)
    expected[y1:y2, x1:x2] = ring() > 0
    assert np.array_equal(target.masks.full()[0].numpy(), expected)
    convert_to_coco(tmp_path, tmp_path / "coco")
    (entry,) = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())[
        "annotations"
    ]
    assert entry["area"] == expected.sum()
    assert open_split(tmp_path / "coco", with_masks=True).target(0).boxes.tolist() == [box]


def test_parts_of_one_object_are_one_mask(tmp_path: Path) -> None:
    square = [[30, 20], [34, 20], [34, 24], [30, 24]]
    write_shapes(
        tmp_path,
        [
            mask_shape(ring(), 10, 5, group_id=1),
            {"label": "cat", "points": square, "shape_type": "polygon", "group_id": 1},
            mask_shape(ring(), 12, 5, group_id=1),
            {"label": "dog", "points": square, "shape_type": "oriented_rectangle"},
        ],
    )
    target = open_split(tmp_path, with_masks=True).target(0)
    assert target.boxes.tolist() == [[10, 5, 34, 24], [30, 20, 34, 24]]
    assert target.masks is not None
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for x in (10, 12):
        expected[5:11, x : x + 8] |= ring() > 0
    expected[20:24, 30:34] = True
    assert np.array_equal(target.masks.full()[0].numpy(), expected)


def huge_png() -> str:
    """The head of a picture of 60000 x 60000 pixels."""
    head = b"IHDR" + (60000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\1IDAT").decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mask": None}, "it has no 'mask'; expected a PNG file as base64"),
        ({"mask": "%%%"}, "its mask is no base64"),
        ({"mask": "Ä"}, "its mask is no base64"),
        ({"mask": base64.b64encode(b"text").decode()}, "its mask cannot be read: it is text"),
        ({"mask": base64_png(ring())[:60]}, "its mask cannot be read: "),
        ({"mask": huge_png()}, "its mask cannot be read: it has more than"),
        ({"mask": base64_png(ring().T)}, "it has 6 x 8 pixels, and its points span 8 x 6"),
        ({"mask": base64_png(np.ones((6, 8, 3), np.uint8))}, "a picture in the mode RGB"),
        ({"mask": base64_png(ring() * 0)}, "its mask has no pixel"),
        ({"points": [[10, 5]]}, "a mask of 1 points; expected two"),
        ({"points": [[17, 10], [10, 5]]}, "span no part of the image, 50 wide and 40 high"),
        ({"points": [[-3, 5], [4, 10]]}, "span no part of the image"),
        ({"points": [[43, 5], [50, 10]]}, "its mask leaves the image"),
    ],
)
def test_faulty_masks(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    write_shapes(tmp_path, [mask_shape(ring(), 10, 5, **change)])
    found = reasons(tmp_path)
    assert found[0].startswith("train/a.json: shape 1 (cat): ") and reason in found[0]
    assert "\n" not in found[0]
    with pytest.raises(ZigguratError, match=r"a\.json: shape 1 \(cat\): "):
        find_split(tmp_path, "train")
