"""Golden weights in the files of Paddle and Detectron load as those of PyTorch do."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ziggurat
from ziggurat.backbones.resnet import resnet50

TOLERANCE = 2e-5


def _arrays(case: Any) -> dict[str, Any]:
    return {name: value.numpy() for name, value in case.weights().items()}


@pytest.mark.parametrize("kind", ["plain", "with metadata", "from a training run"])
def test_pdparams(kind: str, golden: Callable[[str], Any], tmp_path: Path) -> None:
    case = golden("backbones/topformer_tiny-paddle-192x256")
    weights = _arrays(case)
    averaged = {name: np.zeros_like(value) for name, value in weights.items()}
    content = {
        "plain": weights,
        "with metadata": weights | {"StructuredToParameterName@@": {n: "x" for n in weights}},
        "from a training run": {"model": weights, "model_ema": averaged, "epoch": 300},
    }[kind]
    path = tmp_path / "model.pdparams"
    path.write_bytes(pickle.dumps(content, protocol=2 if kind == "plain" else 4))
    model = ziggurat.create_model("topformer_tiny").eval()
    report = ziggurat.load_official(model, path)
    assert len(report.matched) == len(weights)
    with torch.inference_mode():
        assert case.error("logits", model(case.images())) < TOLERANCE


def test_pdparams_of_a_segmenter(golden: Callable[[str], Any], tmp_path: Path) -> None:
    case = golden("dense/seg_topformer_tiny_ade20k")
    statistics = {"running_mean": "_mean", "running_var": "_variance"}
    weights = {}
    for name, value in _arrays(case).items():
        start, _, end = name.rpartition(".")
        if end != "num_batches_tracked":  # which Paddle does not keep
            weights[f"{start}.{statistics.get(end, end)}"] = value
    path = tmp_path / "model.pdparams"
    path.write_bytes(pickle.dumps(weights, protocol=4))
    model = ziggurat.create_model("topformer_seg_tiny").eval()
    report = ziggurat.load_official(model, path)
    assert len(report.matched) == len(weights)
    assert "head.mixing.norm.num_batches_tracked" in dict(report.absent)
    with torch.inference_mode():
        assert case.error("logits", model(case.images())) < TOLERANCE


def test_detectron_pkl(golden: Callable[[str], Any], tmp_path: Path) -> None:
    case = golden("fpt/import_detectron_imagenet_pkl")
    blobs = _arrays(case)
    momenta = {f"{name}_momentum": np.zeros_like(value) for name, value in blobs.items()}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs | momenta, "cfg": "TYPE: x"}, protocol=2))
    body = resnet50(norm="frozen", stride_in_1x1=True)
    report = ziggurat.load_official(body, path)
    reasons = dict(report.ignored)
    assert {reasons[name] for name in momenta} == {"state of the optimizer"}
    assert len(report.matched) + len(report.ignored) == len(blobs) + len(momenta)
    state = body.state_dict()
    assert len(report.matched) > 150
    for official, ours in report.matched:
        assert np.array_equal(state[ours].numpy(), blobs[official]), official
