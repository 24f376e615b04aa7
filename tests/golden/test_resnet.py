"""ResNets give what FPT's bodies and torchvision's models give, from files in their layouts."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

import ziggurat
from ziggurat.backbones.resnet import (
    FrozenBatchNorm,
    ResNet,
    resnet50,
    resnet50_caffe,
    resnext101_32x8d,
)
from ziggurat.backbones.resnet_dense import resnet50_caffe_dc5
from ziggurat.backbones.resnet_detectron import resnet50_gn, resnext101_32x8d_caffe2

TOLERANCE = 2e-5

Build = Callable[[], ResNet]

BODIES: dict[str, Build] = {
    "body_resnet50_caffe": resnet50_caffe,
    # Of no name here: torchvision's strides with the levels of Detectron.
    "body_resnet50_stride3x3": partial(resnet50, norm="frozen", num_frozen_stages=2),
    "body_resnet50_dilated_res5": resnet50_caffe_dc5,
    "body_resnet50_gn": resnet50_gn,
    "body_resnext101_32x8d": resnext101_32x8d_caffe2,
}


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("body_resnet50_caffe", "Conv_Body.conv_body."),
        ("body_resnet50_stride3x3", ""),
        ("body_resnet50_dilated_res5", ""),
        ("body_resnet50_gn", ""),
        pytest.param("body_resnext101_32x8d", "", marks=pytest.mark.slow),
    ],
)
def test_body_gives_the_official_maps(name: str, prefix: str, golden: Callable[[str], Any]) -> None:
    case = golden(f"fpt/{name}")
    body = BODIES[name]().eval()
    weights = {prefix + key: value for key, value in case.weights().items()}
    others = {"Conv_Body.st.conv_qs.weight": torch.zeros(1), "RPN.FPN_RPN_conv.bias": torch.ones(1)}
    report = ziggurat.load_official(body, {**weights, **others} if prefix else weights)
    assert len(report.matched) == len(weights)
    assert {name for name, _ in report.ignored} == (set(others) if prefix else set())
    draw = np.random.RandomState(0).standard_normal(case.facts["input_shape"]["x"])
    with torch.inference_mode():
        maps = body(torch.from_numpy(draw.astype(np.float32)))
    for level, features in zip(("res2", "res3", "res4", "res5"), maps, strict=True):
        assert case.error(level, features) < TOLERANCE, level


@pytest.mark.parametrize("name", BODIES)
def test_as_many_values_stay_fixed_as_in_the_official_body(
    name: str, golden: Callable[[str], Any]
) -> None:
    facts = golden(f"fpt/{name}").facts
    with torch.device("meta"):
        body = BODIES[name]()
    frozen = [p for p in body.parameters() if not p.requires_grad]
    for norm in body.modules():
        if isinstance(norm, FrozenBatchNorm):  # parameters there, buffers here
            frozen += [norm.weight, norm.bias]  # type: ignore[list-item]
    assert len(frozen) == facts["frozen_parameters"]
    assert sum(value.numel() for value in frozen) == facts["frozen_numel"]


def scale_and_shift(norm: FrozenBatchNorm) -> tuple[Tensor, Tensor]:
    """What the norm does to a map of zeros and to a map of ones tells what it multiplies by."""
    channels = len(norm.weight)
    shift, moved = (norm(torch.full((1, channels, 1, 1), value)).flatten() for value in (0.0, 1.0))
    return moved - shift, shift


@pytest.mark.parametrize("name", ["import_caffe_pth", "import_detectron_imagenet_pkl"])
def test_imported_weights_are_those_that_the_official_code_makes(
    name: str, golden: Callable[[str], Any]
) -> None:
    case = golden(f"fpt/{name}")
    body = resnet50(norm="frozen", stride_in_1x1=True)
    report = ziggurat.load_official(body, case.weights())
    assert len(report.matched) + len(report.ignored) == len(case.facts["entries"])
    folded: dict[str, Tensor] = {}
    for key, module in body.named_modules():
        if isinstance(module, FrozenBatchNorm):
            folded[f"{key}.weight"], folded[f"{key}.bias"] = scale_and_shift(module)
    own = {**body.state_dict(), **folded}
    assert len(case.facts["outputs"]) > 5
    for official in case.facts["outputs"]:
        assert case.error(official, own[own_name(official)]) < TOLERANCE, official


def own_name(official: str) -> str:
    """Our name of an entry of FPT's body."""
    stage, *rest = official.split(".")
    if stage == "res1":
        return "stem." + rest[0].replace("conv1", "conv").replace("bn1", "norm") + "." + rest[1]
    block, layer, *entry = rest
    if layer == "downsample":
        part = f"shortcut.{'conv' if entry[0] == '0' else 'norm'}"
    else:
        part = f"conv{layer[-1]}.{'conv' if layer.startswith('conv') else 'norm'}"
    return f"stages.{int(stage[3]) - 2}.blocks.{block}.{part}.{entry[-1]}"


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    """Give norms statistics that are not those of an untrained model."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn_like(module.weight)
            module.running_var = 1 + 0.2 * torch.rand_like(module.weight)
            module.weight.data = 0.5 + 0.2 * torch.rand_like(module.weight)
            module.bias.data = 0.1 * torch.randn_like(module.bias)
    return model.eval()


def torchvision_maps(model: Any, images: Tensor) -> list[Tensor]:
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    maps = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = stage(x)
        maps.append(x)
    return maps


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("norm", ["batch", "frozen"])
@pytest.mark.parametrize("size", [(65, 71), pytest.param((64, 96), marks=pytest.mark.slow)])
def test_resnet50_gives_the_maps_of_torchvision(norm: Any, size: tuple[int, int]) -> None:
    theirs = randomized(torchvision.models.resnet50())
    ours = resnet50(norm=norm).eval()
    weights: Mapping[str, Tensor] = theirs.state_dict()
    report = ziggurat.load_official(ours, weights)
    ignored = 2 if norm == "batch" else 2 + 53  # the classifier, and counts of batches
    assert len(report.ignored) == ignored
    assert len(report.matched) == len(weights) - ignored
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        for mine, other in zip(ours(images), torchvision_maps(theirs, images), strict=True):
            assert relative(mine, other) < 1e-5


@pytest.mark.slow
def test_resnext_gives_the_maps_of_torchvision() -> None:
    theirs = randomized(torchvision.models.resnext101_32x8d())
    ours = resnext101_32x8d().eval()
    ziggurat.load_official(ours, theirs.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        for mine, other in zip(ours(images), torchvision_maps(theirs, images), strict=True):
            assert relative(mine, other) < 1e-5
