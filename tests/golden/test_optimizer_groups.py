"""The runs of the published models divide parameters as the official optimizers did."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ziggurat
from ziggurat.checkpoints.matching import match_entries, nearest_layout
from ziggurat.checkpoints.official import _layouts
from ziggurat.config import list_recipes, load_run
from ziggurat.engine.optimizer import build_optimizer
from ziggurat.models.classifier import Classifier
from ziggurat.systems import SYSTEMS
from ziggurat.zoo import Model

DATA = Path(__file__).parent / "data"
CASES = {
    "det_retinanet_pvt_small": "retinanet_pvt_small_1x_coco",
    "det_retinanet_p2t_small": "retinanet_p2t_small_1x_coco",
    "det_retinanet_gpvit_l1": "retinanet_gpvit_l1_1x_coco",
    "det_maskrcnn_pvt_small": "mask_rcnn_pvt_small_1x_coco",
    "det_maskrcnn_p2t_small": "mask_rcnn_p2t_small_1x_coco",
    "det_maskrcnn_gpvit_l1": "mask_rcnn_gpvit_l1_1x_coco",
    "det_cascade_maskrcnn_pvt_v2_b2": "cascade_mask_rcnn_pvt_v2_b2_3x_coco",
    "det_atss_pvt_v2_b2": "atss_pvt_v2_b2_3x_coco",
    "det_gfl_pvt_v2_b2": "gfl_pvt_v2_b2_3x_coco",
    "det_sparsercnn_pvt_v2_b2": "sparse_rcnn_pvt_v2_b2_3x_coco",
    "det_detr_pvt_small": "detr_pvt_small_50e_coco",
    "seg_semfpn_pvt_small": "semantic_fpn_pvt_small_40k_ade20k",
    "seg_semfpn_p2t_small": "semantic_fpn_p2t_small_80k_ade20k",
    "seg_upernet_gpvit_l1": "upernet_gpvit_l1_160k_ade20k",
    "seg_segformer_gpvit_l1": "segformer_gpvit_l1_160k_ade20k",
    "seg_topformer_tiny_ade20k": "topformer_seg_tiny_160k_ade20k",
}


def _system(run: str) -> str:
    return max((name for name in SYSTEMS if run.startswith(f"{name}_")), key=len, default="")


def own_names(model: Model, facts: Any) -> dict[str, str]:
    """Our names of the official parameters."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    shapes = {name: tuple(shape) for name, shape, _ in facts["entries"]}
    report = match_entries(own, shapes, nearest_layout(_layouts(model), own, shapes))
    assert report.is_complete
    return dict(report.matched)


@pytest.mark.parametrize("case", [c for c, run in CASES.items() if _system(run) in SYSTEMS])
def test_groups_are_the_official_ones(case: str) -> None:
    facts = json.loads((DATA / "dense" / f"{case}.json").read_text())
    official = facts["optimizer"]
    run = load_run(CASES[case], ["--data.root=coco"])
    with torch.device("meta"):
        model = ziggurat.create_model(run.model.name)
    assert not isinstance(model, Classifier)
    optimizer = build_optimizer(model, run.optimizer, run.optimizer.lr, is_fused=False)

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays, rates = {}, {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            decays[names[id(parameter)]] = group["weight_decay"]
            rates[names[id(parameter)]] = group["lr"]
    # P2T's segmenters carry the ImageNet classifier, which nothing reads.
    unused = 2 if case == "seg_semfpn_p2t_small" else 0
    assert len(decays) + unused == official["n_params_total"]
    assert run.optimizer.lr == pytest.approx(official["base_lr"])
    assert list(run.optimizer.betas or ()) == official["defaults"]["betas"]
    assert optimizer.defaults["eps"] == official["defaults"]["eps"]
    assert official["other_decay"] == {}

    own = own_names(model, facts)
    undecayed = {own[name] for name in official["zero_decay"]}
    assert {name for name, decay in decays.items() if decay == 0} == undecayed
    assert set(decays.values()) - {0} == {official["base_weight_decay"]}
    factors = {own[name]: float(f) for f, names in official["lr_mult"].items() for name in names}
    for name, rate in rates.items():
        assert rate == pytest.approx(official["base_lr"] * factors.get(name, 1.0)), name


def _without_size(run: str) -> str:
    return re.sub(r"(pvt_v2|gpvit|pvt|p2t|topformer_seg)_[a-z0-9]+(_li)?_(?=\d)", r"\1_*_", run)


@pytest.mark.parametrize("case", CASES)
def test_runs_of_other_sizes_divide_alike(case: str) -> None:
    golden = load_run(CASES[case], ["--data.root=coco"]).optimizer
    alike = [run for run in list_recipes() if _without_size(run) == _without_size(CASES[case])]
    assert CASES[case] in alike
    for name in alike:
        run = load_run(name, ["--data.root=coco"]).optimizer
        # The rates differ by size; the recipes' own tests hold them against configurations.
        assert replace(run, lr=golden.lr, reference_batch=golden.reference_batch) == golden, name
