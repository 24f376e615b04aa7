"""PANet's heads give what those of the published Feature Pyramid Transformer's detectors give.

The pyramid of these cases is the simplified transformer of the published configurations, which is
not offered; it is put together here, so that heads read the maps that they read there.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ziggurat
from ziggurat import ZigguratError
from ziggurat.backbones.resnet import resnet50_caffe
from ziggurat.checkpoints import fpt
from ziggurat.checkpoints.names import NameMap
from ziggurat.heads.faster_rcnn import FasterRCNNHead
from ziggurat.heads.fused_mask import FusedMaskHead
from ziggurat.heads.mask_rcnn import MaskRCNNHead
from ziggurat.heads.rpn import RPN, RPNOutput
from ziggurat.layers.grounding_transformer import GroundingTransformer
from ziggurat.layers.roi_pooling import level_of_region
from ziggurat.layers.self_transformer import SelfTransformer
from ziggurat.models.detector import Detector
from ziggurat.ops.roi_align import roi_align
from ziggurat.systems.panet import RPN_SETTINGS

TOLERANCE = 1e-4
"""Of the largest difference, in standard deviations of the output."""
DATA = Path(__file__).parent / "data" / "fpt"
SYSTEMS = {
    "mask": "mask_rcnn_panet",
    "det": "faster_rcnn_panet",
    "det_2fc": "faster_rcnn_panet_2fc",
}
STRIDES = (4, 8, 16, 32, 64)


def deviation(case: Any, output: str, ours: Tensor) -> float:
    facts = case.facts["outputs"][output]
    assert list(ours.shape) == facts["shape"]
    mine = ours.detach().reshape(-1)[:: facts["stride"]].double().numpy()
    return float(np.abs(mine - case.values[output].reshape(-1)).max() / facts["std"])


class Simplified(nn.Module):
    """What the published configurations mean: from level to level, down and up again."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.weights = weights

    def norm(self, x: Tensor, name: str) -> Tensor:
        weights = self.weights
        return F.group_norm(x, 32, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        bias = self.weights.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, weight.shape[2] // 2)

    def part(self, module: nn.Module, name: str, renames: fpt.Renames) -> nn.Module:
        names = NameMap(renames)
        own = {
            names.own_name(entry.removeprefix(f"{name}.")): value
            for entry, value in self.weights.items()
            if entry.startswith(f"{name}.") and ".conv_ks." not in entry
        }
        module.load_state_dict(own)  # type: ignore[arg-type]
        return module.eval()

    def look(self, x: Tensor, name: str) -> Tensor:
        transformer = SelfTransformer(256, nn.BatchNorm2d, parts=4)
        found: Tensor = self.part(transformer, f"{name}st", fpt.SELF)(x)
        return found

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        out: dict[str, Tensor] = {}
        top = self.look(self.norm(self.conv(maps[3], "conv_top.0"), "conv_top.1"), "")
        inner = [top]
        for i, x in enumerate(maps[2::-1]):
            name = f"ground_lateral_modules.{i}."
            x = self.norm(self.conv(x, f"{name}conv_lateral.0"), f"{name}conv_lateral.1")
            x = self.look(self.conv(x, f"{name}conv_lateral.2").relu(), name)
            ground = self.part(
                GroundingTransformer(256, nn.BatchNorm2d), f"{name}gt", fpt.GROUNDING
            )
            inner.append(ground(x, inner[-1]))
        middle = []
        for i, x in enumerate(inner):
            name = f"posthoc_modules.{i}"
            x = self.norm(self.conv(x, f"{name}.0"), f"{name}.1")
            middle.append(self.conv(x, f"{name}.2").relu())
        level = middle[-1]
        out["p2"] = level
        for i, (number, x) in enumerate(zip((3, 4, 5), middle[2::-1], strict=True)):
            first, second = (f"fpt_rendering_conv{k}_modules.{i}" for k in (1, 2))
            level = self.norm(self.conv(level, f"{first}.0", stride=2), f"{first}.1").relu()
            level = self.norm(self.conv(level + x, f"{second}.0"), f"{second}.1").relu()
            out[f"p{number}"] = level
        out["p6"] = level[:, :, ::2, ::2]
        names = ("p5", "p4", "p3", "p2")
        out |= {f"inner_{name}": x for name, x in zip(names, inner, strict=True)}
        return out | {f"middle_{name}": x for name, x in zip(names, middle, strict=True)}


@pytest.fixture(scope="module")
def maps(golden: Callable[[str], Any]) -> dict[str, Tensor]:
    """Maps of the pyramid, which all three systems share."""
    case = golden("fpt/e2e_fptnet_R-50_mask_repaired")
    weights = case.weights()
    body = resnet50_caffe().eval()
    ziggurat.load_official(body, weights)
    draw = np.random.RandomState(0).standard_normal(case.facts["input_shape"]["data"])
    pyramid = Simplified(
        {k.removeprefix("Conv_Body."): v for k, v in weights.items() if k.startswith("Conv_Body.")}
    )
    with torch.inference_mode():
        found: dict[str, Tensor] = pyramid(body(torch.from_numpy(draw.astype(np.float32))))
    return found


class System:
    """A case, and our model with the weights of its body and head."""

    def __init__(self, case: Any, name: str) -> None:
        self.case = case
        model = ziggurat.create_model(name, backbone="resnet50_caffe", neck="fpt_batch_norm")
        assert isinstance(model, Detector)
        assert isinstance(model.head, FasterRCNNHead | MaskRCNNHead)
        self.model, self.head = model.eval(), model.head
        self.boxes = self.head.boxes if isinstance(self.head, MaskRCNNHead) else self.head
        self.weights = case.weights()
        self.report = ziggurat.load_official(self.head, {"model": self.weights})
        self.body_report = ziggurat.load_official(model.backbone, {"model": self.weights})


@pytest.fixture(
    scope="module",
    # The one with masks has every part but the head of two layers.
    params=[
        pytest.param(name, marks=[] if name == "mask" else pytest.mark.slow) for name in SYSTEMS
    ],
)
def system(request: pytest.FixtureRequest, golden: Callable[[str], Any]) -> System:
    case = golden(f"fpt/e2e_fptnet_R-50_{request.param}_repaired")
    return System(case, SYSTEMS[request.param])


def regions(case: Any) -> list[Tensor]:
    """The fixed boxes; where they end in a pixel, ours end behind it."""
    rois = torch.tensor(case.facts["rois"])[:, 1:]
    return [rois + rois.new_tensor([0, 0, 1, 1])]


def test_pyramid(maps: dict[str, Tensor], golden: Callable[[str], Any]) -> None:
    for system in SYSTEMS:
        case = golden(f"fpt/e2e_fptnet_R-50_{system}_repaired")
        for name, x in maps.items():
            assert deviation(case, name, x) < TOLERANCE, name


def test_proposals_of_every_level(system: System, maps: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        raw = system.head([maps[f"p{number}"] for number in range(2, 7)]).rpn
    for i, number in enumerate(range(2, 7)):
        logits, deltas = f"rpn_cls_logits_fpn{number}", f"rpn_bbox_pred_fpn{number}"
        assert deviation(system.case, logits, raw.objectness[i]) < TOLERANCE
        assert deviation(system.case, deltas, raw.box_deltas[i]) < TOLERANCE


def test_boxes_of_fixed_regions(system: System, maps: dict[str, Tensor]) -> None:
    case, boxes, levels = system.case, system.boxes, [maps[f"p{number}"] for number in range(2, 7)]
    features: dict[str, Tensor] = {}
    boxes.box_head.logits.register_forward_hook(
        lambda _module, inputs, _output: features.update(box_feat=inputs[0])
    )
    with torch.inference_mode():
        found = boxes.box_head(boxes.pooling(levels, regions(case)))
    assert deviation(case, "box_feat", features["box_feat"]) < TOLERANCE
    # Background is the first class there and the last here, and its box is not kept.
    assert deviation(case, "cls_score_softmax", found.logits.softmax(1).roll(1, 1)) < TOLERANCE
    background = features["box_feat"] @ system.weights["Box_Outs.bbox_pred.weight"][:4].T
    background = background + system.weights["Box_Outs.bbox_pred.bias"][:4]
    assert deviation(case, "bbox_pred", torch.cat([background, found.deltas], dim=1)) < TOLERANCE


def test_masks_of_fixed_regions(maps: dict[str, Tensor], golden: Callable[[str], Any]) -> None:
    system = System(golden("fpt/e2e_fptnet_R-50_mask_repaired"), "mask_rcnn_panet")
    case, head = system.case, system.head
    assert isinstance(head, MaskRCNNHead) and isinstance(head.mask_head, FusedMaskHead)
    seen: dict[str, Tensor] = {}
    for name, module in (("mask_fcn", head.mask_head.upsample), ("mask_ff", head.mask_head.whole)):
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: output.relu()})
        )
    with torch.inference_mode():
        cut = head.pooling([maps[f"p{number}"] for number in range(2, 6)], regions(case))
        logits = head.mask_head(cut)
    assert deviation(case, "mask_fcn", seen["mask_fcn"]) < TOLERANCE
    assert deviation(case, "mask_ff", seen["mask_ff"]) < TOLERANCE
    whole = seen["mask_ff"].view(-1, 1, 28, 28)
    weight = system.weights["Mask_Outs.classify.weight"][:1]
    background = F.conv2d(seen["mask_fcn"], weight, system.weights["Mask_Outs.classify.bias"][:1])
    probabilities = torch.cat([background + whole, logits], dim=1).sigmoid()
    assert deviation(case, "mask_prob", probabilities) < TOLERANCE


