"""Steps of detectors: they find something, learn from drawn objects, and are timed in parts."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ziggurat.bench import detection
from ziggurat.bench.detection import (
    NUM_OBJECTS,
    TorchvisionDetector,
    detector_loss,
    draw_objects,
    enliven,
    predict,
)
from ziggurat.bench.parts import POST_PROCESSING, time_parts
from ziggurat.bench.results import Setting
from ziggurat.bench.subjects import find_subject
from ziggurat.bench.work import count_flops, make_ready, make_step
from ziggurat.keypoints import COCO_PERSON
from ziggurat.models.detector import Detector
from ziggurat.zoo import create_model

SETTING = Setting("fp32", 1, (64, 96))


@pytest.fixture
def model(p2t_mini: str) -> Detector:
    model = create_model(
        f"retinanet_{p2t_mini}", num_classes=80, head_channels=16, head_depth=1
    ).eval()
    assert isinstance(model, Detector)
    return model


class Theirs(torch.nn.Module):
    """Stands in for a detector of torchvision: one object an image, or a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = torch.nn.Identity()
        self.cls_logits = torch.nn.Linear(3, 4)

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> list[dict[str, Tensor]] | dict[str, Tensor]:
        logits = torch.stack([self.cls_logits(image.mean(dim=(1, 2))) for image in images])
        if targets is None:
            return [{"boxes": torch.zeros(1, 4), "logits": row} for row in logits]
        labels = torch.cat([target["labels"] for target in targets])
        masks = torch.cat([target["masks"] for target in targets])
        return {"a": labels.min().float() + 0 * logits.sum(), "b": masks.float().mean()}


def test_a_fresh_detector_finds_nothing_until_it_is_enlivened(model: Detector) -> None:
    images = torch.randn(2, 3, 96, 128)
    assert predict(model, images) == [0, 0]
    found = enliven(model, images)
    assert min(found) > 0
    assert predict(model, images) == found


def test_enlivening_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = TorchvisionDetector(Theirs())
    monkeypatch.setattr(detection, "ATTEMPTS", 2)
    before = theirs.model.cls_logits.weight.clone()  # type: ignore[union-attr, operator]
    assert enliven(theirs, torch.randn(1, 3, 8, 8)) == [1]
    assert not torch.equal(theirs.model.cls_logits.weight, before)  # type: ignore[union-attr, arg-type]


def test_objects_lie_inside_and_their_masks_fill_their_boxes() -> None:
    objects = draw_objects(torch.zeros(2, 3, 40, 60), num_classes=5)
    assert [len(target) for target in objects] == [NUM_OBJECTS] * 2
    for target in objects:
        assert target.boxes.min() >= 0 and (target.boxes[:, 2:] <= torch.tensor([60, 40])).all()
        assert target.labels.max() < 5
        assert target.masks is not None
        area = (target.boxes[:, 2:] - target.boxes[:, :2]).prod(dim=1)
        assert torch.equal(target.masks.full().sum(dim=(1, 2)).float(), area)


def test_keypoints_lie_in_their_boxes() -> None:
    (objects,) = draw_objects(torch.zeros(1, 3, 40, 60), num_classes=1, skeleton=COCO_PERSON)
    assert objects.keypoints is not None
    places = objects.keypoints.points[..., :2]
    assert places.shape == (NUM_OBJECTS, 17, 2)
    assert (places >= objects.boxes[:, None, :2]).all()
    assert (places <= objects.boxes[:, None, 2:]).all()
    assert (objects.keypoints.points[..., 2] == 2).all()


def test_losses(model: Detector) -> None:
    images = torch.randn(1, 3, 64, 96)
    objects = draw_objects(images, num_classes=80)
    model.train()
    losses = model.loss(model(images), objects, [(64, 96)])
    expected = sum(losses.values(), torch.zeros(()))
    assert torch.isclose(detector_loss(model, images, objects), expected)


def test_torchvision_is_told_of_the_same_objects() -> None:
    theirs = TorchvisionDetector(Theirs())
    images = torch.randn(2, 3, 40, 60)
    objects = draw_objects(images, num_classes=1)
    assert objects[0].masks is not None and objects[1].masks is not None
    share = torch.cat([target.masks.full() for target in objects if target.masks]).float().mean()
    assert torch.isclose(detector_loss(theirs, images, objects), 1 + share)  # label 0 is background
    transform: Any = theirs.model.transform
    assert transform.min_size == (40,) and transform.max_size == 60
    assert transform.image_mean == [0, 0, 0] and transform.image_std == [1, 1, 1]


def test_a_step_of_a_detector_is_all_of_it(model: Detector) -> None:
    before = [parameter.clone() for parameter in model.backbone.parameters()]
    training = Setting("fp32", 1, (64, 96), is_training=True)
    images = make_ready(model, training, torch.device("cpu"), "channels_last")
    flops = count_flops(model, training, images)
    make_step(model, images, training)()
    assert any(
        not torch.equal(a, b) for a, b in zip(before, model.backbone.parameters(), strict=True)
    )
    images = make_ready(model, SETTING, torch.device("cpu"), "channels_last")
    assert flops > 2 * count_flops(model, SETTING, images) > 0
    make_step(model, images, SETTING)()


def test_parts_are_in_the_order_of_their_work(model: Detector) -> None:
    autocast = torch.autocast("cpu", enabled=False)
    parts = time_parts(model, torch.randn(1, 3, 64, 96), 2, autocast)
    assert list(parts) == ["backbone", "neck", "head", POST_PROCESSING]
    assert min(parts.values()) > 0


def test_parts_of_a_classifier(p2t_mini: str) -> None:
    model = create_model(p2t_mini, num_classes=10).eval()
    autocast = torch.autocast("cpu", enabled=False)
    parts = time_parts(model, torch.randn(1, 3, 64, 96), 2, autocast)
    assert list(parts) == ["backbone", "head", POST_PROCESSING]
    assert parts["backbone"] > parts["head"] > 0


def test_nested_parts_count_once(p2t_mini: str) -> None:
    model = create_model("mask_rcnn", backbone=p2t_mini, num_classes=3, head_channels=16)
    parts = time_parts(
        model.eval(), torch.randn(1, 3, 64, 96), 1, torch.autocast("cpu", enabled=False)
    )
    assert "head.boxes.box_head" in parts
    assert "head.boxes.box_head.logits" not in parts


def test_torchvision_detectors_have_our_classes_and_limits() -> None:
    with torch.device("meta"):
        built = find_subject("torchvision:retinanet_resnet50_fpn")()
    assert isinstance(built, TorchvisionDetector)
    assert built.model.detections_per_img == 100
    assert built.model.head.classification_head.num_classes == 81  # type: ignore[union-attr]
