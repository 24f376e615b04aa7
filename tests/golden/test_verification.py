"""`ziggurat verify` knows a golden file, and holds its outputs against the official code's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ziggurat import pretrained
from ziggurat.cli.main import main
from ziggurat.errors import ZigguratError
from ziggurat.verification.golden import VALUES, digest_of_entries, golden_entry, golden_values
from ziggurat.weights.catalogue import FILES

CLASSIFIERS = {
    "pvt_tiny": "pvt_tiny-224",
    "pvt_small": "pvt_small-224",
    "pvt_v2_b0": "pvt_v2_b0-224",
    "pvt_v2_b2": "pvt_v2_b2-224",
    "pvt_v2_b2_li": "pvt_v2_b2_li-192x256",
    "p2t_tiny": "p2t_tiny-224",
    "p2t_small": "p2t_small-224",
    "topformer_tiny": "topformer_tiny-paddle-224",
    "topformer_small": "topformer_small-paddle-224",
    "gpvit_l1": "gpvit_l1-224",
    "gpvit_l2": "gpvit_l2-224",
}
RESNETS = {
    "resnet50_caffe": "body_resnet50_caffe",
    "resnet50_caffe_dc5": "body_resnet50_dilated_res5",
    "resnet50_gn": "body_resnet50_gn",
    "resnext101_32x8d_caffe2": "body_resnext101_32x8d",
}
DETECTORS = {
    "retinanet_pvt_small": ("det_retinanet_pvt_small", ("cls_score", "bbox_pred")),
    "retinanet_p2t_small": ("det_retinanet_p2t_small", ("cls_score", "bbox_pred")),
    "retinanet_gpvit_l1": ("det_retinanet_gpvit_l1", ("cls_score", "bbox_pred")),
    "atss_pvt_v2_b2": ("det_atss_pvt_v2_b2", ("cls_score", "bbox_pred", "centerness")),
    "gfl_pvt_v2_b2": ("det_gfl_pvt_v2_b2", ("cls_score", "bbox_pred")),
    "mask_rcnn_pvt_small": ("det_maskrcnn_pvt_small", ("fpn", "rpn_cls", "rpn_reg")),
    "mask_rcnn_p2t_small": ("det_maskrcnn_p2t_small", ("fpn", "rpn_cls", "rpn_reg")),
    "mask_rcnn_gpvit_l1": ("det_maskrcnn_gpvit_l1", ("fpn", "rpn_cls", "rpn_reg")),
}
SEGMENTERS = {
    "semantic_fpn_pvt_small": "seg_semfpn_pvt_small",
    "semantic_fpn_p2t_small": "seg_semfpn_p2t_small",
    "segformer_gpvit_l1": "seg_segformer_gpvit_l1",
    "upernet_gpvit_l1": "seg_upernet_gpvit_l1",
    "topformer_seg_tiny": "seg_topformer_tiny_ade20k",
}
NUM_LEVELS = 5

# Model to folder and name of the case, and the outputs of the case that are the model's raw output.
CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    **{model: ("backbones", case, ("logits",)) for model, case in CLASSIFIERS.items()},
    "gpvit_l1_adapter": ("backbones", "gpvit_l1-adapter-det-256x320", ("f1", "f2", "f3", "f4")),
    **{model: ("fpt", case, ("res2", "res3", "res4", "res5")) for model, case in RESNETS.items()},
    **{
        model: ("dense", case, tuple(f"{kind}_{i}" for kind in kinds for i in range(NUM_LEVELS)))
        for model, (case, kinds) in DETECTORS.items()
    },
    **{model: ("dense", case, ("logits",)) for model, case in SEGMENTERS.items()},
}
OFTEN = ("p2t_tiny", "topformer_seg_tiny")
"""Small ones, that each run tries; the others are among the slow ones."""


def kept(case: Any, output: str, count: int) -> dict[str, Any]:
    """A few values of an output, evenly spread."""
    official = case.values[output].reshape(-1)
    step = -(-len(official) // count)
    values = [float(f"{value:.7g}") for value in official[::step]]
    return {"stride": case.facts["outputs"][output]["stride"] * step, "values": values}


def shape_of(case: Any) -> list[int]:
    shape = case.facts["input_shape"]
    return list(shape["x"] if isinstance(shape, dict) else shape)


def content(golden: Callable[[str], Any]) -> str:
    """What `VALUES` holds; to make that file anew, write this to it."""
    lines = []
    for model, (folder, name, outputs) in CASES.items():
        case = golden(f"{folder}/{name}")
        # Of one tensor 40 values, of each of several 8.
        count = 40 if len(outputs) == 1 else 8
        facts = {
            "case": name,
            "entries": digest_of_entries({key: shape for key, shape, _ in case.facts["entries"]}),
            "input_shape": shape_of(case),
            "tolerance": 1e-4 if model in DETECTORS else 2e-5,
            "outputs": {output: kept(case, output, count) for output in outputs},
        }
        lines.append(f"  {json.dumps(model)}: {json.dumps(facts)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def test_kept_values_are_those_of_the_official_code(golden: Callable[[str], Any]) -> None:
    assert VALUES.read_text(encoding="utf-8") == content(golden)


@pytest.mark.parametrize(
    "model",
    [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def test_golden_file_is_recognised_and_fits(
    model: str,
    golden: Callable[[str], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, name, _ = CASES[model]
    case = golden(f"{folder}/{name}")
    path = tmp_path / "official.pth"
    wrapper = case.facts.get("checkpoint_wrapper")
    torch.save({wrapper: case.weights()} if wrapper else case.weights(), path)
    assert main(["verify", model, str(path), "--json"]) == 0
    certificate = json.loads(capsys.readouterr().out)
    values = golden_values(model, case.weights())
    assert values is not None
    assert certificate["golden"]["case"] == name
    assert certificate["golden"]["error"] < values.tolerance
    assert certificate["matched"] + len(certificate["ignored"]) == len(case.facts["entries"])


def test_formula_is_that_of_the_golden_files(golden: Callable[[str], Any]) -> None:
    for name, value in golden("backbones/gpvit_l1-224").weights().items():
        assert (golden_entry(name, tuple(value.shape)) == value).all(), name


def test_files_of_other_entries_have_no_values(golden: Callable[[str], Any]) -> None:
    weights = golden("backbones/p2t_tiny-224").weights()
    assert golden_values("p2t_tiny", weights) is not None
    assert golden_values("p2t_small", weights) is None
    assert golden_values("p2t_medium", weights) is None
    assert golden_values("p2t_tiny", weights | {"head.bias": torch.zeros(7)}) is None


def test_a_download_is_compared_with_the_backbone_of_its_system(
    golden: Callable[[str], Any], tmp_path: Path
) -> None:
    # GPViT's one-stage detectors have a backbone of their own.
    file = golden("dense/det_retinanet_gpvit_l1").file(tmp_path)
    pretrained._check_fits(FILES["gpvit_l1_retinanet_1x.pth"], file)
    for other in ("gpvit_l1_maskrcnn_1x.pth", "gpvit_l2_retinanet_1x.pth", "pvt_tiny.pth"):
        with pytest.raises(ZigguratError, match="does not fit"):
            pretrained._check_fits(FILES[other], file)
