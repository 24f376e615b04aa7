"""RetinaNet with P2T-Small gives what the official system gives: maps, detections, losses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ziggurat
from ziggurat.heads.dense import Selection
from ziggurat.heads.retinanet import ANCHORS, RetinaNetHead, RetinaNetOutput
from ziggurat.models.detector import Detector
from ziggurat.ops.boxes import decode_deltas, encode_deltas
from ziggurat.ops.matching import match_by_iou
from ziggurat.ops.nms import suppress
from ziggurat.types import Detections

TOLERANCE = 1e-4
IMAGE, ORIGINAL = (310, 440), (248, 352)
STRIDES = (8, 16, 32, 64, 128)
NO_BOXES = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


@pytest.fixture(scope="module")
def case(golden: Callable[[str], Any]) -> Any:
    return golden("dense/det_retinanet_p2t_small")


@pytest.fixture(scope="module")
def model(case: Any, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    detector = ziggurat.create_model("retinanet_p2t_small", drop_path_rate=0.0).eval()
    assert isinstance(detector, Detector)
    report = ziggurat.load_official(detector, case.file(tmp_path_factory.mktemp("official")))
    assert len(report.matched) == len(case.facts["entries"])
    return detector


def truth(case: Any) -> Detections:
    facts = case.facts.get("train", case.facts)
    boxes = torch.tensor(facts["gt_bboxes"])
    return Detections(boxes, torch.ones(len(boxes)), torch.tensor(facts["gt_labels"]))


def assert_same_detections(found: Detections, boxes: Any, scores: Any, labels: Any) -> None:
    """Equal in order of score; detections whose scores tie may stand in any order."""
    scores = torch.from_numpy(scores)
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
    expected = torch.from_numpy(boxes.reshape(-1, 4))
    labels = torch.from_numpy(labels)
    free = torch.ones(len(scores), dtype=torch.bool)
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        near = free & ((scores - score).abs() < 1e-5) & (labels == label)
        near &= (expected - box).abs().amax(dim=1) < 2e-2
        assert near.any(), f"no official detection at {box.tolist()}, label {label}, {score}"
        free[near.nonzero()[0]] = False


def test_raw_output(case: Any, model: Detector) -> None:
    with torch.inference_mode():
        maps = model.backbone(case.images())
        levels = model.neck(maps)
        raw = model(case.images(), [IMAGE])
    for i, features in enumerate(maps):
        assert case.error(f"backbone_{i}", features) < TOLERANCE
    for i, level in enumerate(levels):
        assert case.error(f"fpn_{i}", level) < TOLERANCE
        assert case.error(f"cls_score_{i}", raw.cls_logits[i]) < TOLERANCE
        assert case.error(f"bbox_pred_{i}", raw.box_deltas[i]) < TOLERANCE


def test_detections(case: Any, model: Detector) -> None:
    with torch.inference_mode():
        raw = model(case.images(), [IMAGE])
    values = case.values
    assert_same_detections(
        model.decode(raw, [IMAGE], [ORIGINAL])[0],
        values["final_boxes_rescaled"],
        values["final_scores"],
        values["final_labels"],
    )


def test_losses_and_gradients(case: Any, model: Detector) -> None:
    facts = case.facts["train"]
    model.zero_grad()
    losses = model.loss(model(case.images(), [IMAGE]), [truth(case)], [IMAGE])
    assert losses["classification"].item() == pytest.approx(
        sum(facts["losses"]["loss_cls"]), rel=TOLERANCE
    )
    assert losses["box"].item() == pytest.approx(sum(facts["losses"]["loss_bbox"]), rel=TOLERANCE)
    torch.stack(list(losses.values())).sum().backward()
    norms = facts["grad_l2_norm_by_module"]
    for part, name in (("backbone", "backbone"), ("neck", "neck"), ("head", "bbox_head")):
        gradients = [p.grad for p in getattr(model, part).parameters() if p.grad is not None]
        norm = torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt()
        assert norm.item() == pytest.approx(norms[name], rel=TOLERANCE)


def test_matches(case: Any) -> None:
    sizes = case.facts["featmap_sizes"]
    anchors = torch.cat(
        [ANCHORS.level(tuple(size), s) for size, s in zip(sizes, STRIDES, strict=True)]
    )
    matches = match_by_iou(anchors, truth(case).boxes, foreground_iou=0.5, background_iou=0.4)
    foreground = (matches >= 0).nonzero().flatten()
    np.testing.assert_array_equal(foreground, case.values["assign_pos_anchor_index"])
    # The official code counts objects from 0 here.
    np.testing.assert_array_equal(matches[foreground], case.values["assign_pos_gt_index"])
    counts = case.facts["train"]["assign_counts"]
    assert (matches == -1).sum() == counts["neg"]
    assert (matches == -2).sum() == counts["ignore"]


def test_matches_in_turns_are_the_same(golden: Callable[[str], Any]) -> None:
    unit = golden("dense/unit_assigners")
    centers, half = unit.unit_input("ctr"), unit.unit_input("logsize").exp() / 2
    anchors = torch.cat([centers - half, centers + half], dim=1)
    boxes = torch.tensor(unit.facts["gt_bboxes"])
    official = torch.from_numpy(unit.values["gt_inds_retinanet"]).long()
    expected = torch.where(official > 0, official - 1, torch.where(official == 0, -1, -2))
    for max_pairs in (20_000_000, 400):  # all objects at once, one at a time
        matches = match_by_iou(
            anchors, boxes, foreground_iou=0.5, background_iou=0.4, max_pairs=max_pairs
        )
        np.testing.assert_array_equal(matches, expected)


def test_box_coder(case: Any) -> None:
    inputs = case.facts["coder_inputs"]
    anchors, boxes = torch.tensor(inputs["anchors"]), torch.tensor(inputs["gt"])
    deltas = torch.tensor(inputs["deltas"])
    assert case.error("coder_head_encode", encode_deltas(anchors, boxes)) < 1e-6
    decoded = decode_deltas(anchors, deltas, IMAGE)
    assert case.error("coder_head_decode_clip_310x440", decoded) < 1e-6


def test_anchors(golden: Callable[[str], Any]) -> None:
    unit = golden("dense/unit_anchor_generators")
    for level, stride in enumerate(STRIDES):
        assert unit.error(f"retinanet_base_anchors_{level}", ANCHORS.cell(stride)) < 1e-6
        grid = ANCHORS.level((3, 4), stride)
        assert unit.error(f"retinanet_grid_3x4_level{level}", grid) < 1e-6


def test_suppression(golden: Callable[[str], Any]) -> None:
    unit = golden("dense/unit_batched_nms")
    centers, half = unit.unit_input("ctr"), unit.unit_input("logsize").exp() / 2
    scores = unit.unit_input("logit").sigmoid()
    labels = torch.from_numpy(np.random.RandomState(903).randint(0, 5, 600))
    boxes = torch.cat([centers - half, centers + half], dim=1)
    for iou in (0.5, 0.6, 0.7):
        kept = suppress(boxes, scores, labels, iou=iou, max_detections=600)
        ours = torch.cat([kept.boxes, kept.scores[:, None]], dim=1)
        assert unit.error(f"dets_thr{iou}", ours) < 1e-6


class TestHeadAlone:
    """Random maps through the official decoding and loss, which shows what whole models hide."""

    @pytest.fixture
    def unit(self, golden: Callable[[str], Any]) -> Any:
        return golden("dense/unit_retinanet_decode_loss_mmdet213")

    @staticmethod
    def raw(unit: Any, shift: float = 0.0) -> RetinaNetOutput:
        levels = range(len(STRIDES))
        return RetinaNetOutput(
            [unit.unit_input(f"cls_score_{i}") + shift for i in levels],
            [unit.unit_input(f"bbox_pred_{i}") for i in levels],
        )

    @pytest.mark.parametrize(
        ("name", "shift", "original", "settings"),
        [
            ("det_rescaled", 0.0, (96, 124), {}),
            ("det", 0.0, None, {}),
            (
                "det_nmspre300_max1500",
                0.0,
                None,
                {"candidates_per_level": 300, "max_detections": 1500},
            ),
            ("det_allkept", -0.5, None, {"max_detections": 5000}),
        ],
    )
    def test_detections(
        self,
        unit: Any,
        name: str,
        shift: float,
        original: tuple[int, int] | None,
        settings: dict[str, Any],
    ) -> None:
        head = RetinaNetHead(16, STRIDES, 80, depth=0, selection=Selection(**settings))
        found = head.decode(
            self.raw(unit, shift), [(120, 155)], None if original is None else [original]
        )[0]
        values = unit.values
        assert_same_detections(
            found, values[f"{name}_boxes"], values[f"{name}_scores"], values[f"{name}_labels"]
        )

    def test_losses_and_gradients(self, unit: Any) -> None:
        raw = self.raw(unit)
        for level in (*raw.cls_logits, *raw.box_deltas):
            level.requires_grad_()
        head = RetinaNetHead(16, STRIDES, 80, depth=0)
        losses = head.loss(raw, [truth(unit)], [(128, 160)])
        assert losses["classification"].item() == pytest.approx(
            sum(unit.facts["losses"]["loss_cls"]), rel=1e-5
        )
        assert losses["box"].item() == pytest.approx(
            sum(unit.facts["losses"]["loss_bbox"]), rel=1e-5
        )
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name for name in unit.values if name.startswith("grad_")}
        assert len(gradients) == 6
        for name in gradients:
            maps = raw.cls_logits if "cls_score" in name else raw.box_deltas
            gradient = maps[int(name[-1])].grad
            assert isinstance(gradient, Tensor)
            if unit.values[name].any():
                assert unit.error(name, gradient) < 1e-5
            else:  # a level without objects
                assert not gradient.any()

    def test_losses_without_objects(self, unit: Any) -> None:
        head = RetinaNetHead(16, STRIDES, 80, depth=0)
        losses = head.loss(self.raw(unit), [NO_BOXES], [(128, 160)])
        assert losses["classification"].item() == pytest.approx(
            sum(unit.facts["losses_without_any_gt"]["loss_cls"]), rel=1e-5
        )
        assert losses["box"].item() == 0
