"""The five published segmenters give what the official ones give, from maps to gradients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ziggurat
from ziggurat import ZigguratError
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.types import LabelMap

TOLERANCE = 2e-5
LOSS_TOLERANCE = 2e-6
ORIGINAL = (250, 349)
CASES = {
    "seg_semfpn_pvt_small": "semantic_fpn_pvt_small",
    "seg_semfpn_p2t_small": "semantic_fpn_p2t_small",
    "seg_upernet_gpvit_l1": "upernet_gpvit_l1",
    "seg_segformer_gpvit_l1": "segformer_gpvit_l1",
    "seg_topformer_tiny_ade20k": "topformer_seg_tiny",
}
IN_FLOAT64 = ("topformer_tiny_ade20k", "upernet_gpvit_l1")
"""Their batch norms over a handful of cells turn noise of 1e-6 into 1e-2 of a gradient."""
SLOW = ("seg_upernet_gpvit_l1", "seg_semfpn_p2t_small")
GRADIENT_TOLERANCE = 1e-3
"""Of norms of gradients, which the official code computed in float32."""


class System:
    """A golden case and our model with its weights."""

    def __init__(self, case: Any, name: str, folder: Any) -> None:
        self.case = case
        model = ziggurat.create_model(name, drop_path_rate=0.0).eval()
        assert isinstance(model, SemanticSegmenter)
        self.report = ziggurat.load_official(model, case.file(folder))
        self.model = model


@pytest.fixture(scope="module", params=CASES)
def system(
    request: pytest.FixtureRequest,
    golden: Callable[[str], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> System:
    folder = tmp_path_factory.mktemp("official")
    return System(golden(f"dense/{request.param}"), CASES[request.param], folder)


def test_every_entry_is_accounted_for(system: System) -> None:
    facts, report = system.case.facts, system.report
    ignored = {name for name, _ in report.ignored}
    # P2T's segmenters carry the ImageNet classifier, which nothing reads.
    is_p2t = "p2t" in system.model.identity.backbone
    assert ignored == ({"backbone.head.weight", "backbone.head.bias"} if is_p2t else set())
    assert len(report.matched) + len(ignored) == len(facts["entries"])
    assert not report.absent
    parameters = sum(parameter.numel() for parameter in system.model.parameters())
    unused = 513_000 if is_p2t else 0
    assert parameters + unused == facts["params"]


def test_an_auxiliary_head_that_was_added_begins_anew(
    golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden("dense/seg_semfpn_pvt_small")
    model = ziggurat.create_model("semantic_fpn_pvt_small", auxiliary_head=True)
    report = ziggurat.load_official(model, case.file(tmp_path))
    assert len(report.matched) == len(case.facts["entries"])
    assert {name for name, _ in report.absent} == {
        name for name in model.state_dict() if name.startswith("auxiliary_head.")
    }


@pytest.mark.parametrize(
    ("case", "name", "part"),
    [
        ("dense/seg_topformer_tiny_ade20k", "topformer_seg_tiny", "backbone.SIM."),
        ("dense/seg_upernet_gpvit_l1", "upernet_gpvit_l1", "backbone.norm5."),
        ("dense/det_retinanet_gpvit_l1", "retinanet_gpvit_l1", "backbone.level_embed"),
        ("dense/det_retinanet_gpvit_l1", "retinanet_gpvit_l1", "backbone.interactions."),
    ],
)
def test_a_system_without_a_trained_part_is_refused(
    case: str, name: str, part: str, golden: Callable[[str], Any]
) -> None:
    weights = golden(case).weights()
    kept = {entry: value for entry, value in weights.items() if not entry.startswith(part)}
    assert len(kept) < len(weights)
    with torch.device("meta"):
        model = ziggurat.create_model(name)
    with pytest.raises(ZigguratError, match=r"does not fit .*entries are missing \(backbone\."):
        ziggurat.load_official(model, kept)


def test_logits_and_labels(system: System) -> None:
    case, model = system.case, system.model
    images = case.images()
    with torch.inference_mode():
        for i, x in enumerate(model.backbone(images)):
            assert case.error(f"backbone_{i}", x) < TOLERANCE
        logits = model(images)
        assert case.error("logits", logits) < TOLERANCE
        resized = F.interpolate(logits, size=images.shape[2:], mode="bilinear")
        assert case.error("logits_resized_to_input", resized) < TOLERANCE
        found = model.decode(logits, [(320, 448)], [ORIGINAL])[0]
    assert isinstance(found, LabelMap)
    stride = case.facts["outputs"]["pred_argmax_label"]["stride"]
    official = case.values["pred_argmax_label"].reshape(-1)
    np.testing.assert_array_equal(found.labels.reshape(-1)[::stride], official)


def labels() -> list[LabelMap]:
    """The true labels of the official runs, by their formula."""
    rows, columns = torch.meshgrid(torch.arange(320) // 16, torch.arange(448) // 16, indexing="ij")
    first = (rows * 7 + columns * 3) % 150
    ignored = (rows + columns) % 11 == 0
    return [
        LabelMap(x.masked_fill(ignored, 255).to(torch.uint8)) for x in (first, (first + 37) % 150)
    ]


@pytest.mark.parametrize(
    "system",
    # In float64, with 512 channels at the finest stride, UPerNet takes half a minute; Semantic FPN
    # has the same gradients on PVT.
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in CASES],
    indirect=True,
)
def test_losses_and_gradients(system: System) -> None:
    case, model = system.case, system.model
    facts = case.facts["train"]
    values = np.random.RandomState(0).standard_normal((2, 3, 320, 448))
    images = torch.from_numpy(values.astype("float32"))
    for module in model.modules():  # batch norms on the statistics of the batch, no dropout
        module.training = not isinstance(module, nn.Dropout2d)
    model.zero_grad()
    if case.facts["model"] in IN_FLOAT64:
        model, images = model.double(), images.double()
    losses = model.loss(model(images), labels())
    official = {"pixels": "decode", "auxiliary": "aux"}
    for name, loss in losses.items():
        expected = next(
            value
            for key, value in facts["losses"].items()
            if key.startswith(f"{official[name]}.loss")
        )
        assert loss.item() == pytest.approx(expected, rel=LOSS_TOLERANCE), name
    assert len(losses) == sum("loss" in name for name in facts["losses"])
    torch.stack(list(losses.values())).sum().backward()
    model.float().eval()
    norms = facts["grad_l2_norm_by_module"]
    parts = {
        "backbone": model.backbone,
        "neck": model.neck,
        "decode_head": model.head,
        "auxiliary_head": model.auxiliary_head,
    }
    for name, expected in norms.items():
        part = parts[name]
        assert part is not None
        gradients = [
            parameter.grad.double().square().sum()
            for parameter in part.parameters()
            if parameter.grad is not None
        ]
        norm = torch.stack(gradients).sum().sqrt().item()
        assert norm == pytest.approx(expected, rel=GRADIENT_TOLERANCE), name
