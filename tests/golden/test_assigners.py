"""Which anchor or query gets which object, and single losses, as the official code has them.

Whole systems meet few of the rules: most of their anchors are background by any of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

from ziggurat.heads import atss, detr, gfl, sparse_rcnn
from ziggurat.losses.background_focal import background_focal_loss
from ziggurat.losses.focal import sigmoid_focal_loss, sparse_focal_loss
from ziggurat.losses.quality_focal import distribution_focal_loss, quality_focal_loss
from ziggurat.ops.atss_matching import match_by_statistics
from ziggurat.ops.boxes import paired_iou
from ziggurat.ops.matching import BACKGROUND, IGNORED, match_by_iou
from ziggurat.ops.set_matching import match_one_to_one

TOLERANCE = 1e-5
STRIDES = (8, 16, 32, 64, 128)
SIZES = ((16, 20), (8, 10), (4, 5), (2, 3), (1, 2))
NUM_CLASSES = 80


def corners(unit: Any) -> Tensor:
    centers, half = unit.unit_input("ctr"), unit.unit_input("logsize").exp() / 2
    return torch.cat([centers - half, centers + half], dim=1)


def matches(unit: Any, name: str) -> Tensor:
    """The official object of each anchor; there -1 is ignored, 0 background, k object k - 1."""
    official = torch.from_numpy(unit.values[name]).long()
    background = torch.where(official == 0, BACKGROUND, IGNORED)
    return torch.where(official > 0, official - 1, background)


@pytest.fixture
def assigners(golden: Callable[[str], Any]) -> Any:
    return golden("dense/unit_assigners")


@pytest.mark.parametrize("name", ["retinanet", "rpn", "maskrcnn", "cascade_0", "cascade_2"])
def test_matches_by_iou(assigners: Any, name: str) -> None:
    rule = assigners.facts["assigner_cfgs"][name]
    found = match_by_iou(
        corners(assigners),
        torch.tensor(assigners.facts["gt_bboxes"]),
        foreground_iou=rule["pos_iou_thr"],
        background_iou=rule["neg_iou_thr"],
        least_forced_iou=rule["min_pos_iou"] if rule.get("match_low_quality", True) else None,
    )
    np.testing.assert_array_equal(found, matches(assigners, f"gt_inds_{name}"))


def test_matches_by_statistics(assigners: Any) -> None:
    levels = [atss.ANCHORS.level(size, s) for size, s in zip(SIZES, STRIDES, strict=True)]
    counted = [torch.ones(len(level), dtype=torch.bool) for level in levels]
    found = match_by_statistics(levels, counted, torch.tensor(assigners.facts["gt_bboxes"]))
    np.testing.assert_array_equal(found, matches(assigners, "gt_inds_atss"))


class TestQueries:
    """What a query and an object cost, and the cheapest pairs."""

    @staticmethod
    def costs(unit: Any) -> dict[str, Tensor]:
        height, width = unit.facts["img_meta"]["img_shape"][:2]
        true = torch.tensor(unit.facts["gt_bboxes"]) / torch.tensor([width, height] * 2)
        labels = torch.tensor(unit.facts["gt_labels"])
        boxes = unit.unit_input("box_logits").sigmoid()[None]
        return {
            "detr": detr._cost(
                unit.unit_input("logits81")[None],
                boxes,
                box_convert(true, "xyxy", "cxcywh"),
                labels,
            ),
            "sparse_rcnn": sparse_rcnn._cost(
                unit.unit_input("logits80")[None],
                box_convert(boxes, "cxcywh", "xyxy"),
                true,
                labels,
            ),
        }

    @pytest.mark.parametrize(
        ("name", "terms"),
        [
            ("detr", ("cost_softmax_w1", "cost_l1_xywh_w5_detr", "cost_giou_w2")),
            ("sparse_rcnn", ("cost_focal_w2", "cost_l1_xyxy_w5_sparse_rcnn", "cost_giou_w2")),
        ],
    )
    def test_costs(self, assigners: Any, name: str, terms: tuple[str, ...]) -> None:
        official = sum(assigners.values[term] for term in terms)
        ours = self.costs(assigners)[name].flatten()
        np.testing.assert_allclose(ours, official, rtol=0, atol=TOLERANCE)

    @pytest.mark.parametrize("name", ["detr", "sparse_rcnn"])
    def test_pairs(self, assigners: Any, name: str) -> None:
        queries, objects = match_one_to_one(self.costs(assigners)[name])
        official = matches(assigners, f"hungarian_gt_inds_{name}")
        found = torch.full_like(official, BACKGROUND)
        found[queries[0]] = objects[0]
        np.testing.assert_array_equal(found, official)


class TestLosses:
    """Single losses with their gradients, on logits that no system has at its start."""

    @pytest.fixture
    def losses(self, golden: Callable[[str], Any]) -> Any:
        return golden("dense/unit_losses")

    @staticmethod
    def labels() -> Tensor:
        labels = np.random.RandomState(1101).randint(0, NUM_CLASSES + 1, 60)
        labels[::5] = NUM_CLASSES  # background
        return torch.from_numpy(labels)

    @staticmethod
    def pairs(unit: Any) -> tuple[Tensor, Tensor]:
        boxes = corners(unit)
        far = boxes + unit.unit_input("jit")
        near = torch.minimum(far[:, :2], far[:, 2:] - 1)
        return boxes, torch.cat([near, far[:, 2:]], dim=1)

    def test_focal(self, losses: Any) -> None:
        labels = self.labels()
        foreground = (labels < NUM_CLASSES).nonzero().flatten()
        goals = F.one_hot(labels, NUM_CLASSES + 1)[:, :-1].float()
        counted = torch.ones(60, dtype=torch.bool)
        for is_sparse in (True, False):
            logits = losses.unit_input("logits").requires_grad_()
            if is_sparse:  # as dense heads compute it
                loss = 0.75 * background_focal_loss(logits, counted, gamma=2.0)
                own = logits[foreground, labels[foreground]]
                loss = (loss + sparse_focal_loss(own, alpha=0.25, gamma=2.0)) / 7
            else:
                loss = sigmoid_focal_loss(logits, goals, alpha=0.25, gamma=2.0) / 7
            loss.backward()
            assert loss.item() == pytest.approx(losses.facts["values"]["focal_avg7"], rel=TOLERANCE)
            assert logits.grad is not None
            assert losses.error("grad_focal", logits.grad) < TOLERANCE

    def test_quality_focal(self, losses: Any) -> None:
        labels = self.labels()
        foreground = (labels < NUM_CLASSES).nonzero().flatten()
        qualities = losses.unit_input("quality_logit").sigmoid()[foreground]
        logits = losses.unit_input("logits").requires_grad_()
        own = logits[foreground, labels[foreground]]
        loss = background_focal_loss(logits, torch.ones(60, dtype=torch.bool), gamma=2.0)
        loss = loss - quality_focal_loss(own, torch.zeros_like(own), beta=2.0)
        loss = (loss + quality_focal_loss(own, qualities, beta=2.0)) / 7
        loss.backward()
        assert loss.item() == pytest.approx(losses.facts["values"]["qfl_avg7"], rel=TOLERANCE)
        assert logits.grad is not None
        assert losses.error("grad_qfl", logits.grad) < TOLERANCE

    def test_distribution_focal(self, losses: Any) -> None:
        logits = losses.unit_input("dist_logits").requires_grad_()
        distances = losses.unit_input("dist_target_logit").sigmoid() * 15.9
        # Every edge has the weight 0.5, the sum is divided by 4.
        loss = gfl.DISTRIBUTION_WEIGHT * 0.5 * distribution_focal_loss(logits, distances).sum() / 4
        loss.backward()
        assert loss.item() == pytest.approx(losses.facts["values"]["dfl_w0.5_avg4"], rel=TOLERANCE)
        assert logits.grad is not None
        assert losses.error("grad_dfl", logits.grad) < TOLERANCE

    def test_overlaps(self, losses: Any) -> None:
        found, true = self.pairs(losses)
        found.requires_grad_()
        weights = losses.unit_input("w_logit").sigmoid()
        loss = 10 * (generalized_box_iou_loss(found, true) * weights).sum() / 3
        loss.backward()
        assert loss.item() == pytest.approx(losses.facts["values"]["giou_lw10_avg3"], rel=TOLERANCE)
        assert found.grad is not None
        assert losses.error("grad_giou_lw10", found.grad) < TOLERANCE
        first, others = found.detach()[:10], true[:10]
        iou = paired_iou(first[:, None], others[None])
        assert losses.error("pairwise_iou", iou) < TOLERANCE
        assert losses.error("pairwise_giou", generalized_box_iou(first, others)) < TOLERANCE

    def test_distances_of_edges(self, losses: Any) -> None:
        """Cut below 0 and above what a distribution can say."""
        samples = losses.facts["distance_samples"]
        points = torch.tensor(samples["points"])
        found = gfl._distances(points, torch.tensor(samples["boxes"]))
        assert losses.error("bbox2distance_max16", found) < 1e-6
        boxes = gfl._boxes(points, torch.tensor(samples["distances"]))
        assert losses.error("distance2bbox_noclip", boxes) < 1e-6
