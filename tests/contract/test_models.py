"""What every listed model and backbone keeps; a new one is covered by being listed."""

from typing import Any

import pytest
import torch

import ziggurat
from ziggurat.types import Detections
from ziggurat.zoo import BACKBONES, MODELS

SIZES = [(96, 128), (97, 101)]


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", SIZES)
def test_backbone_maps_have_the_promised_channels_and_strides(
    name: str, size: tuple[int, int]
) -> None:
    with torch.device("meta"):
        backbone = ziggurat.create_backbone(name)
        maps = backbone(torch.empty(2, 3, *size))
    for features, channels, stride in zip(
        maps, backbone.out_channels, backbone.out_strides, strict=True
    ):
        expected = (2, channels, -(-size[0] // stride), -(-size[1] // stride))
        assert tuple(features.shape) == expected


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_maps_are_channels_last(name: str) -> None:
    with torch.device("meta"):
        maps = ziggurat.create_backbone(name)(torch.empty(2, 3, 96, 128))
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    model = ziggurat.create_model(name, num_classes=3, drop_path_rate=0.0).train()
    images = torch.randn(2, 3, 96, 97)
    targets: Any = torch.tensor([0, 2])
    if MODELS[name].task == "detection":
        box = torch.tensor([[10.0, 10.0, 60.0, 70.0]])
        targets = [Detections(box, torch.ones(1), torch.tensor([i])) for i in range(2)]
    losses = model.loss(model(images), targets)
    torch.stack(list(losses.values())).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", MODELS)
def test_decoding_gives_one_result_an_image(name: str) -> None:
    model = ziggurat.create_model(name, num_classes=3).eval()
    sizes = [(96, 96)] * 2
    with torch.inference_mode():
        raw = model(torch.randn(2, 3, 96, 96), sizes)
        assert len(model.decode(raw, sizes, [(50, 60)] * 2)) == 2


@pytest.mark.parametrize("name", BACKBONES)
def test_a_batch_gives_what_its_images_give(name: str) -> None:
    backbone = ziggurat.create_backbone(name).eval()
    images = torch.randn(2, 3, 97, 80)
    with torch.inference_mode():
        together = backbone(images)
        alone = backbone(images[1:])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:], b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_exports_and_gives_the_same(name: str) -> None:
    backbone = ziggurat.create_backbone(name).eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        program = torch.export.export(backbone, (images,))
        for a, b in zip(program.module()(images), backbone(images), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
