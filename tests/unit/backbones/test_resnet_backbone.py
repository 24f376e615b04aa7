"""ResNet: its options, what is frozen, initial values."""

from functools import partial
from math import sqrt
from typing import Any

import pytest
import torch
from torch import nn

import ziggurat
from ziggurat import ZigguratError
from ziggurat.backbones.resnet import (
    FrozenBatchNorm,
    ResNet,
    check_options,
    resnet50,
    resnet152,
    resnext101_32x8d,
)

mini = partial(
    ResNet,
    depths=(1, 1, 2, 1),
    groups=1,
    width_per_group=64,
    stride_in_1x1=False,
    norm="batch",
    output_stride=32,
    num_frozen_stages=0,
    drop_path_rate=0.0,
    in_channels=3,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop_path_rate": 0.1}, "no stochastic depth, got drop_path_rate=0.1"),
        ({"output_stride": 4}, "output_stride must be 8, 16 or 32, got 4"),
        ({"num_frozen_stages": 6}, "num_frozen_stages must be from 0 .* to 5 .*, got 6"),
        ({"num_frozen_stages": -1}, "num_frozen_stages must be from 0 .* to 5 .*, got -1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ZigguratError, match=message):
        resnet50(**options)


def test_an_unknown_norm_is_refused() -> None:
    # Not through resnet50: here, unlike at a user's, annotations are checked before.
    with pytest.raises(ZigguratError, match="one of batch, frozen, group, got 'layer'"):
        check_options("layer", output_stride=32, num_frozen_stages=0, drop_path_rate=0.0)


@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [
        (32, (4, 8, 16, 32), (1, 1, 1, 1)),
        (16, (4, 8, 16, 16), (1, 1, 1, 2)),
        (8, (4, 8, 8, 8), (1, 1, 2, 4)),
    ],
)
def test_stages_dilate_where_they_may_not_stride(
    output_stride: int, strides: tuple[int, ...], dilations: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        backbone: Any = mini(output_stride=output_stride)
        maps = backbone(torch.empty(1, 3, 97, 130))
    assert backbone.out_strides == strides
    for stage, dilation in zip(backbone.stages, dilations, strict=True):
        for block in stage.blocks:
            assert block.conv2.conv.dilation == (dilation, dilation)
    for features, stride in zip(maps, strides, strict=True):
        assert tuple(features.shape[2:]) == (-(-97 // stride), -(-130 // stride))


@pytest.mark.parametrize(
    ("name", "strides", "is_segmenter"),
    [
        ("upernet_resnet50_d8", (4, 8, 8, 8), True),
        ("semantic_fpn_resnet50_d8", (4, 8, 8, 8), True),
        ("segformer_resnet50_frozen", (4, 8, 16, 32), True),
        ("mask_rcnn_resnet50_frozen", (4, 8, 16, 32), False),
        ("retinanet_resnet50_caffe_dc5", (4, 8, 16, 16), False),
    ],
)
def test_models_are_built_on_them_by_name(
    name: str, strides: tuple[int, ...], is_segmenter: bool
) -> None:
    with torch.device("meta"):
        model: Any = ziggurat.create_model(name).eval()
        raw: Any = model(torch.empty(1, 3, 128, 128))
    assert model.backbone.out_strides == strides
    if is_segmenter:
        assert raw.shape == (1, 150, 32, 32)


@pytest.mark.parametrize("stride_in_1x1", [True, False])
def test_the_stride_is_in_one_convolution(stride_in_1x1: bool) -> None:
    with torch.device("meta"):
        backbone: Any = mini(stride_in_1x1=stride_in_1x1)
    block = backbone.stages[1].blocks[0]
    strides = [layer.conv.stride[0] for layer in (block.conv1, block.conv2, block.conv3)]
    assert strides == ([2, 1, 1] if stride_in_1x1 else [1, 2, 1])


def test_groups_make_the_middle_wider() -> None:
    with torch.device("meta"):
        backbone: Any = resnext101_32x8d()
    convolution = backbone.stages[3].blocks[2].conv2.conv
    assert (convolution.in_channels, convolution.groups) == (2048, 32)


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_maps_are_channels_last_and_norms_have_their_epsilon(norm: Any) -> None:
    backbone = mini(norm=norm)
    maps = backbone(torch.randn(2, 3, 64, 64))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in maps)
    kind = {"batch": nn.BatchNorm2d, "frozen": FrozenBatchNorm, "group": nn.GroupNorm}[norm]
    norms = [module for module in backbone.modules() if isinstance(module, kind)]
    assert len(norms) == 1 + 5 * 3 + 4
    assert {module.eps for module in norms} == {1e-5}
    if norm == "group":
        assert {module.num_groups for module in norms} == {32}


def test_a_frozen_norm_is_the_batch_norm_that_it_was() -> None:
    frozen, norm = FrozenBatchNorm(6), nn.BatchNorm2d(6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm(torch.randn(8, 6, 4, 4) * 3 + 1)
    x = torch.randn(2, 6, 3, 3)
    assert torch.equal(frozen(x), x)  # the initial one changes nothing
    frozen.load_state_dict(
        {key: value for key, value in norm.state_dict().items() if "tracked" not in key}
    )
    torch.testing.assert_close(frozen.train()(x), norm.eval()(x))
    assert not list(frozen.parameters())


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_frozen_stages_neither_learn_nor_count(count: int) -> None:
    backbone = mini(num_frozen_stages=count).eval().train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    maps = backbone(torch.randn(2, 3, 64, 64))
    frozen = ("stem.", "stages.0.", "stages.1.", "stages.2.", "stages.3.")[:count]
    for key, value in backbone.state_dict().items():
        if "running" in key:
            assert torch.equal(value, before[key]) == key.startswith(frozen), key
    if count == 5:
        assert not maps[-1].requires_grad
        return
    maps[-1].sum().backward()
    for key, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == key.startswith(frozen), key


def test_initial_values() -> None:
    backbone = mini()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            expected = sqrt(2 / (module.weight[0, 0].numel() * module.out_channels))
            spread = 5 * expected / sqrt(2 * module.weight.numel())
            assert module.weight.std().item() == pytest.approx(expected, abs=spread), name
            assert module.bias is None


def test_checkpointing_changes_no_gradient() -> None:
    backbone = mini(norm="group").train()
    images = torch.randn(1, 3, 64, 64)
    gradients = []
    for enable in (False, True):
        backbone.set_grad_checkpointing(enable)
        backbone.zero_grad()
        sum(x.square().mean() for x in backbone(images)).backward()
        gradients.append([p.grad.clone() for p in backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(backbone.parameters()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_folded_files_need_frozen_norms() -> None:
    """Statistics that a norm goes on gathering cannot start from a file that has none."""
    names = {"conv1_w": torch.zeros(64, 3, 7, 7), "res_conv1_bn_s": torch.ones(64)}
    with pytest.raises(ZigguratError, match="does not fit a ResNet backbone"):
        ziggurat.load_official(resnet50(stride_in_1x1=True), names)


def test_parameters_are_those_of_torchvision_without_its_classifier() -> None:
    with torch.device("meta"):
        counts = {b: sum(p.numel() for p in b().parameters()) for b in (resnet50, resnet152)}
    assert counts == {resnet50: 25_557_032 - 2_049_000, resnet152: 60_192_808 - 2_049_000}


def test_a_detector_on_a_resnet_has_no_stochastic_depth_by_default() -> None:
    with torch.device("meta"):
        model = ziggurat.create_model("retinanet", backbone="resnet50", head_channels=8)
        with pytest.raises(ZigguratError, match="no stochastic depth"):
            ziggurat.create_model("retinanet", backbone="resnet50", drop_path_rate=0.1)
    assert model.identity.name == "retinanet_resnet50"
