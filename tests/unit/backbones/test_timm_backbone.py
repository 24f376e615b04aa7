"""Networks of timm as backbones."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.drop import DropPath

import ziggurat
from ziggurat import ZigguratError
from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.checkpoints import timm_backbone
from ziggurat.models.detector import Detector
from ziggurat.types import Detections


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("resnet18", (64, 128, 256, 512), (4, 8, 16, 32)),
        ("resnet18.a1_in1k", (64, 128, 256, 512), (4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768), (4, 8, 16, 32)),
        ("vit_tiny_patch16_224", (192, 192, 192), (16, 16, 16)),
    ],
)
def test_maps_are_as_promised(
    name: str, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name)
        maps = backbone(torch.empty(2, 3, 224, 224))
    assert (backbone.out_channels, backbone.out_strides) == (channels, strides)
    assert [tuple(x.shape) for x in maps] == [
        (2, c, 224 // s, 224 // s) for c, s in zip(channels, strides, strict=True)
    ]
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in maps)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet19", {}, "unknown network of timm 'resnet19'; did you mean 'resnet18'"),
        ("hf-hub:timm/resnet18", {}, "unknown network of timm"),
        ("local-dir:/tmp", {}, "unknown network of timm"),
        ("../resnet18", {}, "unknown network of timm"),
        ("resnet18.no_such_tag", {}, "cannot build .*no_such_tag"),
        ("tresnet_m", {}, "cannot build 'tresnet_m' as a backbone"),
        ("vgg11", {"drop_path_rate": 0.1}, "cannot build 'vgg11' .*drop_path_rate"),
        ("resnet18", {"in_channels": 0}, "in_channels must be at least 1"),
    ],
)
def test_wrong_requests_are_refused(name: str, options: dict[str, float], message: str) -> None:
    with torch.device("meta"), pytest.raises(ZigguratError, match=message):
        ziggurat.create_backbone(f"timm:{name}", **options)  # type: ignore[arg-type]


def test_options_reach_the_network() -> None:
    with torch.device("meta"):
        backbone = ziggurat.create_backbone("timm:resnet18", in_channels=5, drop_path_rate=0.2)
        backbone(torch.empty(1, 5, 64, 64))
    rates = [part.drop_prob for part in backbone.modules() if isinstance(part, DropPath)]
    assert max(rates) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",
        "swinv2_cr_tiny_224",
        "deit_tiny_distilled_patch16_224",
        "vit_small_patch14_dinov2",
        "vit_small_patch16_dinov3",
        "twins_svt_small",
        "mobilevitv2_050",  # its last map has an even number of rows
        "naflexvit_base_patch16_gap",
    ],
)
def test_networks_that_timm_builds_for_one_size_take_any(name: str) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name)
        maps = backbone(torch.empty(1, 3, 160, 224))
    assert backbone.only_size is None
    assert [x.shape[1] for x in maps] == list(backbone.out_channels)
    for x, stride in zip(maps, backbone.out_strides, strict=True):
        assert abs(x.shape[2] - 160 / stride) <= 1 and abs(x.shape[3] - 224 / stride) <= 1


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("coat_lite_tiny", 224),  # refuses another size itself
        ("hiera_tiny_224", 224),  # fails
        ("crossvit_9_240", 240),  # resizes every image to its own size
        ("mvitv2_tiny", 224),  # fails with values only, not on the meta device
    ],
)
def test_models_whose_images_differ_in_size_refuse_networks_of_one_size(
    name: str, side: int
) -> None:
    message = f"'timm:{name}' takes images of {side} x {side} pixels only, and those of a "
    with torch.device("meta"):
        assert TimmBackbone(name).only_size == (side, side)
        for system in ("retinanet", "semantic_fpn"):
            with pytest.raises(ZigguratError, match=message + system):
                ziggurat.create_model(system, backbone=f"timm:{name}")


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_vit", "twins_svt_small"])
def test_a_detector_learns_at_another_size(name: str) -> None:
    detector = ziggurat.create_model(
        "retinanet", backbone=f"timm:{name}", num_classes=3, head_channels=16, head_depth=1
    ).train()
    assert isinstance(detector, Detector)
    target = Detections(torch.tensor([[4.0, 8.0, 60.0, 50.0]]), torch.ones(1), torch.tensor([1]))
    raw = detector(torch.randn(1, 3, 64, 96))
    sum(detector.loss(raw, [target], [(64, 96)]).values(), torch.zeros(())).backward()
    assert all(parameter.grad is not None for parameter in detector.parameters())


def test_maps_of_a_network_without_padding_are_smaller() -> None:
    with torch.device("meta"):
        assert TimmBackbone("inception_v3").only_size is None


def test_images_of_a_size_that_the_network_does_not_take() -> None:
    with torch.device("meta"):
        fixed, divided = TimmBackbone("coat_lite_tiny"), TimmBackbone("dla34")
        with pytest.raises(ZigguratError, match="images of 224 x 224 pixels only, got 96 x 128"):
            fixed(torch.empty(1, 3, 96, 128))
        with pytest.raises(ZigguratError, match="97 x 128 pixels .*multiples of 32"):
            TimmBackbone("swin_tiny_patch4_window7_224")(torch.empty(1, 3, 97, 128))
        with pytest.raises(ZigguratError, match="97 x 130 pixels .*multiples of 32"):
            divided(torch.empty(1, 3, 97, 130))
        with pytest.raises(RuntimeError, match="channel"):  # a defect keeps its words
            divided(torch.empty(1, 4, 96, 96))


def test_gradient_checkpointing_where_timm_has_it() -> None:
    with torch.device("meta"):
        vit, without = TimmBackbone("vit_tiny_patch16_224"), TimmBackbone("hrnet_w18_small")
        vit.set_grad_checkpointing()
        assert vit.model.model.grad_checkpointing
        with pytest.raises(ZigguratError, match="no gradient checkpointing"):
            without.set_grad_checkpointing()


def test_a_detector_takes_any_strides() -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(
            "retinanet", backbone="timm:resnet18", num_classes=3, head_channels=16, head_depth=1
        )
        raw = model(torch.empty(1, 3, 96, 128))
        for name, size in (("timm:vit_tiny_patch16_224", 224), ("topformer_tiny", 128)):
            for system in ("retinanet", "faster_rcnn"):
                other = ziggurat.create_model(
                    system, backbone=name, num_classes=3, head_channels=16, drop_path_rate=0.0
                )
                assert isinstance(other, Detector)
                levels = other.neck(other.pyramid(other.backbone(torch.empty(1, 3, size, size))))
                assert isinstance(strides := other.neck.out_strides, tuple)
                assert [size // level.shape[2] for level in levels][:3] == list(strides)[:3]
    assert len(raw.cls_logits) == 5
    assert model.identity.name == "retinanet_timm:resnet18"


def test_offline_only_what_timm_has_kept_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIGGURAT_OFFLINE", "1")
    asked: list[tuple[str, str]] = []

    def look(repository: str, name: str, *, revision: str | None) -> str | None:
        assert revision is None
        asked.append((repository, name))
        kept = tmp_path / name
        return str(kept) if kept.exists() else None

    monkeypatch.setattr(timm_backbone, "try_to_load_from_cache", look)
    with pytest.raises(ZigguratError, match="'resnet10t' are not on this machine, and downloads"):
        ziggurat.create_backbone("timm:resnet10t", pretrained=True)
    repository = "timm/resnet10t.c3_in1k"
    assert asked == [(repository, "model.safetensors"), (repository, "pytorch_model.bin")]
    weights = timm.create_model("resnet10t").state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    backbone = ziggurat.create_backbone("timm:resnet10t", pretrained=True)
    assert torch.equal(backbone.state_dict()["model.conv1.0.weight"], weights["conv1.0.weight"])
