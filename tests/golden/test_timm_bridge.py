"""Official files give official logits through timm's own loaders, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import ziggurat  # noqa: F401 - timm knows our models from here on

TOLERANCE = 2e-5


@pytest.mark.parametrize(
    ("timm_name", "case_name"),
    [
        ("p2t_tiny", "p2t_tiny-192x256"),
        ("pvt_tiny", "pvt_tiny-192x256"),
        ("ziggurat_pvt_v2_b0", "pvt_v2_b0-192x256"),
        ("topformer_tiny", "topformer_tiny-paddle-192x256"),
        ("gpvit_l1", "gpvit_l1-192x256"),
    ],
)
def test_timm_loads_official_files(
    timm_name: str, case_name: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    case = golden(f"backbones/{case_name}")
    file = case.file(tmp_path)
    model = timm.create_model(timm_name, checkpoint_path=file).eval()
    overlay = {"file": str(file)}
    other = timm.create_model(timm_name, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    with torch.inference_mode():
        logits = model(case.images())
        assert torch.equal(logits, other(case.images()))
    assert case.error("logits", logits) < TOLERANCE