def test_every_entry_of_head_and_body_is_read_once(system: System) -> None:
    entries = [name for name, _, _ in system.case.facts["entries"]]
    head, body = system.report, system.body_report
    of_body = [name for name in entries if name.startswith("Conv_Body.conv_body.")]
    of_neck = [
        name for name in entries if name.startswith("Conv_Body.") and name not in set(of_body)
    ]
    assert [name for name, _ in body.matched] == of_body
    of_head = [name for name in entries if not name.startswith("Conv_Body.")]
    assert sorted(name for name, _ in head.matched + head.reordered) == sorted(of_head)
    own = [name for _, name in head.matched + head.reordered]
    assert sorted(own) == sorted(system.head.state_dict())
    assert {name for name, _ in head.reordered} == {
        f"{part}.{kind}"
        for part in ("Box_Outs.cls_score", "Box_Outs.bbox_pred", "Mask_Outs.classify")
        for kind in ("weight", "bias")
        if f"{part}.{kind}" in entries
    }
    reasons = dict(head.ignored)
    assert set(reasons) == set(of_body + of_neck)
    assert {reasons[name] for name in of_neck} == {fpt.NOT_OFFERED}
    assert fpt.NOT_OFFERED not in {reasons[name] for name in of_body}


def test_the_simplified_pyramid_is_refused_and_the_other_parts_are_named(system: System) -> None:
    before = {name: value.clone() for name, value in system.model.state_dict().items()}
    with pytest.raises(ZigguratError) as refusal:
        ziggurat.load_official(system.model, {"model": system.weights})
    assert "its pyramid is the simplified transformer" in str(refusal.value)
    assert "load the other parts, into `model.backbone` and `model.head`" in str(refusal.value)
    for name, value in system.model.state_dict().items():
        assert torch.equal(value, before[name])


