"""Mask R-CNN and Cascade Mask R-CNN give what the official systems give, from maps to losses."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ziggurat
from ziggurat.heads.cascade_mask_rcnn import CascadeMaskRCNNHead
from ziggurat.heads.faster_rcnn import TwoStageOutput
from ziggurat.heads.mask_rcnn import MaskRCNNHead
from ziggurat.heads.roi_box import BoxHead, BoxOutput
from ziggurat.heads.roi_mask import mask_targets
from ziggurat.heads.roi_samples import RegionSampler, RegionSamples
from ziggurat.heads.rpn import ANCHORS, RPN, RPNOutput, RPNSettings
from ziggurat.layers.roi_pooling import RoIPooling, level_of_region
from ziggurat.models.detector import Detector
from ziggurat.ops.boxes import decode_deltas
from ziggurat.ops.region_masks import masks_in_regions, paste_masks
from ziggurat.types import Detections, ObjectMasks

TOLERANCE = 1e-4
IMAGE, ORIGINAL = (310, 440), (248, 352)
SCORE_TOLERANCE = 2e-4
"""Noise of 1e-6 in the input changes scores of the official code by up to 8e-5 of their mean."""
BOX_TOLERANCE = 2e-2  # pixels
ALL = 10**7
"""So many samples that none is left out, as in the official runs."""
CASES = {
    "det_maskrcnn_pvt_small": ("mask_rcnn", "pvt_small"),
    "det_maskrcnn_p2t_small": ("mask_rcnn", "p2t_small"),
    "det_maskrcnn_gpvit_l1": ("mask_rcnn", "gpvit_l1_adapter"),
    "det_cascade_maskrcnn_pvt_v2_b2": ("cascade_mask_rcnn", "pvt_v2_b2"),
}


class System:
    """A golden case and our model with its weights."""

    def __init__(self, case: Any, system: str, backbone: str, folder: Any) -> None:
        self.case = case
        model = ziggurat.create_model(system, backbone=backbone, drop_path_rate=0.0).eval()
        assert isinstance(model, Detector)
        report = ziggurat.load_official(model, case.file(folder))
        assert len(report.matched) == len(case.facts["entries"])
        self.model = model
        head = model.head
        assert isinstance(head, MaskRCNNHead | CascadeMaskRCNNHead)
        self.head = head
        self.rpn = head.rpn if isinstance(head, CascadeMaskRCNNHead) else head.boxes.rpn
        with torch.inference_mode():
            self.raw: TwoStageOutput = model(case.images(), [IMAGE])


def unstable_best(scores: Tensor, count: int) -> Tensor:
    """The order of the official code, which leaves that of equal scores to the sorting."""
    if len(scores) > count:
        return scores.sort(descending=True).indices[:count]
    return torch.arange(len(scores))


@pytest.fixture
def official_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many scores of untrained weights are equal, and their order decides what is suppressed."""
    monkeypatch.setattr("ziggurat.heads.rpn.best_indices", unstable_best)


QUICK = ("det_maskrcnn_pvt_small", "det_maskrcnn_gpvit_l1")
"""Whose detections take a few seconds; they are of the two editions of the official rules."""


