"""Whatever a user calls an image becomes the same RGB picture; anything else is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.errors import ZigguratError
from ziggurat.inference.images import ImageLike, to_image

PIXELS = np.arange(7 * 5 * 3, dtype=np.uint8).reshape(7, 5, 3)


def all_kinds(folder: Path) -> list[ImageLike]:
    file = folder / "image.png"
    Image.fromarray(PIXELS).save(file)
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    return [
        file,
        str(file),
        file.read_bytes(),
        Image.open(file),
        Image.fromarray(PIXELS).convert("RGBA"),
        PIXELS,
        np.asfortranarray(PIXELS),
        tensor,
        tensor.float() / 255,
        tensor.double() / 255,
    ]


def test_all_kinds_give_the_same_picture(tmp_path: Path) -> None:
    for source in all_kinds(tmp_path):
        image = to_image(source)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), PIXELS)


def test_grey_array() -> None:
    image = to_image(PIXELS[..., 0])
    np.testing.assert_array_equal(np.asarray(image)[..., 2], PIXELS[..., 0])


def test_pil_image_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    from_pil = to_image(Image.open(tmp_path / "turned.png"))
    assert from_pil.size == (7, 5)
    from_file = to_image(tmp_path / "turned.png")
    assert from_pil.tobytes() == from_file.tobytes()
    assert to_image(from_file).size == (7, 5)  # it is not turned a second time


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 3)), "uint8 of shape .height, width, 3."),
        (np.zeros((3, 4, 4), dtype=np.uint8), r"got uint8 of shape \(3, 4, 4\)"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "needs pixels"),
        (torch.zeros(4, 4, 3), r"shape \(3, height, width\), got \(4, 4, 3\)"),
        (torch.full((3, 4, 4), 2.0), "lie in 0..1"),
        (torch.full((3, 4, 4), float("nan")), "lie in 0..1"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "got int64"),
        (torch.zeros(3, 0, 4), "needs pixels"),
        ("absent.jpg", "no such file"),
        (b"", "it is empty"),
        (b"no image", "8 bytes"),
        (Image.new("RGB", (0, 3)), "needs pixels"),
    ],
)
def test_anything_else_is_refused(source: ImageLike, message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        to_image(source)


def test_damaged_pil_image(tmp_path: Path) -> None:
    file = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:2000])
    with Image.open(file) as image, pytest.raises(ZigguratError, match="cannot be read"):
        to_image(image)