def all_pairs_file(golden: Callable[[str], Any], case: Any, with_counts: bool) -> dict[str, Any]:
    """A training checkpoint whose pyramid is that of all pairs."""
    weights = {
        name: value
        for name, value in case.weights().items()
        if not name.startswith("Conv_Body.") or name.startswith("Conv_Body.conv_body.")
    }
    pyramid = golden("fpt/fpt_a_group_norm_repaired").weights()
    weights |= {
        f"Conv_Body.{name}": value
        for name, value in pyramid.items()
        if with_counts or not name.endswith("num_batches_tracked")
    }
    optimizer = {"state": {}, "param_groups": [{"lr": 0.05, "params": [0, 1]}]}
    sizes = {"step": 179_999, "train_size": 234_532, "batch_size": 16}
    return {**sizes, "model": weights, "optimizer": optimizer}


@pytest.mark.parametrize(
    ("name", "with_counts"),
    [("mask", True), pytest.param("det_2fc", False, marks=pytest.mark.slow)],
)
def test_a_training_checkpoint_is_read_whole(
    name: str, with_counts: bool, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"fpt/e2e_fptnet_R-50_{name}_repaired")
    content = all_pairs_file(golden, case, with_counts)
    torch.save(content, tmp_path / "model_step179999.pth")
    other = ziggurat.create_model(SYSTEMS[name], backbone="resnet50_caffe", neck="fpt")
    with pytest.raises(ZigguratError, match="has batch norms, choose the neck `fpt_batch_norm`"):
        ziggurat.load_official(other, tmp_path / "model_step179999.pth")
    model = ziggurat.create_model(f"{SYSTEMS[name]}_fpt_batch_norm_resnet50_caffe")
    report = ziggurat.load_official(model, tmp_path / "model_step179999.pth")
    read = [name for name, _ in report.matched + report.reordered + report.ignored]
    assert sorted(read) == sorted(content["model"])
    unused = {name for name, _ in report.ignored}
    assert all(".conv_ks." in name or ".rt_p" in name for name in unused)
    given = {own for _, own in report.matched + report.reordered}
    left = set(model.state_dict()) - given
    assert left == {name for name, _ in report.absent}
    statistics = {name for name in left if name.startswith("backbone.")}
    assert all(name.endswith(("running_mean", "running_var")) for name in statistics)
    counts = {name for name in left if name.endswith("num_batches_tracked")}
    assert left == statistics | counts and bool(counts) is not with_counts