@pytest.fixture(scope="module", params=CASES)
def system(
    request: pytest.FixtureRequest,
    golden: Callable[[str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> System:
    folder = tmp_path_factory.mktemp("official")
    return System(golden(f"dense/{request.param}"), *CASES[request.param], folder)


def ellipse(box: Sequence[float], size: tuple[int, int]) -> Tensor:
    x0, y0, x1, y1 = box
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    across = (x - (x0 + x1) / 2) / ((x1 - x0) / 2)
    down = (y - (y0 + y1) / 2) / ((y1 - y0) / 2)
    return across**2 + down**2 <= 1


def truth(case: Any) -> Detections:
    boxes = case.facts["train"]["gt_bboxes"]
    masks = torch.stack([ellipse(box, (320, 448)) for box in boxes])
    labels = torch.tensor(case.facts["train"]["gt_labels"])
    return Detections(
        torch.tensor(boxes), torch.ones(len(boxes)), labels, ObjectMasks.from_full(masks)
    )


@pytest.mark.usefixtures("official_order")
def test_levels_and_proposals(system: System) -> None:
    case, raw = system.case, system.raw
    for i, level in enumerate(raw.levels):
        assert case.error(f"fpn_{i}", level) < TOLERANCE
        assert case.error(f"rpn_cls_{i}", raw.rpn.objectness[i]) < TOLERANCE
        assert case.error(f"rpn_reg_{i}", raw.rpn.box_deltas[i]) < TOLERANCE
    proposals = system.rpn.propose(raw.rpn, [IMAGE], is_training=False)[0]
    assert len(proposals) == case.facts["final_stability"]["n_proposals"]
    official = torch.from_numpy(case.values["rpn_proposals_top100"].reshape(-1, 5))
    torch.testing.assert_close(proposals[:100, 4], official[:, 4], atol=1e-5, rtol=0)
    # Proposals whose scores tie may stand in any order.
    for row in official:
        ties = proposals[(proposals[:, 4] - row[4]).abs() < 1e-5, :4]
        assert (ties - row[:4]).abs().amax(dim=1).min() < BOX_TOLERANCE


def test_regions(system: System) -> None:
    case, raw, head = system.case, system.raw, system.head
    rois = [torch.tensor(case.facts["fixed_rois_xyxy"]).float()]
    with torch.inference_mode():
        if isinstance(head, MaskRCNNHead):
            regions = head.boxes.pooling(raw.levels, rois)
            assert case.error("roi_feats_7x7", regions) < TOLERANCE
            found = head.boxes.box_head(regions)
            assert case.error("cls_score", found.logits) < TOLERANCE
            assert case.error("bbox_pred", found.deltas) < TOLERANCE
            pooled = head.pooling(raw.levels, rois)
            assert case.error("mask_roi_feats_14x14", pooled) < TOLERANCE
            assert case.error("mask_logits", head.mask_head(pooled)) < TOLERANCE
            last = head.boxes.box_head
        else:
            last_head = head.box_heads[-1]
            assert isinstance(last_head, BoxHead)
            last = last_head
            rois, found = head.cascade(raw, rois, [IMAGE])
            assert case.error("stage2_rois", _numbered(rois[0])) < TOLERANCE
            assert case.error("stage2_bbox_pred", found.deltas) < TOLERANCE
            first = torch.tensor(case.facts["fixed_rois_xyxy"]).float()
            pooled = head.mask_pooling(raw.levels, [first])
            for i, mask_head in enumerate(head.mask_heads):
                assert case.error(f"stage{i}_mask_logits", mask_head(pooled)) < TOLERANCE
    assert case.error("fixedroi_scores", found.logits.softmax(dim=1)) < TOLERANCE
    each = found.deltas.view(len(rois[0]), 80, 4)
    boxes = [decode_deltas(rois[0], each[:, k], IMAGE, last.stds) for k in range(80)]
    assert case.error("fixedroi_boxes_all_classes", torch.cat(boxes, dim=1)) < TOLERANCE


def _numbered(rois: Tensor) -> Tensor:
    return torch.cat([torch.zeros(len(rois), 1), rois], dim=1)


@pytest.mark.parametrize(
    "system",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CASES],
    indirect=True,
)
@pytest.mark.usefixtures("official_order")
def test_detections_and_masks(system: System) -> None:
    case = system.case
    with torch.inference_mode():
        found = system.model.decode(system.raw, [IMAGE], [ORIGINAL])[0]
    scores = torch.from_numpy(case.values["final_scores"])
    torch.testing.assert_close(found.scores, scores, atol=SCORE_TOLERANCE, rtol=0)
    assert found.masks is not None
    assert found.masks.size == ORIGINAL
    areas = [int(crop.sum()) for crop in found.masks.crops()]
    official = torch.from_numpy(case.values["final_boxes_rescaled"].reshape(-1, 4))
    labels = case.values["final_labels"]
    official_areas = case.values["final_mask_area_pixels_in_ori_image"]
    free = set(range(len(scores)))
    for i, (box, label) in enumerate(zip(found.boxes, found.labels.tolist(), strict=True)):
        near = [
            k
            for k in free
            if abs(float(scores[k] - found.scores[i])) < SCORE_TOLERANCE
            and labels[k] == label
            and float((official[k] - box).abs().max()) < BOX_TOLERANCE
        ]
        assert near, f"no official detection at {box.tolist()}, label {label}"
        # A box that is 0.02 pixels off moves its outline over as many pixels per unit of length,
        # and a pixel at a probability of one half may fall on either side.
        across, down = (box[2:] - box[:2]).tolist()
        assert abs(areas[i] - official_areas[near[0]]) <= 2 + BOX_TOLERANCE * 2 * (across + down)
        free.remove(near[0])


def test_losses_and_gradients(system: System) -> None:
    case, model, head = system.case, system.model, system.head
    facts = case.facts["train"]
    system.rpn.num_samples = ALL
    for module in model.modules():  # batch norms on the statistics of the batch
        module.training = isinstance(module, nn.BatchNorm2d)
    target, proposals = truth(case), torch.tensor(facts["fixed_proposals_xyxy"]).float()
    model.zero_grad()
    raw: TwoStageOutput = model(case.images(), [IMAGE])
    losses = system.rpn.loss(raw.rpn, [target], [IMAGE])
    if isinstance(head, MaskRCNNHead):
        head.boxes.sampler = RegionSampler(num_samples=4 * ALL)
        losses |= head.region_losses(raw, [proposals], [target])
        names = {"classification": "loss_cls", "box": "loss_bbox", "mask": "loss_mask"}
    else:
        head.samplers = [RegionSampler(s.iou, s.is_forced, 4 * ALL) for s in head.samplers]
        losses |= head.region_losses(raw, [proposals], [target], [IMAGE])
        names = {
            f"{ours}_{i}": f"s{i}.{theirs}"
            for i in range(3)
            for ours, theirs in (
                ("classification", "loss_cls"),
                ("box", "loss_bbox"),
                ("mask", "loss_mask"),
            )
        }
    names |= {"rpn_objectness": "loss_rpn_cls", "rpn_box": "loss_rpn_bbox"}
    assert set(names) == set(losses)
    for ours, theirs in names.items():
        official = np.sum(facts["losses"][theirs])
        assert losses[ours].item() == pytest.approx(official, rel=TOLERANCE), ours
    torch.stack(list(losses.values())).sum().backward()
    model.eval()
    norms = facts["grad_l2_norm_by_module"]
    parts: dict[str, list[nn.Module]] = {
        "backbone": [model.backbone],
        "neck": [model.neck],
        "rpn_head": [system.rpn],
        "roi_head": [head],
    }
    in_rpn = {id(parameter) for parameter in system.rpn.parameters()}
    for name, modules in parts.items():
        gradients = [
            p.grad.double().square().sum()
            for module in modules
            for p in module.parameters()
            if p.grad is not None and (name != "roi_head" or id(p) not in in_rpn)
        ]
        norm = torch.stack(gradients).sum().sqrt().item()
        assert norm == pytest.approx(norms[name], rel=5e-4), name


def test_matches(system: System) -> None:
    case, rpn = system.case, system.rpn
    anchors = torch.cat(
        [
            ANCHORS.level((level.shape[2], level.shape[3]), stride)
            for level, stride in zip(system.raw.rpn.objectness, rpn.strides, strict=True)
        ]
    )
    matches = rpn.match(system.raw.rpn, anchors, truth(case), IMAGE)
    foreground = (matches >= 0).nonzero().flatten()
    np.testing.assert_array_equal(foreground, case.values["rpn_assign_pos_anchor_index"])
    np.testing.assert_array_equal(matches[foreground], case.values["rpn_assign_pos_gt_index"])
    counts = case.facts["train"]["rpn_assign_counts"]
    assert (matches == -1).sum() == counts["neg"]
    proposals = [torch.tensor(case.facts["train"]["fixed_proposals_xyxy"]).float()]
    head = system.head
    samplers = head.samplers if isinstance(head, CascadeMaskRCNNHead) else [head.boxes.sampler]
    per_stage = case.facts["train"]["rcnn_assign_gt_inds_per_stage_on_fixed_proposals"]
    for sampler, official in zip(samplers, per_stage, strict=True):
        whole = RegionSampler(sampler.iou, sampler.is_forced, 4 * ALL)
        sample = whole.draw(proposals, [truth(case)], 80)[0]
        # In front stand the two true boxes.
        assert sample.objects[2:].tolist() == [i - 1 for i in official if i > 0]
        assert len(sample.boxes) == len(official) + 2


def test_mask_targets(system: System) -> None:
    case = system.case
    proposals = torch.tensor(case.facts["train"]["fixed_proposals_xyxy"]).float()
    official = case.facts["train"]["rcnn_assign_gt_inds_per_stage_on_fixed_proposals"][0]
    chosen = torch.tensor([i for i, number in enumerate(official) if number > 0])
    objects = torch.tensor(official)[chosen] - 1
    target = truth(case)
    sample = RegionSamples(
        proposals[chosen], objects, target.labels[objects], torch.zeros(len(chosen)), target
    )
    assert case.error("mask_targets_of_assigned_fixed_proposals", mask_targets(sample)) == 0


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("unit_rpn_decode_loss_mmdet213", RPNSettings()),
        ("unit_rpn_decode_loss_mmdet225", RPNSettings()),
        ("unit_rpn_cascade_decode_loss_mmdet213", RPNSettings(2000, True, box_beta=1 / 9)),
    ],
)
def test_rpn_alone(golden: Callable[[str], Any], name: str, settings: RPNSettings) -> None:
    unit = golden(f"dense/{name}")
    raw = RPNOutput(
        [unit.unit_input(f"rpn_cls_{i}") for i in range(5)],
        [unit.unit_input(f"rpn_reg_{i}") for i in range(5)],
    )
    rpn = RPN(8, (4, 8, 16, 32, 64), settings)
    rpn.num_samples = ALL
    for is_training, output in ((False, "proposals_test_cfg"), (True, "proposals_train_cfg")):
        proposals = rpn.propose(raw, [(120, 155)], is_training=is_training)[0]
        assert len(proposals) == unit.facts[f"n_{output}"]
        assert unit.error(output, proposals[:400]) < 1e-6
    for key, boxes in (
        ("losses_all_samples", unit.facts["gt_bboxes"]),
        ("losses_without_any_gt", []),
    ):
        true = torch.tensor(boxes).view(-1, 4)
        labels = torch.zeros(len(true), dtype=torch.int64)
        losses = rpn.loss(raw, [Detections(true, torch.ones(len(true)), labels)], [(120, 155)])
        official = unit.facts[key]
        assert losses["rpn_objectness"].item() == pytest.approx(sum(official["loss_rpn_cls"]))
        assert losses["rpn_box"].item() == pytest.approx(sum(official["loss_rpn_bbox"]))


