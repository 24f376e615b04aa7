"""The fast way of training images: same draws, nearly the same pixels, same error handling."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import AugmentOp
from torch import Tensor
from torchvision.transforms import Compose

from ziggurat.data.classification import operations_of, train_transform
from ziggurat.data.decode import ImageDecodeError, decode_image, to_upright_rgb
from ziggurat.data.fast_decode import FastTrainTransform, upright
from ziggurat.data.fast_shift import use_fast_shifts
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


SHIFTS = [
    *(("ShearX", level) for level in (-10, -3, 0.4, 10)),
    *(("ShearY", level) for level in (-10, 3)),
    *(("TranslateXRel", level) for level in (-10, 0.01, 10)),
    *(("TranslateYRel", level) for level in (-10, 5)),
    *((name, level) for name in ("TranslateX", "TranslateY") for level in (0.3, 10)),
]


@pytest.mark.parametrize(("name", "level"), SHIFTS)
@pytest.mark.parametrize("size", [(40, 56), (3, 2)])
def test_shifts_are_those_of_pillow(name: str, level: float, size: tuple[int, int]) -> None:
    hparams = {
        "img_mean": (124, 116, 104),
        "interpolation": Image.Resampling.BICUBIC,
        "translate_const": 100,
    }
    exact = AugmentOp(name, prob=1.0, magnitude=level, hparams=hparams)
    fast = AugmentOp(name, prob=1.0, magnitude=level, hparams=hparams)
    use_fast_shifts([fast])
    assert fast.aug_fn is not exact.aug_fn
    picture = photo(*size)
    for key in range(3):
        with seeded(key):
            expected = np.asarray(exact(picture)).astype(int)
        with seeded(key):
            found = np.asarray(fast(picture)).astype(int)
        assert np.abs(expected - found).max() <= 1


def test_other_operations_are_left_alone() -> None:
    made = [
        train_transform(
            32,
            auto_augment="rand-m9-mstd0.5-inc1",
            color_jitter=0.0,
            random_erasing=0.0,
            scale=(0.08, 1.0),
            flip=0.0,
            preprocessing=CenterCrop(32, 32),
        )
        for _ in range(2)
    ]
    FastTrainTransform(made[1])
    one, other = (operations_of(each.transforms[1]) for each in made)
    changed = {a.name for a, b in zip(one, other, strict=True) if a.aug_fn is not b.aug_fn}
    assert changed == {"ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}


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


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(ZigguratError, match=r"data.decoder fast needs .*'ziggurat\[data\]'"):
        both_fast(encoded(photo(40, 40)))


def test_seeds_inside_seeds() -> None:
    with seeded(1):
        first = [np.random.rand(), np.random.rand()]
    with seeded(1):
        again = [np.random.rand()]
        with seeded(2):
            np.random.rand()
        again.append(np.random.rand())
    assert again == first
