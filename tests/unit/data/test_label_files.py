"""Label files: what their values mean, and which files are refused with a reason."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.data.decode import ImageDecodeError
from ziggurat.data.label_files import label_mode, read_labels
from ziggurat.data.label_rules import LabelRule, counted_rule
from ziggurat.ops.label_counts import count_labels

PLAIN = counted_rule(("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142)))
VALUES = np.array([[0, 1, 2], [2, 255, 1]], dtype=np.uint8)


def _save(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def test_values_are_classes(tmp_path: Path) -> None:
    labels = read_labels(_save(tmp_path / "a.png", VALUES), PLAIN)
    assert labels.dtype == np.uint8
    assert labels.tolist() == VALUES.tolist()
    assert count_labels(labels, 3).tolist() == [1, 2, 2]


def test_a_palette_is_only_for_the_eye(tmp_path: Path) -> None:
    image = Image.fromarray(VALUES)
    image.putpalette([level for index in range(256) for level in (index, 0, 255 - index)])
    image.save(tmp_path / "a.png")
    assert label_mode(tmp_path / "a.png") == "P"
    assert read_labels(tmp_path / "a.png", PLAIN).tolist() == VALUES.tolist()


def test_a_shifted_palette_file(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 3]], dtype=np.uint8))
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "a.png")
    rule = counted_rule(PLAIN.classes, None, first=1, ignored=frozenset({0}))
    assert read_labels(tmp_path / "a.png", rule).tolist() == [[255, 0, 2]]


def test_values_are_those_stored_whatever_the_number_of_bits(tmp_path: Path) -> None:
    deep = _save(tmp_path / "deep.png", VALUES.astype(np.uint16))
    assert label_mode(deep).startswith("I")
    assert read_labels(deep, PLAIN).tolist() == VALUES.tolist()
    single = _save(tmp_path / "single.png", np.array([[False, True]]))
    assert read_labels(single, PLAIN).tolist() == [[0, 1]]


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_values_of_few_bits(tmp_path: Path, bits: int) -> None:
    # Pillow writes such files only with a palette; the byte of the header makes them grey.
    stream = io.BytesIO()
    image = Image.fromarray(np.array([[0, 1, 2, 1]], dtype=np.uint8))
    image.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2])
    image.save(stream, format="PNG", bits=bits)
    (tmp_path / "palette.png").write_bytes(stream.getvalue())
    assert read_labels(tmp_path / "palette.png", PLAIN).tolist() == [[0, 1, 2, 1]]
    data = bytearray(stream.getvalue())
    data[25] = 0  # grey
    header = bytes(data[12:29])
    data[29:33] = zlib.crc32(header).to_bytes(4, "big")
    start = data.index(b"PLTE") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    del data[start : start + 12 + length]
    (tmp_path / "a.png").write_bytes(bytes(data))
    with Image.open(tmp_path / "a.png") as opened:
        assert np.asarray(opened).max() > 2  # scaled by Pillow
    assert read_labels(tmp_path / "a.png", PLAIN).tolist() == [[0, 1, 2, 1]]


def test_alpha_says_nothing(tmp_path: Path) -> None:
    grey = Image.fromarray(VALUES)
    grey.putalpha(200)
    grey.save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png", PLAIN).tolist() == VALUES.tolist()


def test_scattered_values(tmp_path: Path) -> None:
    rule = LabelRule(("road", "car"), None, (7, 26), frozenset({0, 255}))
    path = _save(tmp_path / "a.png", np.array([[7, 26, 0, 255]], dtype=np.uint8))
    assert read_labels(path, rule).tolist() == [[0, 1, 255, 255]]
    path = _save(tmp_path / "a.png", np.array([[7, 8, 9, 255]], dtype=np.uint8))
    with pytest.raises(
        ImageDecodeError,
        match=r"it has the labels 8, 9 in 2 pixels; expected 2 values in 7\.\.26, or 0 or 255 wh",
    ):
        read_labels(path, rule)


def test_foreground_may_be_255(tmp_path: Path) -> None:
    rule = LabelRule(("other", "road"), None, (0, 255), frozenset())
    path = _save(tmp_path / "a.png", np.array([[0, 255, 255]], dtype=np.uint8))
    assert read_labels(path, rule).tolist() == [[0, 1, 1]]


def test_colours(tmp_path: Path) -> None:
    assert PLAIN.palette is not None
    colours = np.array([*PLAIN.palette, (0, 0, 0)], dtype=np.uint8)
    path = _save(tmp_path / "a.png", colours[np.where(VALUES == 255, 3, VALUES)])
    assert read_labels(path, PLAIN).tolist() == VALUES.tolist()
    with Image.open(path) as image:
        image.convert("RGBA").save(tmp_path / "alpha.png")
    assert read_labels(tmp_path / "alpha.png", PLAIN).tolist() == VALUES.tolist()


def test_a_one_pixel_file(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.array([[2]], dtype=np.uint8))
    assert read_labels(path, PLAIN).tolist() == [[2]]


def test_labels_beyond_the_classes(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.array([[0, 3, 9, 9]], dtype=np.uint8))
    with pytest.raises(ImageDecodeError, match=r"a\.png: it has the labels 3, 9 in 3 pixels; expe"):
        read_labels(path, PLAIN)
    many = _save(tmp_path / "many.png", np.arange(20, dtype=np.uint8)[None])
    with pytest.raises(ImageDecodeError, match="labels 3, 4, 5, 6, 7 and 12 more in 17 pixels"):
        read_labels(many, PLAIN)


def test_16_bit_values_beyond_the_classes(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.array([[0, 256, 60000]], dtype=np.uint16))
    with pytest.raises(ImageDecodeError, match=r"labels 256, 60000 in 2 pixels; expected 0\.\.2, "):
        read_labels(path, PLAIN)


def test_colours_without_a_palette(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.zeros((2, 2, 3), dtype=np.uint8))
    with pytest.raises(ImageDecodeError, match="mode RGB; expected one channel .* or a 'palette'"):
        read_labels(path, counted_rule(("road",), None))


def test_unknown_colours(tmp_path: Path) -> None:
    pixels = np.array([[(128, 64, 128), (9, 8, 7), (9, 8, 7)]], dtype=np.uint8)
    path = _save(tmp_path / "a.png", pixels)
    with pytest.raises(ImageDecodeError, match=r"the colour \(9, 8, 7\) in 2 pixels; no class has"):
        read_labels(path, PLAIN)


def test_one_colour_of_two_classes(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.zeros((1, 1, 3), dtype=np.uint8))
    rule = counted_rule(("a", "b"), ((1, 1, 1), (1, 1, 1)))
    with pytest.raises(ImageDecodeError, match="one colour to two classes"):
        read_labels(path, rule)


def test_what_is_no_label_file(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "a.jpg")
    with pytest.raises(ImageDecodeError, match=r"a JPEG, whose compression changes labels; save"):
        read_labels(tmp_path / "a.jpg", PLAIN)
    Image.new("F", (2, 2)).save(tmp_path / "a.tif")
    with pytest.raises(ImageDecodeError, match="mode F; expected one channel with whole numbers"):
        read_labels(tmp_path / "a.tif", PLAIN)
    with pytest.raises(ImageDecodeError, match="there is no such file"):
        read_labels(tmp_path / "none.png", PLAIN)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageDecodeError, match="it is text, not an image"):
        read_labels(tmp_path / "text.png", PLAIN)


def test_a_truncated_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (64, 64)).astype(np.uint8)
    path = _save(tmp_path / "a.png", noise)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ImageDecodeError, match="truncated"):
        read_labels(path, PLAIN)