@pytest.mark.parametrize(
    ("name", "stds", "giou_weight"),
    [
        ("unit_rcnn_bbox_maskrcnn_mmdet213", (0.1, 0.1, 0.2, 0.2), 0.0),
        ("unit_rcnn_bbox_maskrcnn_mmdet225", (0.1, 0.1, 0.2, 0.2), 0.0),
        ("unit_rcnn_bbox_cascade_stage2_mmdet213", (0.05, 0.05, 0.1, 0.1), 10.0),
    ],
)
class TestBoxHeadAlone:
    @staticmethod
    def regions(unit: Any) -> Tensor:
        centres = torch.tensor([[30, 30], [75, 60], [120, 35], [45, 95], [110, 90]]).float()
        middle = unit.unit_input("roi_ctr") + centres[torch.arange(200) % 5]
        half = unit.unit_input("roi_logsize").exp() / 2
        return torch.cat([middle - half, middle + half], dim=1)

    def test_detections(
        self,
        golden: Callable[[str], Any],
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        stds: tuple[float, float, float, float],
        giou_weight: float,
    ) -> None:
        unit = golden(f"dense/{name}")
        head = BoxHead(1, 80, stds=stds)
        raw = BoxOutput(unit.unit_input("cls_score"), unit.unit_input("bbox_pred"))
        for output, limit in (("det_rescaled", 100), ("det_allkept", 5000)):
            monkeypatch.setattr("ziggurat.heads.roi_box.MAX_DETECTIONS", limit)
            found = head.candidates(self.regions(unit), raw, (120, 155), (96, 124)).suppress()
            values = unit.values
            np.testing.assert_allclose(found.scores, values[f"{output}_scores"], atol=1e-6)
            ours = {
                (label, *(round(side, 2) for side in box))
                for box, label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True)
            }
            official = {
                (int(label), *(round(float(side), 2) for side in box))
                for box, label in zip(
                    values[f"{output}_boxes"].reshape(-1, 4),
                    values[f"{output}_labels"],
                    strict=True,
                )
            }
            # Sides that round to another hundredth are few.
            assert len(ours ^ official) <= 0.02 * len(official)

    def test_losses_and_gradients(
        self,
        golden: Callable[[str], Any],
        name: str,
        stds: tuple[float, float, float, float],
        giou_weight: float,
    ) -> None:
        unit = golden(f"dense/{name}")
        head = BoxHead(1, 80, stds=stds)
        regions = self.regions(unit)
        raw = BoxOutput(
            unit.unit_input("cls_score").requires_grad_(),
            unit.unit_input("bbox_pred").requires_grad_(),
        )
        true = regions + unit.unit_input("gt_jitter")
        true = torch.cat([torch.minimum(true[:, :2], true[:, 2:] - 2), true[:, 2:]], dim=1)
        labels = torch.from_numpy(np.random.RandomState(605).randint(0, 81, 200))
        foreground = (labels < 80).nonzero().flatten()
        target = Detections(true, torch.ones(200), labels)
        sample = RegionSamples(regions, foreground, labels, torch.zeros(200), target)
        classification, box = head.loss(raw, [sample], giou_weight=giou_weight)
        assert classification.item() == pytest.approx(unit.facts["losses"]["loss_cls"], rel=1e-5)
        assert box.item() == pytest.approx(unit.facts["losses"]["loss_bbox"], rel=1e-5)
        (classification + box).backward()
        assert raw.logits.grad is not None
        assert raw.deltas.grad is not None
        assert unit.error("grad_cls_score", raw.logits.grad) < 1e-5
        assert unit.error("grad_bbox_pred", raw.deltas.grad) < 1e-5


