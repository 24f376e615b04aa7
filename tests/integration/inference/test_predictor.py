"""Predictions from files, images, arrays and tensors, in pixels of the original image."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ziggurat.data.classification import eval_transform
from ziggurat.errors import ZigguratError
from ziggurat.fast import inference as fast_inference
from ziggurat.inference import forward, predictor
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.classify import at_scale
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.images import ImageLike
from ziggurat.inference.predictor import Prediction, Predictor, find_weights, load
from ziggurat.inference.sliding import SlidingWindows
from ziggurat.inference.tiles import Tiles
from ziggurat.ops.nms import HARD, Suppression
from ziggurat.preprocessing import CenterCrop
from ziggurat.types import Batch, ClassScores, Detections, Result
from ziggurat.zoo import Model, create_model


@pytest.fixture(scope="module")
def detector(detector_file: Path) -> Predictor:
    return load(detector_file, device="cpu")


@pytest.fixture(scope="module")
def classifier(classifier_file: Path) -> Predictor:
    return load(classifier_file, device="cpu")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (150, 240, 3), dtype=np.uint8))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Batch, Suppression]]:
    """What goes through a detector, and how its objects are to be chosen, call by call."""
    calls = []

    def infer(
        model: Model, batch: Batch, device: torch.device, suppression: Suppression = HARD
    ) -> list[Result]:
        calls.append((batch, suppression))
        return forward.infer(model, batch, device, suppression)

    monkeypatch.setattr(predictor, "infer", infer)
    return calls


def objects_of(prediction: Prediction) -> Detections:
    assert isinstance(prediction.result, Detections)
    return prediction.result


def test_weights_carry_classes_and_preprocessing(classifier: Predictor) -> None:
    assert classifier.classes == ("cell", "star", "tree")
    assert classifier.preprocessing == CenterCrop(resize=72, crop=66)
    assert not classifier.model.training


def test_an_optimized_model_gives_the_same(
    classifier: Predictor,
    classifier_file: Path,
    photo: Image.Image,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_inference, "_kernel_or_warning", lambda: None)  # needs no compiler
    fast = load(classifier_file, device="cpu", fast=True)
    assert any(isinstance(part, fast_inference.Optimized) for part in fast.model.modules())
    scores, expected = fast(photo).result, classifier(photo).result
    assert isinstance(scores, ClassScores) and isinstance(expected, ClassScores)
    torch.testing.assert_close(scores.scores, expected.scores, atol=1e-5, rtol=1e-5)


def test_every_kind_of_image_gives_the_same(
    detector: Predictor, photo: Image.Image, tmp_path: Path
) -> None:
    photo.save(tmp_path / "photo.png")
    pixels = np.asarray(photo)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    predictions = detector([tmp_path / "photo.png", photo, pixels, tensor, tensor / 255])
    first = predictions[0].to_dict()
    assert first["objects"]
    assert all(prediction.to_dict() == first for prediction in predictions)
    # Bytes are one image, not a sequence of numbers.
    assert detector((tmp_path / "photo.png").read_bytes()).to_dict() == first


def test_a_list_equals_its_images_one_by_one(detector: Predictor, photo: Image.Image) -> None:
    images = [photo, photo.resize((90, 200)), photo.resize((500, 100))]
    together = detector(images, score_threshold=0.2)
    alone = [detector(image, score_threshold=0.2) for image in images]
    assert [p.to_dict() for p in together] == [p.to_dict() for p in alone]
    assert detector([]) == []


def test_boxes_are_in_pixels_of_the_original(detector: Predictor, photo: Image.Image) -> None:
    found = objects_of(detector(photo, score_threshold=0.05))
    assert len(found) > 10
    assert found.boxes.min() >= 0
    assert found.boxes[:, 2].max() <= 240
    assert found.boxes[:, 3].max() <= 150
    # The model saw at most 120 x 72 pixels; boxes that were not scaled back could not reach this.
    assert found.boxes[:, 2].max() > 121


@pytest.mark.parametrize("size", [(1, 1), (900, 3), (2, 700)])
def test_images_of_any_shape(
    detector: Predictor, classifier: Predictor, size: tuple[int, int]
) -> None:
    image = Image.new("RGB", size, (200, 40, 40))
    found = objects_of(detector(image, score_threshold=0.01))
    assert bool((found.boxes[:, 2] <= size[0]).all() and (found.boxes[:, 3] <= size[1]).all())
    assert detector(image).draw().width >= size[0]
    assert classifier(image).top(1)


def test_threshold(detector: Predictor, photo: Image.Image) -> None:
    every = objects_of(detector(photo, score_threshold=0.0))
    limit = float(every.scores.median())
    some = objects_of(detector(photo, score_threshold=limit))
    assert 0 < len(some) < len(every)
    assert len(some) == int((every.scores >= limit).sum())
    with pytest.raises(ZigguratError, match=r"must lie in 0\.\.1, got 1.5"):
        detector(photo, score_threshold=1.5)


def test_classes_by_name(detector: Predictor, photo: Image.Image) -> None:
    every = detector(photo, score_threshold=0.05)
    assert {"cell", "star", "tree"} == {entry["class"] for entry in every.to_dict()["objects"]}
    some = detector(photo, score_threshold=0.05, classes=["tree", "cell"])
    expected = [entry for entry in every.to_dict()["objects"] if entry["class"] != "star"]
    assert some.to_dict()["objects"] == expected
    with pytest.raises(ZigguratError, match=r"unknown class 'tre'; did you mean '?tree'?\?"):
        detector(photo, classes=["tre"])
    with pytest.raises(ZigguratError, match="at least one name"):
        detector(photo, classes=[])
    with pytest.raises(ZigguratError, match="must be a list"):
        detector(photo, classes="tree")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"classes": ["tree"]},
        {"tiles": Tiles(size=150, overlap=60)},
        {"augmentation": Augmentation(flip=True)},
        {"augmentation": Augmentation(flip=True), "suppression": HARD},
    ],
)
def test_the_best_objects_of_an_image(
    detector: Predictor, photo: Image.Image, options: dict[str, Any]
) -> None:
    every = objects_of(detector(photo, score_threshold=0.05, **options))
    best = objects_of(detector(photo, score_threshold=0.05, max_detections=3, **options))
    assert len(every) > 3
    assert torch.equal(best.scores, every.scores[:3]) and torch.equal(best.boxes, every.boxes[:3])


def test_more_objects_than_published_are_asked_of_the_head(
    detector: Predictor, photo: Image.Image, asked: list[tuple[Batch, Suppression]]
) -> None:
    soft = Suppression("soft-linear")
    detector(photo, max_detections=300)
    detector(photo, max_detections=300, suppression=soft)
    detector(photo, max_detections=50)  # the best of 100
    rules = [rule for _, rule in asked]
    assert rules == [replace(HARD, max_detections=300), replace(soft, max_detections=300), HARD]
    with pytest.raises(ZigguratError, match="max_detections must be at least 1, got 0"):
        detector(photo, max_detections=0)


def test_a_generator_gives_predictions_as_they_are_asked_for(
    detector: Predictor, photo: Image.Image
) -> None:
    taken: list[int] = []

    def images() -> Iterator[Image.Image]:
        for number in range(3):
            taken.append(number)
            yield photo

    predictions = detector(images())
    assert taken == []
    first = next(predictions)
    assert taken == [0]
    assert [first, *predictions][2].to_dict() == detector(photo).to_dict()


def test_images_of_one_size_go_together(
    detector: Predictor, photo: Image.Image, asked: list[tuple[Batch, Suppression]]
) -> None:
    images = [photo, photo.rotate(180), photo.resize((90, 200)), photo, photo, photo]
    together = detector(images, batch_size=4, score_threshold=0.2)
    assert [len(batch.infos) for batch, _ in asked] == [
        3,
        1,
        2,
    ]  # of the first four, three have one size
    alone = [detector(image, score_threshold=0.2) for image in images]
    for one, other in zip(together, alone, strict=True):
        first, second = objects_of(one), objects_of(other)
        assert first.labels.tolist() == second.labels.tolist()
        torch.testing.assert_close(first.boxes, second.boxes, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(first.scores, second.scores, rtol=1e-4, atol=1e-4)
    with pytest.raises(ZigguratError, match="batch_size must be at least 1, got 0"):
        detector(photo, batch_size=0)


def test_a_mirrored_image_gives_mirrored_objects(detector: Predictor, photo: Image.Image) -> None:
    both = Augmentation(flip=True, scales=(1.0, 0.75))
    one = objects_of(detector(photo, score_threshold=0.2, augmentation=both))
    mirror = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    other = objects_of(detector(mirror, score_threshold=0.2, augmentation=both))
    assert len(one) == len(other) > 3
    back = other.boxes.clone()
    back[:, [0, 2]] = photo.width - back[:, [2, 0]]
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.boxes, back, rtol=1e-2, atol=0.5)


def test_tiles_find_what_the_tiles_alone_find(detector: Predictor, photo: Image.Image) -> None:
    tiles = Tiles(size=150, overlap=60, whole=False)
    merged = objects_of(detector(photo, score_threshold=0.4, tiles=tiles))
    parts = []
    for left, top, width, height in tiles.regions((150, 240)):
        part = photo.crop((left, top, left + width, top + height))
        boxes = objects_of(detector(part, score_threshold=0.4)).boxes
        parts.append(boxes + torch.tensor([left, top, left, top]))
    assert 3 < len(merged) <= len(torch.cat(parts))
    # Whatever is kept as it was comes from one of the tiles, at its place.
    distances = torch.cdist(merged.boxes, torch.cat(parts)).amin(dim=1)
    assert (distances < 1e-3).float().mean() > 0.5
    assert bool((merged.scores.diff() <= 0).all())


def test_tiles_of_a_small_image_change_nothing(detector: Predictor, photo: Image.Image) -> None:
    plain = detector(photo).to_dict()
    assert detector(photo, tiles=Tiles(size=300)).to_dict() == plain
    assert detector(photo, augmentation=Augmentation(flip=False)).to_dict() == plain


def test_sliding_windows_are_for_segmenters(detector: Predictor, photo: Image.Image) -> None:
    with pytest.raises(ZigguratError, match="for segmenters, and this model is a detector"):
        detector(photo, tiles=SlidingWindows())
    with pytest.raises(ZigguratError, match="for segmenters, and retinanet_p2t_mini is none"):
        EvaluationOptions(tiles=SlidingWindows()).check(detector.model)


@pytest.mark.parametrize(
    "options",
    [{"classes": ["cell"]}, {"max_detections": 5}, {"tiles": Tiles()}, {"suppression": HARD}],
)
def test_a_classifier_takes_no_options_of_detectors(
    classifier: Predictor, photo: Image.Image, options: dict[str, Any]
) -> None:
    with pytest.raises(ZigguratError, match=f"^{next(iter(options))} .*(is|are) for detectors"):
        classifier(photo, **options)


def test_classifier(classifier: Predictor, photo: Image.Image) -> None:
    prediction = classifier(photo)
    assert isinstance(prediction.result, ClassScores)
    assert float(prediction.result.scores.sum()) == pytest.approx(1.0, abs=1e-5)
    best = prediction.top(2)
    assert len(best) == 2
    assert best[0][1] >= best[1][1]
    content = prediction.to_dict()
    assert [entry["class"] for entry in content["scores"]][:2] == [name for name, _ in best]
    json.dumps(content)
    with pytest.raises(ZigguratError, match="score_threshold is for detectors"):
        classifier(photo, score_threshold=0.5)


def test_views_of_a_classifier_are_averaged_as_probabilities(
    classifier: Predictor, photo: Image.Image
) -> None:
    preprocessing = classifier.model.preprocessing
    assert isinstance(preprocessing, CenterCrop)
    scores = []
    for scale in (1.0, 1.5):
        pixels = eval_transform(at_scale(preprocessing, scale))(photo)
        for view in (pixels, pixels.flip(2)):
            with torch.inference_mode():
                scores.append(classifier.model(view[None])[0].softmax(dim=0))
    found = classifier([photo, photo], augmentation=Augmentation(flip=True, scales=(1.0, 1.5)))
    for one in found:
        assert isinstance(one.result, ClassScores)
        torch.testing.assert_close(one.result.scores, torch.stack(scores).mean(dim=0))
    plain = classifier(photo, augmentation=Augmentation(flip=False)).result
    assert isinstance(plain, ClassScores)
    torch.testing.assert_close(plain.scores, scores[0])


@pytest.mark.parametrize(
    ("resize", "crop", "scale", "expected"),
    [
        (256, 224, 1.14, (293, 256)),  # 255.36 is next to 8 cells of 32 pixels
        (256, 224, 0.01, (37, 32)),
        (64, 64, 1.5, (96, 96)),
        (80, 72, 1.1, (88, 79)),  # no multiple of 32 before, and none after
    ],
)
def test_scaled_squares_keep_to_the_grid_of_the_coarsest_map(
    resize: int, crop: int, scale: float, expected: tuple[int, int]
) -> None:
    scaled = at_scale(CenterCrop(resize, crop), scale)
    assert (scaled.resize, scaled.crop) == expected


def test_many_images_through_a_classifier(classifier: Predictor, photo: Image.Image) -> None:
    images: list[ImageLike] = [photo.rotate(10 * turn) for turn in range(18)]
    together = classifier(images)
    alone = [classifier(images[0]), classifier(images[17])]
    for one, other in zip([together[0], together[17]], alone, strict=True):
        assert isinstance(one.result, ClassScores)
        assert isinstance(other.result, ClassScores)
        torch.testing.assert_close(one.result.scores, other.result.scores)


def test_pictures_are_saved(
    detector: Predictor, classifier: Predictor, photo: Image.Image, tmp_path: Path
) -> None:
    detector(photo).save(tmp_path / "found.jpg")
    classifier(photo).save(str(tmp_path / "classes.png"))
    for name in ("found.jpg", "classes.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width >= photo.width
    with pytest.raises(ZigguratError, match="cannot be written"):
        detector(photo).save(tmp_path / "found.unknown")
    with pytest.raises(ZigguratError, match="cannot be written"):
        detector(photo).save(tmp_path / "absent" / "found.jpg")


def test_a_jpeg_has_no_longer_side_than_its_library_writes(tmp_path: Path) -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    wide = Prediction(Image.new("RGB", (70000, 14)), nothing, ("cell",))
    for name, size in (("wide.jpg", (65500, 13)), ("wide.png", (70000, 14))):
        wide.save(tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.size == size


def test_top_of_detections() -> None:
    found = Detections(
        torch.tensor([[0.0, 0.0, 5.0, 5.0], [1.0, 1.0, 4.0, 4.0]]),
        torch.tensor([0.4, 0.8]),
        torch.tensor([0, 1]),
    )
    prediction = Prediction(Image.new("RGB", (9, 6)), found, ("a", "b"))
    assert [name for name, _ in prediction.top(5)] == ["b", "a"]
    content = prediction.to_dict()
    assert (content["width"], content["height"]) == (9, 6)
    assert content["objects"][0]["box"] == [1.0, 1.0, 4.0, 4.0]


def test_weights_are_found_in_a_run(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="holds no trained weights"):
        find_weights(tmp_path)
    (tmp_path / "last.safetensors").touch()
    assert find_weights(tmp_path).name == "last.safetensors"
    (tmp_path / "best.safetensors").touch()
    assert find_weights(tmp_path).name == "best.safetensors"
    with pytest.raises(ZigguratError, match="there are no weights at"):
        find_weights(tmp_path / "absent")


def test_devices(classifier_file: Path) -> None:
    with pytest.raises(ZigguratError, match="no device 'gpu'"):
        load(classifier_file, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ZigguratError, match="no device 'cuda'"):
            load(classifier_file, device="cuda")


def test_classes_of_imagenet_have_names() -> None:
    official = Predictor(create_model("p2t_mini"))
    assert official.classes[207] == "golden retriever" and len(official.classes) == 1000
    assert official(Image.new("RGB", (90, 80))).top(1)[0][0] in official.classes
    assert official.model.classes[207] == "class_207"  # an evaluation goes by the folders
