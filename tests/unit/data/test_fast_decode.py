"""The fast way of training images: same draws, nearly the same pixels, same error handling."""

import io
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP, AugmentOp, RandAugment
from torch import Tensor
from torchvision.transforms import Compose

from ziggurat.data.classification import let_posterize_keep_no_bits, train_transform
from ziggurat.data.decode import ImageDecodeError, decode_image, to_upright_rgb
from ziggurat.data.fast_augment import on_pixels
from ziggurat.data.fast_decode import FastTrainTransform, upright
from ziggurat.data.randomness import seeded
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CenterCrop

STD = torch.tensor(CenterCrop().std)[:, None, None]


def photo(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """Smooth structure with a little noise, as photos have."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    noisy = (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(noisy).convert(mode)


def encoded(
    image: Image.Image, kind: str = "JPEG", orientation: int = 1, **options: object
) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif, **options)
    return file.getvalue()


def both(
    data: bytes, key: int, *, crop: int = 64, policy: str | None = None, flip: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Return the exact and the fast tensor that one seed gives."""

    def transform() -> Compose:
        return train_transform(
            crop,
            auto_augment=policy,
            color_jitter=0.0,
            random_erasing=0.5,
            scale=(0.08, 1.0),
            flip=flip,
            preprocessing=CenterCrop(crop, crop),
        )

    # Made outside: the checks of types that tests run with draw random numbers of their own.
    exactly, fastly = transform(), FastTrainTransform(transform())
    picture = decode_image(data)
    with seeded(7, key):
        exact: Tensor = exactly(picture)
    with seeded(7, key):
        fast, _ = fastly(data, "photo")
    return exact, fast


def levels(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs() * STD * 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_same_draws_and_nearly_the_same_pixels(orientation: int) -> None:
    data = encoded(photo(90, 120), orientation=orientation, quality=92)
    for key in range(12):
        exact, fast = both(data, key)
        assert fast.shape == (3, 64, 64)
        assert levels(exact, fast).max() < 2.01
        assert levels(exact, fast).mean() < 0.3


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "JPEG", {"subsampling": 0}),
        ("RGB", "PNG", {}),
        ("RGB", "WEBP", {"lossless": True}),
        ("P", "PNG", {}),
        ("RGBA", "PNG", {}),
    ],
)
def test_files_of_every_kind(mode: str, kind: str, options: dict[str, object]) -> None:
    data = encoded(photo(90, 120, mode), kind, orientation=6, **options)
    for key in range(3):
        exact, fast = both(data, key)
        assert levels(exact, fast).max() < 4.01  # at the hard edges of a palette
        assert levels(exact, fast).mean() < 0.3


def test_large_images_are_decoded_small(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(700, 900), quality=92)
    used = []
    fast = FastTrainTransform(
        train_transform(
            48,
            auto_augment=None,
            color_jitter=0.0,
            random_erasing=0.0,
            scale=(0.08, 1.0),
            flip=0.5,
            preprocessing=CenterCrop(48, 48),
        )
    )
    decode_jpeg = fast.decode_jpeg

    def spy(data: bytes, **options: int) -> np.ndarray:
        used.append(options["min_factor"])
        pixels: np.ndarray = decode_jpeg(data, **options)
        factor = options["min_factor"]
        assert pixels.shape[:2] == (-(-700 // factor), -(-900 // factor))
        return pixels

    monkeypatch.setattr(fast, "decode_jpeg", spy)
    for key in range(12):
        with seeded(7, key):
            image, size = fast(data, "photo")
        assert size == (700, 900) and image.shape == (3, 48, 48)
        exact, other = both(data, key, crop=48)
        assert levels(exact, other).mean() < 3
    assert {4, 8} <= set(used)


def test_erasing_draws_the_same() -> None:
    data = encoded(Image.new("RGB", (80, 80), (120, 120, 120)))
    for key in range(8):
        exact, fast = both(data, key)
        assert torch.allclose(exact, fast, atol=1e-6)


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "original", "augmix-m5-w4-d2"])
def test_policies_of_timm(policy: str) -> None:
    data = encoded(photo(90, 120), quality=92)
    means = []
    for key in range(20):
        exact, fast = both(data, key, policy=policy)
        means.append(float(levels(exact, fast).mean()))
    # Equalising and posterising make much of a level; the bulk of the images is as near as before.
    assert np.median(means) < 0.5


