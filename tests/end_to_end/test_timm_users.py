"""What users of timm do after `import ziggurat`, and users of libraries that build on timm."""

import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler.cosine_lr import CosineLRScheduler
from torch.nn import functional as F

import ziggurat  # noqa: F401 - timm knows our models from here on


@pytest.mark.parametrize(
    "order",
    [
        pytest.param("ziggurat, timm", marks=pytest.mark.slow),
        "timm, ziggurat",
        "ziggurat.backbones.p2t, timm",  # which imports timm, before it is whole itself
    ],
)
def test_models_are_there_whichever_is_imported_first(order: str) -> None:
    code = f"""
import {order}
names = timm.list_models("p2t*")
assert "p2t_small" in names, names
assert timm.is_model("ziggurat_pvt_v2_b0") and timm.is_model("gpvit_l1")
from ziggurat.timm_bridge import hook
hook.install()
assert timm.list_models("p2t*") == names
"""
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_finetuning_as_timm_does_it() -> None:
    model: Any = timm.create_model("p2t_tiny", num_classes=3, drop_path_rate=0.1)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-2, layer_decay=0.8)
    scheduler = CosineLRScheduler(optimizer, t_initial=10)
    images, labels = torch.randn(6, 3, 64, 64), torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for step in range(8):
        scheduler.step(step)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    rates = {group["lr"] for group in optimizer.param_groups}
    assert len(rates) == 6  # stem, a block in each of four stages, head


def test_a_unet_of_segmentation_models_pytorch_trains() -> None:
    smp = pytest.importorskip(
        "segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed"
    )
    model = smp.Unet("tu-p2t_tiny", encoder_weights=None, in_channels=4, classes=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.randn(2, 4, 64, 64)
    target = (images[:, 0] > 0).long()
    losses = []
    for _ in range(6):
        logits = model(images)
        assert logits.shape == (2, 2, 64, 64)
        loss = F.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None]
        assert idle == []
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
