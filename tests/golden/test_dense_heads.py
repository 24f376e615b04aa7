"""RetinaNet's both editions, ATSS and GFL give what the official systems give."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ziggurat
from ziggurat.heads.atss import ATSS_SELECTION, ATSSHead, ATSSOutput
from ziggurat.heads.dense import Selection, anchors_of
from ziggurat.heads.gfl import GFL_SELECTION, GFLHead, GFLOutput
from ziggurat.heads.retinanet import ANCHORS as RETINANET_ANCHORS
from ziggurat.heads.retinanet import RETINANET_SELECTION, RetinaNetHead, RetinaNetOutput
from ziggurat.models.detector import Detector
from ziggurat.ops.matching import BACKGROUND, IGNORED
from ziggurat.types import Detections

TOLERANCE = 1e-4
IMAGE, ORIGINAL = (310, 440), (248, 352)
STRIDES = (8, 16, 32, 64, 128)
NO_BOXES = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
LOSSES = {
    "loss_cls": "classification",
    "loss_bbox": "box",
    "loss_centerness": "centerness",
    "loss_dfl": "distribution",
}


def truth(facts: Any) -> Detections:
    boxes = torch.tensor(facts["gt_bboxes"])
    return Detections(boxes, torch.ones(len(boxes)), torch.tensor(facts["gt_labels"]))


def assert_same_detections(found: Detections, values: Any, name: str) -> None:
    """Equal in order of score; detections whose scores tie may stand in any order."""
    scores = torch.from_numpy(values[f"{name}scores"])
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=0)
    boxes = next(values[n] for n in (f"{name}boxes", f"{name}boxes_rescaled") if n in values)
    expected = torch.from_numpy(boxes.reshape(-1, 4))
    labels = torch.from_numpy(values[f"{name}labels"])
    free = torch.ones(len(scores), dtype=torch.bool)
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        near = free & ((scores - score).abs() < 1e-5) & (labels == label)
        near &= (expected - box).abs().amax(dim=1) < 2e-2
        assert near.any(), f"no official detection at {box.tolist()}, label {label}, {score}"
        free[near.nonzero()[0]] = False


def assert_same_losses(losses: dict[str, Tensor], official: Any) -> None:
    assert {LOSSES[name] for name in official} == set(losses)
    for name, values in official.items():
        assert losses[LOSSES[name]].item() == pytest.approx(sum(values), rel=TOLERANCE), name


CASES = {
    "det_retinanet_pvt_small": ("retinanet", "pvt_small"),
    "det_retinanet_gpvit_l1": ("retinanet", "gpvit_l1_adapter"),
    "det_atss_pvt_v2_b2": ("atss", "pvt_v2_b2"),
    "det_gfl_pvt_v2_b2": ("gfl", "pvt_v2_b2"),
}
"""System and backbone of each case."""


@pytest.fixture(scope="module", params=CASES)
def loaded(
    request: pytest.FixtureRequest,
    golden: Callable[[str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, Detector]:
    system, backbone = CASES[request.param]
    case = golden(f"dense/{request.param}")
    model = ziggurat.create_model(system, backbone=backbone, drop_path_rate=0.0).eval()
    assert isinstance(model, Detector)
    report = ziggurat.load_official(model, case.file(tmp_path_factory.mktemp("official")))
    assert len(report.matched) + len(report.ignored) == len(case.facts["entries"])
    assert sum(p.numel() for p in model.parameters()) == case.facts["params"]
    return case, model


def test_raw_output_and_detections(loaded: tuple[Any, Detector]) -> None:
    case, model = loaded
    with torch.inference_mode():
        levels = model.neck(model.backbone(case.images()))
        raw = model(case.images(), [IMAGE])
    for i, level in enumerate(levels):
        assert case.error(f"fpn_{i}", level) < TOLERANCE
    for name, maps in zip(("cls_score", "bbox_pred", "centerness"), raw, strict=False):
        for i, level in enumerate(maps):
            assert isinstance(level, Tensor)
            assert case.error(f"{name}_{i}", level) < TOLERANCE
    found = model.decode(raw, [IMAGE], [ORIGINAL])[0]
    assert_same_detections(found, case.values, "final_")


def test_losses_and_gradients(loaded: tuple[Any, Detector]) -> None:
    case, model = loaded
    facts = case.facts["train"]
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    losses = model.loss(model(case.images(), [IMAGE]), [truth(facts)], [IMAGE])
    assert_same_losses(losses, facts["losses"])
    torch.stack(list(losses.values())).sum().backward()
    norms = facts["grad_l2_norm_by_module"]
    for part, name in (("backbone", "backbone"), ("neck", "neck"), ("head", "bbox_head")):
        gradients = [p.grad for p in getattr(model, part).parameters() if p.grad is not None]
        norm = torch.stack([g.double().square().sum() for g in gradients]).sum().sqrt()
        assert norm.item() == pytest.approx(norms[name], rel=5e-4), part


@pytest.mark.parametrize("name", CASES)
def test_matches(golden: Callable[[str], Any], name: str) -> None:
    """Which anchor gets which object asks for the sizes of the maps alone."""
    case, (system, backbone) = golden(f"dense/{name}"), CASES[name]
    with torch.device("meta"):
        head = ziggurat.create_model(system, backbone=backbone).head
    maps = [torch.zeros(1, 1, *size) for size in case.facts["featmap_sizes"]]
    target = truth(case.facts["train"])
    if isinstance(head, RetinaNetHead):
        anchors = torch.cat(anchors_of(maps, head.strides, RETINANET_ANCHORS))
        matches = head._match(RetinaNetOutput(maps, maps), anchors, target, IMAGE)
    elif isinstance(head, ATSSHead):
        matches = head.match(ATSSOutput(maps, maps, maps), target, IMAGE)
    else:
        assert isinstance(head, GFLHead)
        matches = head.match(GFLOutput(maps, maps), target, IMAGE)
    foreground = (matches >= 0).nonzero().flatten()
    np.testing.assert_array_equal(foreground, case.values["assign_pos_anchor_index"])
    # The official code counts objects from 0 here.
    np.testing.assert_array_equal(matches[foreground], case.values["assign_pos_gt_index"])
    counts = case.facts["train"]["assign_counts"]
    assert len(matches) == counts["total_anchors"] == counts["valid_inside"]
    assert (matches == BACKGROUND).sum() == counts["neg"]
    assert (matches == IGNORED).sum() == counts["ignore"]


@dataclass(frozen=True)
class Alone:
    """A head with its published settings, and how far its logits are lowered in one test."""

    head: type[RetinaNetHead] | type[ATSSHead] | type[GFLHead]
    output: type[RetinaNetOutput] | type[ATSSOutput] | type[GFLOutput]
    selection: Selection
    shift: float


ALONE = {
    "retinanet_decode_loss_mmdet213": Alone(
        RetinaNetHead, RetinaNetOutput, RETINANET_SELECTION, -0.5
    ),
    "retinanet_decode_loss_mmdet225": Alone(
        RetinaNetHead, RetinaNetOutput, replace(RETINANET_SELECTION, rule="pairs"), -0.5
    ),
    "atss_decode_loss_mmdet213": Alone(ATSSHead, ATSSOutput, ATSS_SELECTION, -2.0),
    "gfl_decode_loss_mmdet213": Alone(GFLHead, GFLOutput, GFL_SELECTION, -2.0),
}


@pytest.mark.parametrize("name", ALONE)
class TestHeadsAlone:
    """Random maps through the official decoding and loss, which shows what whole models hide."""

    @staticmethod
    def raw(unit: Any, alone: Alone, shift: float = 0.0) -> Any:
        names = ("cls_score", "bbox_pred", "centerness")[: len(alone.output._fields)]
        maps = [[unit.unit_input(f"{name}_{i}") for i in range(len(STRIDES))] for name in names]
        maps[0] = [level + shift for level in maps[0]]
        return alone.output(*maps)

    @pytest.mark.parametrize(
        "kind", ["det_rescaled", "det", "det_nmspre300_max1500", "det_allkept"]
    )
    def test_detections(self, golden: Callable[[str], Any], name: str, kind: str) -> None:
        unit, alone = golden(f"dense/unit_{name}"), ALONE[name]
        selection, shift = alone.selection, 0.0
        if kind == "det_nmspre300_max1500":
            selection = replace(selection, candidates_per_level=300, max_detections=1500)
        if kind == "det_allkept":
            selection, shift = replace(selection, max_detections=5000), alone.shift
        head = alone.head(32, STRIDES, 80, depth=0, selection=selection)
        original = [(96, 124)] if kind == "det_rescaled" else None
        found = head.decode(self.raw(unit, alone, shift), [(120, 155)], original)[0]
        assert_same_detections(found, unit.values, f"{kind}_")

    def test_losses_and_gradients(self, golden: Callable[[str], Any], name: str) -> None:
        unit, alone = golden(f"dense/unit_{name}"), ALONE[name]
        raw = self.raw(unit, alone)
        for maps in raw:
            for level in maps:
                level.requires_grad_()
        head = alone.head(32, STRIDES, 80, depth=0)
        losses = head.loss(raw, [truth(unit.facts)], [(128, 160)])
        assert_same_losses(losses, unit.facts["losses"])
        torch.stack(list(losses.values())).sum().backward()
        maps = dict(zip(("cls_score", "bbox_pred", "centerness"), raw, strict=False))
        gradients = [name for name in unit.values if name.startswith("grad_")]
        assert gradients
        for gradient_name in gradients:
            kind, level_number = gradient_name.removeprefix("grad_").rsplit("_", 1)
            gradient = maps[kind][int(level_number)].grad
            if unit.values[gradient_name].any():
                assert unit.error(gradient_name, gradient) < 1e-4, gradient_name
            else:  # a level without objects
                assert not gradient.any()

    def test_losses_without_objects(self, golden: Callable[[str], Any], name: str) -> None:
        unit, alone = golden(f"dense/unit_{name}"), ALONE[name]
        head = alone.head(32, STRIDES, 80, depth=0)
        losses = head.loss(self.raw(unit, alone), [NO_BOXES], [(128, 160)])
        assert_same_losses(losses, unit.facts["losses_without_any_gt"])
