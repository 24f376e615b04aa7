"""Views whose candidates go through one suppression: boxes and masks of all of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ziggurat.checkpoints.native import load_weights
from ziggurat.errors import ZigguratError
from ziggurat.inference.augmented import Augmentation
from ziggurat.inference.evaluation import evaluate
from ziggurat.inference.evaluation_options import EvaluationOptions
from ziggurat.inference.predictor import Predictor, load
from ziggurat.inference.tiles import Tiles
from ziggurat.inference.views import View
from ziggurat.models.detector import Detector
from ziggurat.ops.box_voting import Voting
from ziggurat.ops.nms import Suppression
from ziggurat.preprocessing import FitInside
from ziggurat.types import Detections
from ziggurat.zoo import create_model

SOFT = Suppression("soft-gaussian", voting=Voting())


def random_image(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


PHOTO = random_image(100, 72, 5)


def with_masks(system: str) -> Predictor:
    """A detector that finds something, and masks that are neither empty nor full."""
    torch.manual_seed(0)
    model = create_model(system, backbone="p2t_mini", num_classes=3, head_channels=16)
    assert isinstance(model, Detector)
    model.preprocessing = FitInside(short_side=72, long_side=120)
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            if "logits" in name and name.endswith("weight"):
                parameter.normal_(std=0.2)
    return Predictor(model, device="cpu")


@pytest.fixture(
    scope="module", params=["mask_rcnn", pytest.param("cascade_mask_rcnn", marks=pytest.mark.slow)]
)
def masked(request: pytest.FixtureRequest, p2t_mini: str) -> Predictor:
    del p2t_mini  # must be listed
    return with_masks(request.param)


def objects(found: object) -> Detections:
    assert isinstance(found, Detections)
    assert len(found) > 3
    return found


def test_one_view_is_the_image_itself(masked: Predictor) -> None:
    plain = objects(masked(PHOTO, score_threshold=0.0, suppression=SOFT).result)
    same = Augmentation(flip=False, scales=(1.0,))
    one = masked(PHOTO, score_threshold=0.0, suppression=SOFT, augmentation=same).result
    torch.testing.assert_close(objects(one).boxes, plain.boxes)
    # The way through the views gives it, too: 0.999 of 72 pixels are 72 pixels.
    near = Augmentation(flip=False, scales=(0.999,))
    other = objects(masked(PHOTO, score_threshold=0.0, suppression=SOFT, augmentation=near).result)
    torch.testing.assert_close(other.boxes, plain.boxes)
    torch.testing.assert_close(other.scores, plain.scores)
    assert plain.masks is not None
    assert other.masks is not None
    assert torch.equal(other.masks.full(), plain.masks.full())


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_mirrored_photo_has_mirrored_objects(masked: Predictor, batch_size: int) -> None:
    def look(photo: Image.Image) -> Detections:
        looks = Augmentation(flip=True, scales=(1.0, 1.25))
        return objects(
            masked(
                photo,
                score_threshold=0.0,
                suppression=Suppression("soft-linear"),
                augmentation=looks,
                batch_size=batch_size,
            ).result
        )

    one, other = look(PHOTO), look(ImageOps.mirror(PHOTO))
    boxes = View((0, 0, 100, 72), is_mirrored=True).redo(other.boxes)
    torch.testing.assert_close(boxes, one.boxes, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(other.scores, one.scores, atol=1e-5, rtol=1e-4)
    assert one.masks is not None
    assert other.masks is not None
    mine, theirs = one.masks.full(), other.masks.full().flip(2)
    assert 0.02 < mine.float().mean() < 0.98
    assert (mine != theirs).float().mean() < 1e-3


def test_the_candidates_of_all_views_are_suppressed_together(detector_file: Path) -> None:
    predictor = load(detector_file, device="cpu")
    looks = Augmentation(flip=True)
    fused = objects(predictor(PHOTO, score_threshold=0.0, augmentation=looks).result)
    hard = Suppression()
    united = objects(
        predictor(PHOTO, score_threshold=0.0, augmentation=looks, suppression=hard).result
    )
    views = [predictor(photo, score_threshold=0.0) for photo in (PHOTO, ImageOps.mirror(PHOTO))]
    best = max(float(objects(view.result).scores[0]) for view in views)
    assert float(united.scores[0]) == pytest.approx(best, abs=1e-5)
    assert float(fused.scores[0]) < best  # a mean
    assert len(united) <= 100


def test_tiles_have_it_each(detector_file: Path) -> None:
    predictor = load(detector_file, device="cpu")
    photo = random_image(180, 90, 2)
    tiles, looks = Tiles(90, 20), Augmentation(flip=True)
    found = predictor(
        photo, score_threshold=0.0, tiles=tiles, augmentation=looks, suppression=SOFT
    ).result
    plain = predictor(photo, score_threshold=0.0, tiles=tiles, suppression=SOFT).result
    assert len(objects(found)) != len(objects(plain))
    assert float(objects(found).boxes[:, 2].max()) > 120


def test_wanted_classes_and_scores_hold(detector_file: Path) -> None:
    predictor = load(detector_file, device="cpu")
    looks = Augmentation(flip=True)
    found = predictor(
        PHOTO, score_threshold=0.4, classes=["star"], augmentation=looks, suppression=SOFT
    ).result
    assert set(objects(found).labels.tolist()) == {1}
    assert float(objects(found).scores.min()) >= 0.4


@pytest.mark.parametrize(
    "options",
    [
        EvaluationOptions(suppression=SOFT),
        EvaluationOptions(augmentation=Augmentation(flip=True)),
        EvaluationOptions(augmentation=Augmentation(flip=True), suppression=SOFT),
        EvaluationOptions(tiles=Tiles(64, 16), suppression=SOFT),
    ],
)
def test_an_evaluation_has_the_options(
    options: EvaluationOptions, detector_file: Path, coco_root: Path
) -> None:
    # The data have classes that the model does not know, but no object of them.
    plain = evaluate(detector_file, data_root=coco_root, device="cpu")
    other = evaluate(detector_file, data_root=coco_root, options=options, device="cpu")
    assert other.report.num_images == plain.report.num_images == 3
    assert plain.coco_results
    assert other.coco_results
    assert other.coco_results != plain.coco_results


def test_an_evaluation_by_the_predictor_is_the_same(detector_file: Path, coco_root: Path) -> None:
    looks = EvaluationOptions(augmentation=Augmentation(flip=False))
    plain = evaluate(detector_file, data_root=coco_root, device="cpu")
    same = evaluate(detector_file, data_root=coco_root, options=looks, device="cpu")
    assert plain.coco_results
    assert same.coco_results == plain.coco_results


def test_sets_have_no_duplicates(coco_root: Path, detector_file: Path) -> None:
    with torch.device("meta"):
        model = create_model("detr", backbone="p2t_mini", num_classes=3, head_channels=16)
    assert isinstance(model, Detector)
    message = "detr_p2t_mini predicts a set of objects, in which there are no duplicates"
    with pytest.raises(ZigguratError, match=message):
        EvaluationOptions(suppression=SOFT).check(model)
    model = create_model("sparse_rcnn", backbone="p2t_mini", num_classes=3, head_channels=16)
    assert isinstance(model, Detector)
    with pytest.raises(ZigguratError, match="sparse_rcnn_p2t_mini predicts a set of objects"):
        Predictor(model, device="cpu")(PHOTO, suppression=SOFT)
    with pytest.raises(ZigguratError, match="no more objects to take; .* and max_detections"):
        Predictor(model, device="cpu")(PHOTO, max_detections=300)
    with torch.inference_mode():
        raw = model(torch.zeros(1, 3, 64, 64))
        assert len(model.decode(raw, [(64, 64)])) == 1
        with pytest.raises(ZigguratError, match="predicts a set of objects"):
            model.decode(raw, [(64, 64)], suppression=SOFT)


def test_boxes_are_for_detectors(classifier_file: Path) -> None:
    model = load_weights(classifier_file)
    with pytest.raises(
        ZigguratError, match=r"suppression .* is for detectors, and .* a classifier"
    ):
        Predictor(model, device="cpu")(PHOTO, suppression=SOFT)
