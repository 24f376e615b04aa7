"""Every official detector configuration has a model of ours with its parameters and entries.

The file lists what the official code builds for each configuration: how many parameters and how
many entries of the state dict. Full lists of names are checked where whole systems are (the loading
of eleven files with every entry accounted for).
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

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


LOADABLE = {name: facts for name, facts in configurations().items() if facts.get("params")}


def test_all_are_there() -> None:
    assert len(LOADABLE) == 51
    # The 3x configurations of GPViT name an unpublished schedule; their models are the 1x ones.
    others = set(configurations()) - set(LOADABLE)
    assert {our_name(name) for name in others} <= {our_name(name) for name in LOADABLE}


@pytest.mark.parametrize("config", LOADABLE)
def test_parameters_and_entries(config: str) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(our_name(config))
    facts = LOADABLE[config]
    assert sum(parameter.numel() for parameter in model.parameters()) == facts["params"]
    assert len(model.state_dict()) == facts["entries"]
