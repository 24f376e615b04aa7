"""Label maps of images of any size: tiles and views give what the plain way gives."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import ziggurat
from ziggurat.data.segmentation import eval_image
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.label_inference import Look, _Part, segment
from ziggurat.inference.predictor import Predictor
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.preprocessing import FitAligned
from ziggurat.types import ClassMasks, LabelMap

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> SemanticSegmenter:
    torch.manual_seed(0)
    built = ziggurat.create_model(
        "segformer", backbone="topformer_tiny", num_classes=5, head_channels=8
    )
    assert isinstance(built, SemanticSegmenter)
    built.preprocessing = FitAligned(short_side=64, long_side=256)
    torch.nn.init.normal_(built.get_parameter("head.classifier.logits.weight"))
    built.train()
    with torch.no_grad():  # statistics with which pixels differ
        for _ in range(30):
            built(F.interpolate(torch.randn(4, 3, 4, 6), size=(64, 96), mode="bicubic"))
    return built.eval()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    return small.resize((192, 128), Image.Resampling.BICUBIC)


def labels_of(model: SemanticSegmenter, image: Image.Image, look: Look) -> torch.Tensor:
    found = segment(model, image, look, CPU)
    assert isinstance(found, LabelMap)
    return found.labels


@pytest.mark.parametrize("block", [(0, 0, 300, 200), (160, 70, 90, 80), (299, 199, 1, 1)])
def test_a_part_is_enlarged_as_the_whole(block: tuple[int, int, int, int]) -> None:
    coarse = torch.randn(5, 13, 17)
    left, top, width, height = block
    region = (100, 50, 300, 200)
    part = _Part.of(coarse, region, (100 + left, 50 + top, width, height))
    whole = F.interpolate(coarse[None], size=(200, 300), mode="bilinear")[0]
    expected = whole[:, top : top + height, left : left + width].permute(1, 2, 0)
    torch.testing.assert_close(part.enlarge(), expected)


def test_one_cell_is_the_same_everywhere() -> None:
    coarse = torch.randn(5, 1, 1)
    part = _Part.of(coarse, (0, 0, 7, 3), (2, 1, 4, 2)).enlarge()
    torch.testing.assert_close(part, coarse.view(1, 1, 5).expand(2, 4, 5))


def test_one_tile_gives_what_the_whole_gives(model: SemanticSegmenter, photo: Image.Image) -> None:
    plain = labels_of(model, photo, Look())
    tiled = labels_of(model, photo, Look(Tiles(200, 50)))
    assert plain.shape == tiled.shape == (128, 192)
    assert plain.dtype == tiled.dtype
    assert len(plain.unique()) > 1
    # Logits are enlarged once in the one, twice in the other.
    assert (plain == tiled).float().mean() > 0.98


def test_overlapping_tiles_are_averaged(model: SemanticSegmenter, photo: Image.Image) -> None:
    tiles = Tiles(96, 32, whole=False)
    found = labels_of(model, photo, Look(tiles))
    total, count = torch.zeros(5, 128, 192), torch.zeros(128, 192)
    for left, top, width, height in tiles.regions((128, 192)):
        part = photo.crop((left, top, left + width, top + height))
        pixels = _shown(part)
        with torch.inference_mode():
            logits = F.interpolate(model(pixels), size=(height, width), mode="bilinear")[0]
        total[:, top : top + height, left : left + width] += logits
        count[top : top + height, left : left + width] += 1
    assert count.max() == 4
    expected = (total / count).argmax(dim=0)
    assert (found == expected).float().mean() > 0.999


def _shown(image: Image.Image) -> torch.Tensor:
    return eval_image(image, FitAligned(short_side=64, long_side=256))[None]


def test_probabilities_of_views_are_averaged(model: SemanticSegmenter, photo: Image.Image) -> None:
    found = labels_of(model, photo, Look(augmentation=Augmentation(flip=True)))
    pixels = _shown(photo)
    total = torch.zeros(5, 128, 192)
    for mirrored in (False, True):
        with torch.inference_mode():
            logits = model(pixels.flip(3) if mirrored else pixels)
        logits = logits.flip(3) if mirrored else logits
        total += F.interpolate(logits, size=(128, 192), mode="bilinear")[0].softmax(dim=0)
    assert (found == total.argmax(dim=0)).float().mean() > 0.999
    # A photo that is its own mirror image is labelled so.
    pair = Image.new("RGB", (192, 128))
    half = photo.crop((0, 0, 96, 128))
    pair.paste(half, (0, 0))
    pair.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (96, 0))
    found = labels_of(model, pair, Look(augmentation=Augmentation(flip=True)))
    assert torch.equal(found, found.flip(1))


@pytest.mark.parametrize("flip", [False, True])
def test_classes_that_overlap_in_tiles_and_views(
    model: SemanticSegmenter, photo: Image.Image, flip: bool
) -> None:
    several = copy.deepcopy(model)
    several.identity = replace(model.identity, overlapping=True)
    look = Look(Tiles(96, 32, whole=False), Augmentation(flip=flip))
    found = segment(several, photo, look, CPU)
    assert isinstance(found, ClassMasks) and found.masks.shape == (5, 128, 192)
    assert not found.ignored.any()
    probabilities = torch.zeros(5, 128, 192)
    for mirrored in (False, True) if flip else (False,):
        total, count = torch.zeros(5, 128, 192), torch.zeros(128, 192)
        for left, top, width, height in look.tiles.regions((128, 192)):  # type: ignore[union-attr]
            part = _shown(photo.crop((left, top, left + width, top + height)))
            with torch.inference_mode():
                logits = model(part.flip(3) if mirrored else part)
            logits = logits.flip(3) if mirrored else logits
            enlarged = F.interpolate(logits, size=(height, width), mode="bilinear")[0]
            total[:, top : top + height, left : left + width] += enlarged
            count[top : top + height, left : left + width] += 1
        probabilities += (total / count).sigmoid() / (1 + flip)
    assert (found.masks == (probabilities >= 0.5)).float().mean() > 0.999
    assert 0.05 < found.masks.float().mean() < 0.95


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        (None, 0.5),
        (128, 0.5),  # the short side of the photo: at the scale of the whole
        (64, 1.0),  # the short side of the model: pixel by pixel
        (80, 0.8),
    ],
)
def test_scale_at_which_tiles_are_seen(
    model: SemanticSegmenter, photo: Image.Image, size: int | None, scale: float
) -> None:
    shown: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].shape[2:]))
    labels_of(model, photo, Look(None if size is None else Tiles(size, 16)))
    hook.remove()
    height, width = (128, 192) if size is None else (size, size)
    assert set(shown) == {(scale * height, scale * width)}


def slid(model: SemanticSegmenter, pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Logits as MMSegmentation's `mode='slide'` gives them: windows of 64, 42 pixels apart."""
    height, width = pixels.shape[2:]
    total, count = torch.zeros(5, height, width), torch.zeros(height, width)
    for row in range(max(height - 64 + 41, 0) // 42 + 1):
        for column in range(max(width - 64 + 41, 0) // 42 + 1):
            bottom, right = min(42 * row + 64, height), min(42 * column + 64, width)
            top, left = max(bottom - 64, 0), max(right - 64, 0)
            with torch.inference_mode():
                logits = model(pixels[:, :, top:bottom, left:right])
            of_pixels = F.interpolate(logits, size=(bottom - top, right - left), mode="bilinear")
            total[:, top:bottom, left:right] += of_pixels[0]
            count[top:bottom, left:right] += 1
    return F.interpolate((total / count)[None], size=size, mode="bilinear")[0]


@pytest.mark.parametrize("size", [(192, 128), (150, 600), (70, 40)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_sliding_windows_are_cut_out_of_the_resized_photo(
    model: SemanticSegmenter, photo: Image.Image, size: tuple[int, int], batch_size: int
) -> None:
    image = photo.resize(size)
    found = labels_of(model, image, Look(SlidingWindows(64, 22), batch_size=batch_size))
    expected = slid(model, _shown(image), size[::-1]).argmax(dim=0)
    assert found.shape == expected.shape
    assert (found == expected).float().mean() > 0.999


@pytest.mark.parametrize("overlapping", [False, True])
def test_views_through_sliding_windows(
    model: SemanticSegmenter, photo: Image.Image, overlapping: bool
) -> None:
    asked = copy.deepcopy(model)
    asked.identity = replace(model.identity, overlapping=overlapping)
    look = Look(SlidingWindows(64, 22), Augmentation(flip=True, scales=(1.0, 2.0)))
    found = segment(asked, photo, look, CPU)
    total = torch.zeros(5, 128, 192)
    for side in (64, 128):
        pixels = eval_image(photo, FitAligned(short_side=side, long_side=4 * side))[None]
        for mirrored in (False, True):
            logits = slid(model, pixels.flip(3) if mirrored else pixels, (128, 192))
            logits = logits.flip(2) if mirrored else logits
            total += logits.sigmoid() if overlapping else logits.softmax(dim=0)
    if overlapping:
        assert isinstance(found, ClassMasks)
        assert (found.masks == (total >= 2)).float().mean() > 0.999
    else:
        assert isinstance(found, LabelMap)
        assert (found.labels == total.argmax(dim=0)).float().mean() > 0.999


def test_masks_that_do_not_fit_into_memory_are_refused(
    model: SemanticSegmenter, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = copy.deepcopy(model)
    several.identity = replace(model.identity, overlapping=True)
    needed = 5 * 128 * 192
    for left, fits in ((needed, True), (needed - 1, False), (None, True)):
        monkeypatch.setattr(
            "ziggurat.inference.label_inference.available_bytes", lambda _, left=left: left
        )
        if fits:
            assert isinstance(segment(several, photo, Look(), CPU), ClassMasks)
            continue
        with pytest.raises(ZigguratError, match=r"masks of 5 classes .* 192 x 128 pixels, take"):
            segment(several, photo, Look(), CPU)


def test_batches_of_tiles_change_nothing(model: SemanticSegmenter, photo: Image.Image) -> None:
    tiles = Tiles(96, 32)
    one = labels_of(model, photo, Look(tiles))
    four = labels_of(model, photo, Look(tiles, batch_size=4))
    assert (one == four).float().mean() > 0.999


def test_a_photo_of_one_pixel(model: SemanticSegmenter) -> None:
    for look in (Look(), Look(augmentation=Augmentation(flip=True))):
        found = labels_of(model, Image.new("RGB", (1, 1), (9, 9, 9)), look)
        assert found.shape == (1, 1)


def test_a_segmenter_predicts(model: SemanticSegmenter, photo: Image.Image) -> None:
    predictor = Predictor(model, device="cpu")
    one, two = predictor([photo, photo.convert("L")])
    assert isinstance(one.result, LabelMap) and isinstance(two.result, LabelMap)
    assert torch.equal(one.result.labels, labels_of(model, photo, Look()))
    areas = one.to_dict()["areas"]
    assert sum(area["pixels"] for area in areas) == 128 * 192
    assert one.top(1)[0] == (areas[0]["class"], areas[0]["share"])
    tiled = predictor(photo, tiles=Tiles(96, 32))
    assert isinstance(tiled.result, LabelMap)
    picture = one.draw()
    assert picture.width >= 480 and picture.height > 128 * 3  # enlarged, and a legend below


@pytest.mark.parametrize("option", [{"score_threshold": 0.5}, {"classes": ["class_0"]}])
def test_options_of_detectors_are_refused(
    model: SemanticSegmenter, photo: Image.Image, option: dict[str, object]
) -> None:
    with pytest.raises(ZigguratError, match="for detectors, and this model is a segmenter"):
        Predictor(model, device="cpu")(photo, **option)  # type: ignore[call-overload]


def test_label_maps_are_no_objects(model: SemanticSegmenter, photo: Image.Image) -> None:
    with pytest.raises(ZigguratError, match=r"hold objects, .* has none"):
        Predictor(model, device="cpu")(photo).to_supervision()