def test_two_names_of_one_module_must_agree(system: System, golden: Callable[[str], Any]) -> None:
    content = all_pairs_file(golden, system.case, with_counts=True)
    twice = "Conv_Body.st_p3.conv_ks.weight"
    content["model"][twice] = content["model"][twice] + 1e-3
    message = r"'Conv_Body.st_p3.conv_ks.weight' and 'Conv_Body.st_p3.conv_qs.weight' .* differ"
    with pytest.raises(ZigguratError, match=message):
        ziggurat.load_official(system.model, content)


def blobs(case: Any, names: dict[str, str]) -> dict[str, Any]:
    """What Detectron would store of the same layers, and what it has besides."""
    found = {
        names[entry]: value.numpy()
        for entry, value in case.weights().items()
        # Of the pyramid it has names as well, which no program writes.
        if entry in names and not names[entry].startswith("fpt_")
    }
    others = ["lr", "fc6_w_momentum", "fpn_inner_res5_2_sum_w", "res2_0_branch1_b"]
    others.append("head_conv4_w" if "head_conv3_w" in found else "fc7_w")
    return {"blobs": found | {name: np.zeros(1, np.float32) for name in others}}


def test_a_model_of_detectron_gives_the_layers_that_it_has(system: System) -> None:
    short = next(name for name, value in SYSTEMS.items() if system.model.identity.system == value)
    table = json.loads((DATA / f"detectron_name_map_{short}.json").read_text())
    content = blobs(system.case, table["mapping"])
    report = ziggurat.load_official(system.model, content)
    read = [name for name, _ in report.matched + report.reordered + report.ignored]
    assert sorted(read) == sorted(content["blobs"])
    # What the published program would have taken from it, and nothing else.
    own = dict(system.report.matched + system.report.reordered)
    nameless = set(table["parameters_without_mapping"])
    taken = {name for _, name in report.matched + report.reordered}
    assert {name.removeprefix("head.") for name in taken if name.startswith("head.")} == {
        own[name] for name in own if name not in nameless
    }