def both_operations(
    name: str, level: float, picture: Image.Image, key: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what Pillow and what the fast operation make of an image with one seed."""
    hparams = {
        "img_mean": FILL,
        "interpolation": Image.Resampling.BICUBIC,
        "translate_const": 100,
    }
    exact, fast = (AugmentOp(name, prob=1.0, magnitude=level, hparams=hparams) for _ in range(2))
    let_posterize_keep_no_bits(RandAugment([exact]))
    on_pixels(RandAugment([fast]))
    assert fast.aug_fn is not exact.aug_fn
    with seeded(key):
        expected = np.asarray(exact(picture)).astype(int)
    with seeded(key):
        found = fast(np.asarray(picture))
    assert found.dtype == np.uint8
    return expected, found.astype(int)


FILL = (124, 116, 104)
TURNS = {"Rotate", "ShearX", "ShearY"}
TRANSLATIONS = {"TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel"}


@pytest.mark.parametrize("name", sorted(set(NAME_TO_OP) - TURNS))
@pytest.mark.parametrize("size", [(40, 56), (3, 2)])
def test_operations_are_those_of_pillow(name: str, size: tuple[int, int]) -> None:
    levels = (-10, -0.3, 0.01) if name in TRANSLATIONS else ()
    for level in (*levels, 0, 0.7, 4, 9.6, 10):
        for key in range(3):
            expected, found = both_operations(name, level, photo(*size), key)
            assert np.abs(expected - found).max() <= 1


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize"])
@pytest.mark.parametrize("colours", [[(7, 7, 7)], [(0, 9, 255), (3, 9, 255)]])
def test_channels_of_few_values(name: str, colours: list[tuple[int, int, int]]) -> None:
    picture = Image.new("RGB", (30, 20), colours[0])
    picture.paste(colours[-1], (0, 0, 10, 20))
    expected, found = both_operations(name, 5, picture, 0)
    assert np.array_equal(expected, found)


@pytest.mark.parametrize("name", sorted(TURNS))
@pytest.mark.parametrize("level", [0, 0.4, 3, 10])
def test_turns_and_shears_are_nearly_those_of_pillow(name: str, level: float) -> None:
    for key in range(4):
        expected, found = both_operations(name, level, photo(90, 120), key)
        differences = np.abs(expected - found).max(axis=2)
        is_filled = (expected == FILL).all(axis=2)
        assert np.quantile(differences, 0.9) <= 3
        assert np.median(differences[~is_filled]) <= 1  # 30 and more turned to the other side
        # What comes from outside is the same but for its edge.
        assert (is_filled != (found == FILL).all(axis=2)).mean() < 0.06


def test_a_turn_to_the_other_side_is_noticed() -> None:
    expected, _ = both_operations("Rotate", 10, photo(90, 120), 0)
    _, found = both_operations("Rotate", -10, photo(90, 120), 0)
    is_filled = (expected == FILL).all(axis=2)
    assert np.median(np.abs(expected - found).max(axis=2)[~is_filled]) > 3


def test_jitter_of_colours_is_done_by_pillow() -> None:
    made = [
        train_transform(
            32,
            auto_augment=None,
            color_jitter=0.4,
            random_erasing=0.0,
            scale=(1.0, 1.0),
            flip=0.0,
            preprocessing=CenterCrop(32, 32),
        )
        for _ in range(2)
    ]
    data = encoded(photo(40, 40))
    exactly, fastly = made[0], FastTrainTransform(made[1])
    with seeded(5):
        exact: Tensor = exactly(decode_image(data))
    with seeded(5):
        fast, _ = fastly(data, "photo")
    assert levels(exact, fast).mean() < 1


def test_workers_that_are_started_anew_get_the_transform() -> None:
    transform = train_transform(
        32,
        auto_augment="rand-m9-mstd0.5-inc1",
        color_jitter=0.0,
        random_erasing=0.0,
        scale=(0.08, 1.0),
        flip=0.5,
        preprocessing=CenterCrop(32, 32),
    )
    fast = FastTrainTransform(transform)
    data = encoded(photo(40, 40))
    with seeded(5):
        here, _ = fast(data, "photo")
    with seeded(5):
        there, _ = pickle.loads(pickle.dumps(fast))(data, "photo")
    assert torch.equal(here, there)


@pytest.mark.parametrize("turn", range(1, 9))
def test_views_are_upright_as_pillow_makes_them(turn: int) -> None:
    data = encoded(photo(20, 30), "PNG", orientation=turn)
    with Image.open(io.BytesIO(data)) as image:
        stored = np.asarray(image)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(to_upright_rgb(image))
    assert np.array_equal(upright(stored, turn), expected)


def _errors(data: bytes) -> tuple[str, str]:
    with pytest.raises(ImageDecodeError) as exact:
        decode_image(data, name="photo")
    with pytest.raises(ImageDecodeError) as fast:
        both_fast(data)
    return str(exact.value), str(fast.value)


def both_fast(data: bytes) -> Tensor:
    transform = train_transform(
        32,
        auto_augment=None,
        color_jitter=0.0,
        random_erasing=0.0,
        scale=(0.08, 1.0),
        flip=0.0,
        preprocessing=CenterCrop(32, 32),
    )
    return FastTrainTransform(transform)(data, "photo")[0]


@pytest.mark.parametrize("cut", [0, 10, 300, 1500])
def test_damaged_files_are_said_as_on_the_exact_way(cut: int) -> None:
    data = encoded(photo(90, 120))
    exact, fast = _errors(data[:cut])
    assert exact == fast


def test_text_is_no_image() -> None:
    exact, fast = _errors(b"text")
    assert exact == fast == "cannot decode image photo: it is text, not an image"


def test_a_file_that_only_pillow_reads_is_read_by_it() -> None:
    data = encoded(photo(90, 120))
    broken = bytearray(data)
    broken[len(data) // 2 : len(data) // 2 + 40] = bytes(40)  # libjpeg warns, Pillow goes on
    exact, fast = both(bytes(broken), 3)
    assert levels(exact, fast).max() < 2.01


@pytest.mark.parametrize("package", ["simplejpeg", "cv2"])
def test_the_package_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "ziggurat.data.fast_augment")
    message = rf"data.decoder fast needs the package {package}, .*'ziggurat\[data\]'"
    with pytest.raises(ZigguratError, match=message):
        both_fast(encoded(photo(40, 40)))
