"""DETR and Sparse R-CNN give what the official systems give: maps, detections, losses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ziggurat
from ziggurat.heads.detr import DETROutput
from ziggurat.heads.sparse_rcnn import SparseRCNNOutput
from ziggurat.layers.sine_position import sine_position
from ziggurat.models.detector import Detector
from ziggurat.types import Detections

TOLERANCE = 1e-4
QUERY_TOLERANCE = 1e-3
"""The official DETR itself moves by 1.1e-4 under input noise of 1e-6; ten times that."""

IMAGE, ORIGINAL = (310, 440), (248, 352)


def load(case: Any, system: str, backbone: str, folder: Path) -> Detector:
    detector = ziggurat.create_model(system, backbone=backbone, drop_path_rate=0.0).eval()
    assert isinstance(detector, Detector)
    report = ziggurat.load_official(detector, case.file(folder))
    assert len(report.matched) == len(case.facts["entries"])
    return detector


def truth(case: Any) -> Detections:
    facts = case.facts["train"]
    boxes = torch.tensor(facts["gt_bboxes"])
    return Detections(boxes, torch.ones(len(boxes)), torch.tensor(facts["gt_labels"]))


def gradient_norm(module: torch.nn.Module) -> float:
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return float(torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt())


def assert_same_set(found: Detections, case: Any) -> None:
    """Equal as sets; the official order is not always by score."""
    values = case.values
    boxes = torch.from_numpy(values["final_boxes_rescaled"].reshape(-1, 4))
    scores, labels = (torch.from_numpy(values[f"final_{k}"]) for k in ("scores", "labels"))
    assert (found.scores.diff() <= 0).all()
    torch.testing.assert_close(
        found.scores, scores.sort(descending=True).values, atol=1e-5, rtol=1e-3
    )
    free = torch.ones(len(scores), dtype=torch.bool)
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        near = free & ((scores - score).abs() < 1e-4) & (labels == label)
        near &= (boxes - box).abs().amax(dim=1) < 0.1
        assert near.any(), f"no official detection at {box.tolist()}, label {label}, {score}"
        free[near.nonzero()[0]] = False


@pytest.fixture(scope="module")
def detr_case(golden: Callable[[str], Any]) -> Any:
    return golden("dense/det_detr_pvt_small")


@pytest.fixture(scope="module")
def detr(detr_case: Any, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return load(detr_case, "detr", "pvt_small", tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def sparse_rcnn_case(golden: Callable[[str], Any]) -> Any:
    return golden("dense/det_sparsercnn_pvt_v2_b2")


@pytest.fixture(scope="module")
def sparse_rcnn(sparse_rcnn_case: Any, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return load(sparse_rcnn_case, "sparse_rcnn", "pvt_v2_b2", tmp_path_factory.mktemp("official"))


class TestDETR:
    def test_raw_output_and_detections(self, detr_case: Any, detr: Detector) -> None:
        with torch.inference_mode():
            raw = detr(detr_case.images(), [IMAGE])
        assert isinstance(raw, DETROutput)
        assert detr_case.error("cls_scores_all_layers", raw.cls_logits) < QUERY_TOLERANCE
        assert detr_case.error("bbox_preds_all_layers_cxcywh_sigmoid", raw.boxes_cxcywh) < TOLERANCE
        assert_same_set(detr.decode(raw, [IMAGE], [ORIGINAL])[0], detr_case)

    def test_losses_and_gradients(self, detr_case: Any, detr: Detector) -> None:
        facts = detr_case.facts["train"]
        losses = detr.loss(detr(detr_case.images(), [IMAGE]), [truth(detr_case)], [IMAGE])
        assert len(losses) == len(facts["losses"])
        names = {"cls": "classification", "bbox": "box", "iou": "iou"}
        for official, value in facts["losses"].items():
            layer, _, kind = official.rpartition("loss_")
            ours = names[kind] if not layer else f"layer{layer[1:-1]}_{names[kind]}"
            assert losses[ours].item() == pytest.approx(value, rel=QUERY_TOLERANCE), official
        torch.stack(list(losses.values())).sum().backward()
        norms = facts["grad_l2_norm_by_module"]
        for module, name in ((detr.backbone, "backbone"), (detr.head, "bbox_head")):
            assert gradient_norm(module) == pytest.approx(norms[name], rel=QUERY_TOLERANCE)


class TestSparseRCNN:
    def test_raw_output_and_detections(self, sparse_rcnn_case: Any, sparse_rcnn: Detector) -> None:
        with torch.inference_mode():
            raw = sparse_rcnn(sparse_rcnn_case.images(), [IMAGE])
        assert isinstance(raw, SparseRCNNOutput)
        for stage in range(6):
            assert (
                sparse_rcnn_case.error(f"stage{stage}_cls_score", raw.cls_logits[stage]) < TOLERANCE
            )
            assert (
                sparse_rcnn_case.error(f"stage{stage}_boxes_xyxy", raw.boxes[stage, 0]) < TOLERANCE
            )
        assert_same_set(sparse_rcnn.decode(raw, [IMAGE], [ORIGINAL])[0], sparse_rcnn_case)

    def test_losses_and_gradients(self, sparse_rcnn_case: Any, sparse_rcnn: Detector) -> None:
        facts = sparse_rcnn_case.facts["train"]
        losses = sparse_rcnn.loss(
            sparse_rcnn(sparse_rcnn_case.images(), [IMAGE]), [truth(sparse_rcnn_case)], [IMAGE]
        )
        for stage in range(6):
            for official, ours in (("cls", "classification"), ("bbox", "box"), ("iou", "iou")):
                value = facts["losses"][f"stage{stage}_loss_{official}"]
                found = losses[f"stage{stage}_{ours}"].item()
                assert found == pytest.approx(value, rel=TOLERANCE), (stage, ours)
        torch.stack(list(losses.values())).sum().backward()
        norms = facts["grad_l2_norm_by_module"]
        for part in ("backbone", "neck"):
            norm = gradient_norm(getattr(sparse_rcnn, part))
            assert norm == pytest.approx(norms[part], rel=QUERY_TOLERANCE)
        assert isinstance(sparse_rcnn.head, torch.nn.Module)
        for prefix, name in (("proposal", "rpn_head"), ("stages", "roi_head")):
            gradients = [
                p.grad
                for key, p in sparse_rcnn.head.named_parameters()
                if key.startswith(prefix) and p.grad is not None
            ]
            norm = float(torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt())
            assert norm == pytest.approx(norms[name], rel=QUERY_TOLERANCE)


def test_sine_position(golden: Callable[[str], Any]) -> None:
    unit = golden("dense/unit_sine_positional_encoding")
    valid = torch.zeros(1, 10, 14, dtype=torch.bool)
    valid[:, :8, :11] = True
    assert unit.error("pos", sine_position(valid, 256)) < 1e-5
