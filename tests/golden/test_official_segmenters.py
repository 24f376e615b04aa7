"""Every official segmenter configuration has a model of ours with its parameters and entries."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ziggurat
from ziggurat.models.semantic_segmenter import SemanticSegmenter

DATA = Path(__file__).parent / "data" / "dense" / "all_configs.json"
SIZES = {"t": "tiny", "s": "small", "m": "medium", "b": "base", "l": "large"}
CLASSES = {"pascalcontext": 60, "pascalcontext_59": 59, "cocostuff10k": 171, "city": 19}
"""Of the data sets in the names of configurations; all others are for ADE20K."""
P2T_WIDTHS = {"t": 384, "s": 512, "b": 512, "l": 640}
CASES = {
    "semantic_fpn_p2t": "dense/seg_semfpn_p2t_small",
    "semantic_fpn_pvt": "dense/seg_semfpn_pvt_small",
    "segformer_gpvit": "dense/seg_segformer_gpvit_l1",
    "upernet_gpvit": "dense/seg_upernet_gpvit_l1",
    "topformer_seg_tiny": "backbones/topformer_tiny-seg-ade20k-512x512",
    "topformer_seg": "backbones/topformer_small-seg-ade20k-512x512",
}
"""Case that lists the official names of each system in some size."""
CONFIGS: dict[str, dict[str, Any]] = {
    name: facts
    for name, facts in json.loads(DATA.read_text())["configs"].items()
    if facts.get("model_type") == "EncoderDecoder" and facts.get("params")
}


def our_model(config: str) -> SemanticSegmenter:
    """Build our model without memory for its values."""
    stem = Path(config).stem
    if found := re.match(r"sem_fpn_p2t_([tsbl])_|fpn_pvt_([tsml])_", stem):
        family, size = ("p2t", found[1]) if found[1] else ("pvt", found[2])
        name = f"semantic_fpn_{family}_{SIZES[size]}"
    elif found := re.match(r"(gpvit_l\d)_(segformer|upernet)", stem):
        name = f"{found[2]}_{found[1]}"
    else:
        found = re.match(r"topformer_(tiny|small|base)", stem)
        assert found, stem
        name = f"topformer_seg_{found[1]}" + ("_cityscapes" if stem.endswith("city") else "")
    ends = [count for end, count in CLASSES.items() if stem.endswith(end)]
    with torch.device("meta"):
        model = ziggurat.create_model(name, num_classes=ends[0] if ends else 150)
    assert isinstance(model, SemanticSegmenter)
    return model


def test_all_are_there() -> None:
    assert len(CONFIGS) == 35


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_and_entries(
    config: str, golden: Callable[[str], Any], hash_of_entries: Callable[..., str]
) -> None:
    model, facts = our_model(config), CONFIGS[config]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    entries = len(model.state_dict())
    unused: dict[str, tuple[int, ...]] = {}
    if found := re.search("sem_fpn_p2t_([tsbl])_", config):
        # The official ones carry the ImageNet classifier, which nothing reads.
        width = P2T_WIDTHS[found[1]]
        unused = {"backbone.head.weight": (1000, width), "backbone.head.bias": (1000,)}
        parameters += 1000 * (width + 1)
        entries += 2
    assert (parameters, entries) == (facts["params"], facts["entries"])
    name = model.identity.name
    case = next(case for start, case in CASES.items() if name.startswith(start))
    names = [name for name, *_ in golden(case).facts["entries"]]
    assert hash_of_entries(model, names, unused) == facts["entries_sha256"]