def test_regions_of_levels(golden: Callable[[str], Any]) -> None:
    unit = golden("dense/unit_roi_extractor")
    levels = [unit.unit_input(f"feat_{i}") for i in range(4)]
    centre, half = unit.unit_input("roi_ctr"), unit.unit_input("roi_logsize").exp() / 2
    rois = torch.cat([centre - half, centre + half], dim=1)
    assert unit.error("levels", level_of_region(rois, 4).float()) == 0
    for side in (7, 14):
        for ratio in (0, 2):
            pooled = RoIPooling((4, 8, 16, 32), side, ratio)(levels, [rois[0::2], rois[1::2]])
            ours = torch.stack([pooled[:20], pooled[20:]], dim=1).flatten(0, 1)
            assert unit.error(f"roi_feats_out{side}_sr{ratio}", ours) < 1e-6


def test_masks_alone(golden: Callable[[str], Any]) -> None:
    unit = golden("dense/unit_mask_paste")
    centre, half = unit.unit_input("ctr"), unit.unit_input("logsize").exp() / 2
    boxes = torch.cat([centre - half, centre + half], dim=1)
    boxes[:, 0::2].clamp_(0, 155)
    boxes[:, 1::2].clamp_(0, 120)
    labels = torch.from_numpy(np.random.RandomState(803).randint(0, 80, 12))
    logits = unit.unit_input("mask_logits")[torch.arange(12), labels]
    pasted = paste_masks(logits.sigmoid(), boxes / 1.25, (96, 124))
    assert unit.error("pasted_masks", pasted.full().float()) == 0
    objects = [[20.3, 15.7, 77.9, 90.4], [80.6, 30.2, 150.1, 117.5], [5.5, 70.25, 40.75, 110.5]]
    masks = ObjectMasks.from_full(torch.stack([ellipse(box, (120, 155)) for box in objects]))
    targets = masks_in_regions(masks, torch.arange(12) % 3, boxes, 28)
    assert unit.error("mask_targets", targets) == 0
    loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
    assert loss.item() == pytest.approx(unit.facts["loss_mask"])
