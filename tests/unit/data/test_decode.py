"""Every kind of image file comes out as upright RGB, and what is no image says why."""

import io
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ziggurat.data.decode import (
    ImageDecodeError,
    allow_megapixels,
    decode_image,
    is_image_file,
    without_pillow_warnings,
)
from ziggurat.errors import ZigguratError


@pytest.fixture
def photo() -> Image.Image:
    """A smooth picture, 40 wide and 24 high, no two corners alike."""
    y, x = np.mgrid[0:24, 0:40]
    channels = [x * 6, y * 10, 255 - x * 3 - y * 4]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def mode_of(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif"])
def test_rgb_of_lossless_formats_is_unchanged(
    tmp_path: Path, photo: Image.Image, suffix: str
) -> None:
    path = tmp_path / f"photo{suffix}"
    photo.save(path)
    image = decode_image(path)
    assert image.mode == "RGB"
    assert (pixels(image) == pixels(photo)).all()


def test_path_string_and_bytes_give_the_same(tmp_path: Path, photo: Image.Image) -> None:
    path = tmp_path / "photo.jpg"
    photo.save(path)
    decoded = [decode_image(source) for source in (path, str(path), path.read_bytes())]
    assert (pixels(decoded[0]) == pixels(decoded[1])).all()
    assert (pixels(decoded[0]) == pixels(decoded[2])).all()


def test_the_file_is_closed(tmp_path: Path, photo: Image.Image) -> None:
    path = tmp_path / "photo.png"
    photo.save(path)
    image = decode_image(path)
    path.unlink()
    assert image.resize((2, 2)).size == (2, 2)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_has_three_equal_channels(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    path = tmp_path / "grey.png"
    photo.convert(mode).save(path)
    image = pixels(decode_image(path))
    assert (image == pixels(photo.convert("L"))[..., None]).all()


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = tmp_path / "bits.png"
    bits = np.arange(24 * 40).reshape(24, 40) % 3 == 0
    Image.fromarray(bits).save(path)
    assert mode_of(path) == "1"
    assert (pixels(decode_image(path)) == 255 * bits[..., None]).all()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    values = np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40)
    Image.fromarray(values).save(path)
    assert mode_of(path).startswith("I")
    image = pixels(decode_image(path))
    assert image.min() == 0 and image.max() == 255
    assert (image == (values >> 8)[..., None]).all()


def test_big_endian_sixteen_bit_tiff(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40)
    path = tmp_path / "deep.tif"
    Image.frombytes("I;16B", (40, 24), values.astype(">u2").tobytes()).save(path)
    assert (pixels(decode_image(path)) == (values >> 8)[..., None]).all()


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    colours = {"red": (255, 0, 0), "white": (255, 255, 255), "blue": (0, 0, 255)}
    for colour in colours.values():
        Image.new("RGB", (16, 16), colour).convert("CMYK").save(path, quality=95)
        assert mode_of(path) == "CMYK"
        assert np.abs(pixels(decode_image(path)) - colour).max() <= 4


def test_adobe_inverted_cmyk_jpeg(tmp_path: Path) -> None:
    # Adobe writes ink inverted and marks the file with an APP14 segment, as Pillow does.
    path = tmp_path / "ink.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=95)
    assert b"Adobe" in path.read_bytes()
    assert np.abs(pixels(decode_image(path)) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_palette_with_transparency_keeps_the_colours_beneath(
    tmp_path: Path, photo: Image.Image, transparency: int | bytes
) -> None:
    path = tmp_path / "palette.png"
    palette = photo.quantize(256)
    palette.save(path, transparency=transparency)
    assert mode_of(path) == "P"
    assert (pixels(decode_image(path)) == pixels(palette.convert("RGB"))).all()


def test_gif_gives_its_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "two.gif"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (pixels(decode_image(path)) == (255, 0, 0)).all()


def test_alpha_is_dropped(tmp_path: Path, photo: Image.Image) -> None:
    path = tmp_path / "alpha.png"
    clear = photo.copy()
    clear.putalpha(0)
    clear.save(path)
    assert (pixels(decode_image(path)) == pixels(photo)).all()


# How the pixels of a file of each orientation lie, from those of the upright image.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_undone(
    tmp_path: Path, photo: Image.Image, orientation: int, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    stored = np.ascontiguousarray(STORED[orientation](np.asarray(photo)))
    Image.fromarray(stored).save(path, exif=exif)
    image = decode_image(path)
    assert image.size == photo.size
    lossy = suffix in (".jpg", ".webp")
    assert np.abs(pixels(image) - pixels(photo)).mean() <= (6 if lossy else 0)


def test_orientation_of_sixteen_bit_grey(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    values = (np.arange(6 * 4, dtype=np.uint16) * 2000).reshape(6, 4)
    Image.fromarray(np.ascontiguousarray(np.rot90(values))).save(path, exif=exif)
    assert (pixels(decode_image(path))[..., 0] == values >> 8).all()


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_leaves_the_image(
    tmp_path: Path, photo: Image.Image, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "odd.png"
    photo.save(path, exif=exif)
    assert (pixels(decode_image(path)) == pixels(photo)).all()


def test_damaged_exif_leaves_the_image(tmp_path: Path, photo: Image.Image) -> None:
    path = tmp_path / "odd.jpg"
    photo.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0")
    assert decode_image(path).size == photo.size


def _png_claiming(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_what_is_no_image_says_why(tmp_path: Path, photo: Image.Image) -> None:
    jpeg = io.BytesIO()
    photo.resize((400, 240)).save(jpeg, "JPEG")
    floats = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(floats, "TIFF")
    deep = io.BytesIO()
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(deep, "TIFF")
    cases = {
        "truncated.jpg": (jpeg.getvalue()[:-800], "truncated"),
        "header_only.jpg": (jpeg.getvalue()[:30], ""),
        "empty.jpg": (b"", "0 bytes"),
        "notes.jpg": (b"this is a note\nnot a photo\n", "text"),
        "noise.jpg": (bytes(range(256)) * 4, "format"),
        "huge.png": (_png_claiming(60000, 60000), "more than 179 megapixels"),
        "short.png": (_png_claiming(600, 600), "truncated"),
        "floats.tif": (floats.getvalue(), "floating-point"),
        "deep.tif": (deep.getvalue(), "70000, beyond 16 bits"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ImageDecodeError) as caught:
            decode_image(path)
        assert caught.value.path == str(path)
        assert reason in caught.value.reason, name
        assert caught.value.reason and name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_limit_of_pixels_can_be_moved(
    monkeypatch: pytest.MonkeyPatch, photo: Image.Image
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # put back at the end
    allow_megapixels(4000.0)
    with pytest.raises(ImageDecodeError, match="truncated"):  # 3600 million, and no pixels
        decode_image(_png_claiming(60000, 60000))
    allow_megapixels(0.3)
    with pytest.raises(ImageDecodeError, match="larger ones with --max_megapixels"):
        decode_image(_png_claiming(600, 600))
    for nonsense in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ZigguratError, match="a number of megapixels above 0, got"):
            allow_megapixels(nonsense)


def test_missing_file_folder_and_bad_name(tmp_path: Path) -> None:
    with pytest.raises(ImageDecodeError, match="no such file"):
        decode_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageDecodeError, match="folder"):
        decode_image(tmp_path)
    with pytest.raises(ImageDecodeError, match="null"):
        decode_image("a\0b.jpg")
    with pytest.raises(ImageDecodeError, match="<5 bytes>"):
        decode_image(b"\xff\xd8\xff\xe0\0")


def test_a_file_cut_anywhere_raises_nothing_else(photo: Image.Image) -> None:
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        buffer = io.BytesIO()
        photo.save(buffer, kind)
        whole = buffer.getvalue()
        for length in range(1, len(whole), max(len(whole) // 12, 1)):
            try:
                assert decode_image(whole[:length]).mode == "RGB"
            except ImageDecodeError as error:
                assert error.reason


def test_spoiled_bytes_raise_nothing_else(photo: Image.Image) -> None:
    random = np.random.default_rng(0)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        photo.save(buffer, kind)
        whole = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
        for _ in range(15):
            spoiled = whole.copy()
            spoiled[random.integers(len(whole), size=4)] = random.integers(256, size=4)
            try:
                assert decode_image(spoiled.tobytes()).mode == "RGB"
            except ImageDecodeError as error:
                assert error.reason


def test_the_error_is_the_users_and_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ImageDecodeError("a.jpg", "it is text")))
    assert isinstance(error, ImageDecodeError)
    assert issubclass(ImageDecodeError, ZigguratError)
    assert (error.path, error.reason) == ("a.jpg", "it is text")


def test_threads_that_overlap_put_the_warning_filters_back() -> None:
    before = list(warnings.filters)
    first, second = without_pillow_warnings(), without_pillow_warnings()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    # The second is not done yet and still quiet.
    warnings.warn_explicit("odd metadata", UserWarning, "Image.py", 1, module="PIL.Image")
    second.__exit__(None, None, None)
    assert warnings.filters == before
    with pytest.raises(UserWarning):
        warnings.warn_explicit("odd metadata", UserWarning, "Image.py", 1, module="PIL.Image")


def test_image_files_are_told_by_name() -> None:
    assert is_image_file(Path("a/b.JPEG"))
    assert not is_image_file(Path("a/b.txt"))
    assert not is_image_file(Path("a/._b.jpg"))