def test_anchors(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/op_anchors")
    behind = torch.tensor([0, 0, 1, 1])
    for number, stride in zip(range(2, 7), STRIDES, strict=True):
        official = torch.from_numpy(case.values[f"level{number}"].reshape(-1, 4)) + behind
        assert torch.equal(RPN_SETTINGS.anchors.cell(stride), official.float())


def drawn_output(case: Any, numbers: Sequence[int]) -> RPNOutput:
    """What the network of the proposals is taken to say of some levels."""
    objectness, box_deltas = [], []
    for number in numbers:
        _, _, height, width = case.facts["input_shape"][f"logits_fpn{number}"]
        logits, deltas = (
            np.random.RandomState(seed + number - 2).standard_normal((1, channels, height, width))
            for seed, channels in ((100, 3), (200, 12))
        )
        objectness.append(2 * torch.from_numpy(logits.astype(np.float32)))
        box_deltas.append(0.3 * torch.from_numpy(deltas.astype(np.float32)))
    return RPNOutput(objectness, box_deltas)


def is_area(boxes: Tensor) -> Tensor:
    """There a box beyond the border leaves a line of one pixel, here less or nothing."""
    return (boxes[:, 2:4] - boxes[:, :2] > 1.001).all(dim=1)


@pytest.mark.parametrize(("number", "stride"), [(3, 8), (4, 16), (5, 32), (6, 64)])
def test_proposals_of_a_level(number: int, stride: int, golden: Callable[[str], Any]) -> None:
    case = golden("fpt/op_rpn_proposals")
    raw = drawn_output(case, [number])
    found = RPN(4, [stride], RPN_SETTINGS).propose(raw, [(256, 320)], is_training=False)[0]
    official = torch.from_numpy(case.values[f"rpn_rois_fpn{number}"].reshape(-1, 5)[:, 1:])
    scores = torch.from_numpy(case.values[f"rpn_roi_probs_fpn{number}"].reshape(-1, 1))
    rows = torch.cat([official + torch.tensor([0, 0, 1, 1]), scores], dim=1)
    ours, expected = found[is_area(found)], rows[is_area(rows)]
    assert len(expected) > 0.8 * len(rows)
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(ours[:, 4], expected[:, 4], atol=1e-6, rtol=0)


def known_rows(case: Any, output: str) -> Tensor:
    """Boxes of which every second number is kept, NaN where it is not; as ours end."""
    facts = case.facts["outputs"][output]
    rows = torch.full(facts["shape"], torch.nan)
    rows.view(-1)[:: facts["stride"]] = torch.from_numpy(case.values[output].reshape(-1))
    return rows[:, 1:] + torch.tensor([0, 0, 1, 1])


def places(ours: Tensor, boxes: Tensor, scores: Tensor) -> list[int]:
    """Say which of the official ones each of ours is, -1 where it is none."""
    found = []
    for row in ours:
        is_same = ((row[:4] - boxes).abs().nan_to_num() < 1e-3).all(dim=1)
        is_same &= (row[4] - scores).abs() < 1e-6
        found.append(int(is_same.nonzero()[0]) if is_same.any() else -1)
    return found


def test_proposals_of_the_finest_level(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/op_rpn_proposals")
    raw = drawn_output(case, [2])
    found = RPN(4, [4], RPN_SETTINGS).propose(raw, [(256, 320)], is_training=False)[0]
    ours, official = found[is_area(found)], known_rows(case, "rpn_rois_fpn2")
    placed = places(ours, official, torch.from_numpy(case.values["rpn_roi_probs_fpn2"]))
    assert min(placed) >= 0
    assert len(set(placed)) == len(ours) > 0.99 * len(official)  # the others are lines


def test_proposals_of_all_levels_are_united(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/op_rpn_proposals")
    raw = drawn_output(case, range(2, 7))
    found = RPN(4, STRIDES, RPN_SETTINGS).propose(raw, [(256, 320)], is_training=False)[0]
    ours, official = found[is_area(found)], known_rows(case, "rois")
    assert len(found) == len(official) == 1000
    levels = [case.values[f"rpn_roi_probs_fpn{number}"] for number in range(2, 7)]
    scores = torch.from_numpy(np.concatenate(levels)).sort(descending=True).values[:1000]
    placed = places(ours, official, scores)
    # In the place of lines, which are among the official thousand, ours has what comes behind.
    same = sum(place >= 0 for place in placed)
    assert same > 0.99 * len(official)
    assert placed[:same] == sorted(set(placed[:same]) - {-1})
    assert (ours[same:, 4] < scores[-1]).all()


def test_regions_are_cut_out_as_there(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/op_roi_align")
    draw = np.random.RandomState(0).standard_normal(case.facts["input_shape"]["features"])
    features = torch.from_numpy(draw.astype(np.float32))
    rois = torch.from_numpy(case.values["rois"].reshape(-1, 5)).float()
    for ratio in (0, 2):
        cut = roi_align(features, rois, 7, 1 / 4, ratio, aligned=False)
        assert deviation(case, f"out_sr{ratio}", cut) < TOLERANCE


def test_levels_of_regions(golden: Callable[[str], Any]) -> None:
    case = golden("fpt/op_fpn_level_map")
    boxes = torch.from_numpy(case.values["boxes"].reshape(-1, 4)) + torch.tensor([0, 0, 1, 1])
    levels = torch.from_numpy(case.values["levels"]).long()
    assert torch.equal(level_of_region(boxes.float(), 4) + 2, levels)
