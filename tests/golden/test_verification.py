"""`ziggurat verify` knows a golden file, and holds its outputs against the official code's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ziggurat import pretrained
from ziggurat.cli.main import main
from ziggurat.errors import ZigguratError
from ziggurat.verification.golden import TOLERANCE, golden_entry, golden_values
from ziggurat.weights.catalogue import FILES

OTHERS = ("pvt_tiny", "pvt_v2_b0", "pvt_v2_b2_li", "topformer_tiny", "gpvit_l1")


@pytest.mark.parametrize(
    "model", ["p2t_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_golden_file_is_recognised_and_fits(
    model: str,
    golden: Callable[[str], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = golden_values(model)
    assert values is not None
    case = golden(f"backbones/{values.case}")
    official = case.values["logits"].reshape(-1)[:: values.stride]
    np.testing.assert_allclose(values.logits, official, rtol=1e-6)
    assert main(["verify", model, str(case.file(tmp_path)), "--json"]) == 0
    certificate = json.loads(capsys.readouterr().out)
    assert certificate["golden"]["case"] == values.case
    assert certificate["golden"]["error"] < TOLERANCE
    assert certificate["matched"] + len(certificate["ignored"]) == len(case.facts["entries"])


def test_formula_is_that_of_the_golden_files(golden: Callable[[str], Any]) -> None:
    for name, value in golden("backbones/gpvit_l1-224").weights().items():
        assert (golden_entry(name, tuple(value.shape)) == value).all(), name


def test_a_download_is_compared_with_the_backbone_of_its_system(
    golden: Callable[[str], Any], tmp_path: Path
) -> None:
    # GPViT's one-stage detectors have a backbone of their own.
    file = golden("dense/det_retinanet_gpvit_l1").file(tmp_path)
    pretrained._check_fits(FILES["gpvit_l1_retinanet_1x.pth"], file)
    for other in ("gpvit_l1_maskrcnn_1x.pth", "gpvit_l2_retinanet_1x.pth", "pvt_tiny.pth"):
        with pytest.raises(ZigguratError, match="does not fit"):
            pretrained._check_fits(FILES[other], file)
