"""The keypoint branch: equal to torchvision's, and trained on whatever a data set holds."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import keypointrcnn_loss

from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.heads.keypoint_rcnn import KeypointRCNNHead
from ziggurat.heads.roi_box import POOLED_SIDE as BOX_SIDE
from ziggurat.heads.roi_box import BoxHead
from ziggurat.heads.roi_keypoint import (
    POOLED_SIDE,
    KeypointHead,
    keypoints_of,
    regions_with_points,
)
from ziggurat.heads.roi_samples import RegionSamples
from ziggurat.heads.rpn import RPN
from ziggurat.keypoints import Keypoints, plain_skeleton
from ziggurat.layers.roi_pooling import RoIPooling
from ziggurat.types import Detections

STRIDES = (4, 8, 16, 32, 64)
SIZE = (64, 96)
CHANNELS, NUM_POINTS = 4, 3


def objects(count: int, side: float, *, labelled: bool = True, seed: int = 0) -> Detections:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([90.0 - side, 60.0 - side])
    share = torch.rand(count, NUM_POINTS, 2, generator=generator)
    visibility = torch.randint(0, 3, (count, NUM_POINTS, 1), generator=generator) * labelled
    points = torch.cat([corner[:, None] + share * side, visibility], dim=2)
    return Detections(
        torch.cat([corner, corner + side], dim=1),
        torch.ones(count),
        torch.zeros(count, dtype=torch.int64),
        keypoints=Keypoints(points, plain_skeleton(NUM_POINTS)),
    )


def samples_of(target: Detections, seed: int) -> RegionSamples:
    """Regions near the objects, as a first stage would propose them, and one on nothing."""
    generator = torch.Generator().manual_seed(seed)
    near = target.boxes + torch.randn(target.boxes.shape, generator=generator) * 3
    boxes = torch.cat([target.boxes, near, torch.tensor([[0.0, 0.0, 9.0, 9.0]])])
    numbers = torch.arange(len(target)).repeat(2)
    labels = torch.cat([target.labels[numbers], torch.ones(1, dtype=torch.int64)])
    return RegionSamples(boxes, numbers, labels, labels > 1, target)


def test_the_branch_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    head = KeypointHead(CHANNELS, NUM_POINTS)
    convs = KeypointRCNNHeads(CHANNELS, (2 * CHANNELS,) * 8)
    predictor = KeypointRCNNPredictor(2 * CHANNELS, NUM_POINTS)
    own = iter(head.state_dict().values())
    for part in (convs, predictor):
        part.load_state_dict({name: next(own) for name in part.state_dict()})
    assert next(own, None) is None  # nothing is left
    regions = torch.randn(5, CHANNELS, 14, 14)
    assert head(regions).shape == (5, NUM_POINTS, 56, 56)
    torch.testing.assert_close(head(regions), predictor(convs(regions)))


def test_fresh_weights_are_spread_as_those_of_torchvision() -> None:
    torch.manual_seed(0)
    head, predictor = KeypointHead(64, 17), KeypointRCNNPredictor(128, 17)
    own, other = head.logits.weight.std(), predictor.kps_score_lowres.weight.std()
    torch.testing.assert_close(own, other, rtol=0.05, atol=0)


def test_the_loss_is_that_of_torchvision() -> None:
    head = KeypointHead(CHANNELS, NUM_POINTS)
    targets = [objects(4, 25.0, seed=seed) for seed in (1, 2)]
    assert targets[0].keypoints is not None
    targets[0].keypoints.points[0, :, 2] = 0
    samples = [samples_of(target, seed) for seed, target in enumerate(targets)]
    chosen = [regions_with_points(sample) for sample in samples]
    logits = [
        torch.randn(sample.num_foreground, NUM_POINTS, 56, 56).requires_grad_()
        for sample in samples
    ]
    shown = torch.cat([one[which] for one, which in zip(logits, chosen, strict=True)])
    loss = head.loss(shown, samples)
    expected = keypointrcnn_loss(
        torch.cat(logits),
        [sample.boxes[: sample.num_foreground] for sample in samples],
        [keypoints_of(sample) for sample in samples],
        [sample.objects for sample in samples],
    )
    torch.testing.assert_close(loss, expected)
    assert not all(bool(which.all()) for which in chosen)  # some regions teach nothing


def test_points_are_needed_to_train_points() -> None:
    target = Detections(torch.ones(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="trained on objects with keypoints, got none"):
        regions_with_points(samples_of(target, 0))


def keypoint_rcnn() -> KeypointRCNNHead:
    torch.manual_seed(0)
    rpn, box_head = RPN(CHANNELS, STRIDES), BoxHead(CHANNELS, 1)
    boxes = FasterRCNNHead(rpn, box_head, RoIPooling(STRIDES[:-1], BOX_SIDE))
    branch = KeypointHead(CHANNELS, NUM_POINTS)
    return KeypointRCNNHead(boxes, branch, RoIPooling(STRIDES[:-1], POOLED_SIDE))


def levels(images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = [(-(-SIZE[0] // s), -(-SIZE[1] // s)) for s in STRIDES]
    return [
        torch.randn(images, CHANNELS, *side, generator=generator).requires_grad_() for side in sides
    ]


@pytest.mark.parametrize(
    ("count", "side", "labelled"),
    [(0, 20.0, True), (3, 20.0, True), (3, 20.0, False), (200, 6.0, True), (4, 1.0, True)],
    ids=["no objects", "some", "nothing labelled", "200 objects", "tiny"],
)
def test_a_step_on_anything(count: int, side: float, labelled: bool) -> None:
    head, maps = keypoint_rcnn(), levels()
    targets = [objects(count, side, labelled=labelled), objects(0, side)]
    losses = head.loss(head(maps), targets, [SIZE] * 2)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    learns = bool(losses["keypoint"].detach() > 0)
    assert learns == (count > 0 and labelled)


def test_points_are_in_pixels_of_the_original_image() -> None:
    head, maps = keypoint_rcnn().eval(), levels(1)
    with torch.inference_mode():
        (found,) = head.decode(head(maps), [SIZE])
        (twice,) = head.decode(head(maps), [SIZE], [(128, 192)])
    assert found.keypoints is not None and twice.keypoints is not None
    assert found.keypoints.points.shape == (len(found), NUM_POINTS, 3)
    assert found.keypoints.skeleton == plain_skeleton(NUM_POINTS)
    assert len(found) > 0
    place, scores = found.keypoints.points[..., :2], found.keypoints.points[..., 2]
    size = (found.boxes[:, 2:] - found.boxes[:, :2]).clamp(min=1)[:, None]
    assert (place >= found.boxes[:, None, :2]).all()
    assert (place <= found.boxes[:, None, :2] + size).all()
    assert ((scores > 0) & (scores <= 1)).all()
    torch.testing.assert_close(twice.keypoints.points[..., :2], 2 * place, rtol=1e-4, atol=1e-3)
