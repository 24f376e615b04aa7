"""Every official detector configuration has a model of ours with its parameters and entries.

The file lists what the official code builds for each configuration: how many parameters, how many
entries of the state dict, and a hash of their names and shapes.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

import ziggurat

DATA = Path(__file__).parent / "data" / "dense" / "all_configs.json"
SYSTEMS = {
    "retinanet": "retinanet",
    "mask_rcnn": "mask_rcnn",
    "maskrcnn": "mask_rcnn",
    "cascade_mask_rcnn": "cascade_mask_rcnn",
    "atss": "atss",
    "gfl": "gfl",
    "sparse_rcnn": "sparse_rcnn",
    "detr": "detr",
}
REST = {
    "retinanet": "retinanet_pvt_small",
    "mask_rcnn": "maskrcnn_pvt_small",
    "cascade_mask_rcnn": "cascade_maskrcnn_pvt_v2_b2",
    "atss": "atss_pvt_v2_b2",
    "gfl": "gfl_pvt_v2_b2",
    "sparse_rcnn": "sparsercnn_pvt_v2_b2",
    "detr": "detr_pvt_small",
}
"""Case that lists the names of each system behind its backbone."""
BACKBONES = {
    "pvt_v2_b2_li": "pvt_v2_b2_li-det-320x224",
    "pvt_v2": "pvt_v2_b2-det-256x320",
    "pvt": "pvt_small-det-256x320",
    "p2t": "p2t_small-det-256x320",
}
"""Case that lists the names of each backbone."""
SIZES = {"t": "tiny", "s": "small", "m": "medium", "b": "base", "l": "large"}


def configurations() -> dict[str, dict[str, Any]]:
    content: dict[str, Any] = json.loads(DATA.read_text())["configs"]
    return {
        name: facts
        for name, facts in content.items()
        if "/detection/" in name or "/mmdetection/" in name
    }


def our_name(config: str) -> str:
    """The name of our model: "pvt/.../mask_rcnn_pvt_s_fpn_1x_coco.py" -> "mask_rcnn_pvt_small"."""
    stem = Path(config).stem
    gpvit = re.match(r"(gpvit_l\d)_(maskrcnn|retinanet)_", stem)
    if gpvit:
        return f"{SYSTEMS[gpvit[2]]}_{gpvit[1]}"
    found = re.match(r"([a-z_]+?)_(pvt_v2_b\d(?:_li)?|pvt_[tsml]|p2t_[tsbl]|r50)_", stem)
    assert found, stem
    backbone = found[2]
    if backbone == "r50":
        backbone = "resnet50"
    elif "v2" not in backbone:
        family, size = backbone.split("_")
        backbone = f"{family}_{SIZES[size]}"
    return f"{SYSTEMS[found[1]]}_{backbone}"


def official_names(ours: str, golden: Callable[[str], Any]) -> list[str]:
    """Entries of the official system of some size, in order."""

    def listed(case: str) -> list[str]:
        return [name for name, *_ in golden(case).facts["entries"]]

    system, backbone = next(
        (name, ours.removeprefix(f"{name}_")) for name in REST if ours.startswith(f"{name}_")
    )
    if backbone.startswith("gpvit"):
        return listed(f"dense/det_{system.replace('mask_rcnn', 'maskrcnn')}_gpvit_l1")
    if backbone == "resnet50":
        with torch.device("meta"):
            entries = torchvision.models.resnet50().state_dict()
        first = [f"backbone.{name}" for name in entries if not name.startswith("fc.")]
    else:
        first = listed(
            f"backbones/{next(BACKBONES[k] for k in BACKBONES if backbone.startswith(k))}"
        )
    rest = listed(f"dense/det_{REST[system]}")
    return first + [name for name in rest if not name.startswith("backbone.")]


LOADABLE = {name: facts for name, facts in configurations().items() if facts.get("params")}


def test_all_are_there() -> None:
    assert len(LOADABLE) == 51
    # The 3x configurations of GPViT name an unpublished schedule; their models are the 1x ones.
    others = set(configurations()) - set(LOADABLE)
    assert {our_name(name) for name in others} <= {our_name(name) for name in LOADABLE}


@pytest.mark.parametrize("config", LOADABLE)
def test_parameters_and_entries(
    config: str, golden: Callable[[str], Any], hash_of_entries: Callable[..., str]
) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(our_name(config))
    facts = LOADABLE[config]
    assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
    assert len(model.state_dict()) == facts["entries"]
    names = official_names(our_name(config), golden)
    assert hash_of_entries(model, names) == facts["entries_sha256"]
