"""Which images a ResNet file was trained on, and whether a backbone gets those."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ziggurat import zoo
from ziggurat.backbones.resnet import ResNet, resnet50, resnet50_caffe
from ziggurat.checkpoints.official import load_official, load_official_backbone
from ziggurat.checkpoints.resnet import saw_levels
from ziggurat.data.channels import normalize_levels
from ziggurat.errors import ZigguratError
from ziggurat.preprocessing import CAFFE_PIXELS, IMAGENET_PIXELS, FitAligned, FitInside, Pixels
from ziggurat.pretrained import create_backbone
from ziggurat.weights.catalogue import files_for
from ziggurat.zoo import backbones
from ziggurat.zoo.backbones import RESNETS, BackboneBuilder

PIXELS = {
    # Trained by torchvision, on RGB less its mean and divided by its deviation.
    "resnet50": IMAGENET_PIXELS,
    "resnet101": IMAGENET_PIXELS,
    "resnet152": IMAGENET_PIXELS,
    "resnext101_32x8d": IMAGENET_PIXELS,
    "resnet50_frozen": IMAGENET_PIXELS,
    "resnet101_frozen": IMAGENET_PIXELS,
    "resnet152_frozen": IMAGENET_PIXELS,
    "resnet50_d8": IMAGENET_PIXELS,
    "resnet101_d8": IMAGENET_PIXELS,
    # Trained in Caffe by the authors, on BGR levels less their mean; FPT begins with them.
    "resnet50_caffe": CAFFE_PIXELS,
    "resnet101_caffe": CAFFE_PIXELS,
    "resnet152_caffe": CAFFE_PIXELS,
    "resnet50_caffe_dc5": CAFFE_PIXELS,
    "resnet101_caffe_dc5": CAFFE_PIXELS,
    # Trained in Caffe2, and read by Detectron, which feeds all its networks as Caffe did.
    "resnet50_gn": CAFFE_PIXELS,
    "resnet101_gn": CAFFE_PIXELS,
    "resnext101_32x8d_caffe2": CAFFE_PIXELS,
}
"""What the published weights of each ResNet were trained on, and why."""


def photos() -> np.ndarray:
    """Smooth scenes with edges, whose levels vary as those of photos do."""
    rng = np.random.default_rng(0)
    scenes = np.empty((6, 96, 96, 3))
    y, x = np.mgrid[:96, :96]
    for scene in scenes:
        scene[:] = rng.uniform(60, 190, 3)
        for _ in range(12):
            left, top = rng.integers(0, 80, 2)
            scene[top : top + 30, left : left + 30] = rng.uniform(0, 255, 3)
        scene += 25 * np.sin(x / rng.uniform(3, 20) + y / rng.uniform(3, 20))[..., None]
    return scenes.clip(0, 255).astype(np.uint8)


def first_layer(filters: Tensor, pixels: Pixels) -> dict[str, Tensor]:
    """The first convolution, and the statistics that training finds behind it."""
    expected = FitInside(mean=pixels.mean, std=pixels.std, channel_order=pixels.channel_order)
    images = np.stack([normalize_levels(photo, expected) for photo in photos()])
    maps = F.conv2d(torch.from_numpy(images).permute(0, 3, 1, 2), filters, stride=2)
    return {"conv1.weight": filters, "bn1.running_var": maps.var(dim=(0, 2, 3))}


@pytest.mark.parametrize("smoothing", [1, 3, 7])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_statistics_tell_levels_from_normalised_pixels(smoothing: int, scale: float) -> None:
    torch.manual_seed(0)
    noise = torch.randn(64, 3, 6 + smoothing, 6 + smoothing)
    filters = scale * F.avg_pool2d(noise, smoothing, stride=1)
    filters[:5] = 0  # published networks have filters that do nothing
    assert saw_levels(first_layer(filters, CAFFE_PIXELS)) is True
    assert saw_levels(first_layer(filters, IMAGENET_PIXELS)) is False
    constant = torch.ones(64, 3, 7, 7)  # nothing varies more
    assert saw_levels(first_layer(constant, IMAGENET_PIXELS)) is False


@pytest.mark.parametrize(
    "name", ["conv1_w", "res1.conv1.weight", "Conv_Body.conv_body.res1.conv1.weight"]
)
def test_names_of_detectron_and_fpt_tell_it(name: str) -> None:
    assert saw_levels({name: torch.zeros(64, 3, 7, 7)}) is True


def test_other_files_do_not_tell() -> None:
    assert saw_levels({}) is None
    assert saw_levels({"conv1.weight": torch.ones(64, 3, 7, 7)}) is None
    assert saw_levels({"patch_embed1.proj.weight": torch.ones(1)}) is None


def test_a_file_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    filters = torch.randn(64, 3, 7, 7)
    file = tmp_path / "file.pth"
    torch.save(first_layer(filters, CAFFE_PIXELS), file)
    with torch.device("meta"):
        backbone = zoo.create_backbone("resnet50")
    message = "was trained on BGR levels .* resnet50 is for weights trained on normalised RGB"
    with pytest.raises(ZigguratError, match=message):
        load_official_backbone(backbone, "resnet50", file)
    with pytest.raises(ZigguratError, match="another file, or a backbone such as resnet50_c"):
        create_backbone("resnet50", pretrained=file)
    torch.save(first_layer(filters, IMAGENET_PIXELS), file)
    with pytest.raises(ZigguratError, match="was trained on normalised RGB, .* such as resnet50$"):
        create_backbone("resnet50_caffe", pretrained=file)


def test_a_resnet_of_timm_refuses_levels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    filters = torch.randn(64, 3, 7, 7)
    file = tmp_path / "file.pth"
    torch.save(first_layer(filters, CAFFE_PIXELS), file)
    with pytest.raises(ZigguratError, match="was trained on BGR levels .* 'resnet18' of timm gets"):
        create_backbone("timm:resnet18", pretrained=file)
    torch.save(first_layer(filters, IMAGENET_PIXELS), file)
    with pytest.raises(ZigguratError, match="does not fit 'resnet18' of timm"):
        create_backbone("timm:resnet18", pretrained=file)


def test_a_bare_resnet_refuses_files_of_the_other_kind() -> None:
    torch.manual_seed(0)
    filters = torch.randn(64, 3, 7, 7)
    levels, normalised = first_layer(filters, CAFFE_PIXELS), first_layer(filters, IMAGENET_PIXELS)
    with torch.device("meta"):
        learning, of_caffe, fixed = resnet50(), resnet50_caffe(), resnet50(norm="frozen")
    message = "given mapping was trained on BGR levels .* this ResNet is for .* normalised RGB"
    with pytest.raises(ZigguratError, match=message):
        load_official(learning, levels)
    with pytest.raises(ZigguratError, match="was trained on normalised RGB, .* such as resnet50$"):
        load_official(of_caffe, normalised)
    # The right images, or a body for either kind: refused for what the file lacks only.
    for body, weights in (
        (learning, normalised),
        (of_caffe, levels),
        (fixed, levels),
        (fixed, normalised),
    ):
        with pytest.raises(ZigguratError, match="entries are missing"):
            load_official(body, weights)


@pytest.mark.parametrize("build", RESNETS)
def test_every_listed_resnet_refuses_files_of_the_other_kind(build: BackboneBuilder) -> None:
    with torch.device("meta"):
        backbone = build()
    assert isinstance(backbone, ResNet)
    file = first_layer(
        torch.randn(64, 3, 7, 7), IMAGENET_PIXELS if backbone.sees_levels else CAFFE_PIXELS
    )
    with pytest.raises(ZigguratError, match="and this ResNet is for weights trained on"):
        load_official(backbone, file)


def test_the_weights_of_every_listed_resnet_are_known() -> None:
    assert sorted(PIXELS) == sorted(build.__name__ for build in RESNETS)


@pytest.mark.parametrize("name", PIXELS)
def test_a_resnet_its_name_and_its_files_say_the_same(name: str) -> None:
    with torch.device("meta"):
        backbone = zoo.create_backbone(name)
    assert isinstance(backbone, ResNet)
    assert backbone.sees_levels is (PIXELS[name] == CAFFE_PIXELS)
    assert zoo.pixels_of(name) == zoo.pixels_of(zoo.weights_of(name)) == PIXELS[name]
    published = {"from 0 to 255" in file.preprocessing for file in files_for(name)}
    assert published == {backbone.sees_levels}


def test_what_is_built_says_the_pixels_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.pixels_of("timm:resnet18") == zoo.pixels_of("") == IMAGENET_PIXELS
    monkeypatch.setitem(zoo.BACKBONES, "resnet50", lambda **options: resnet50_caffe(**options))
    monkeypatch.setattr(backbones, "_sees_levels", backbones._sees_levels.__wrapped__)  # no cache
    before = torch.get_rng_state()
    assert zoo.pixels_of("resnet50") == CAFFE_PIXELS
    assert torch.equal(torch.get_rng_state(), before)  # a seeded run goes on as it would have


def test_weights_of_caffe_are_loaded(tmp_path: Path) -> None:
    blobs = {"conv1_w": torch.randn(64, 3, 7, 7)}
    torch.save(blobs, tmp_path / "R-50.pth")
    with torch.device("meta"):
        backbone = resnet50(norm="frozen", stride_in_1x1=True)
    # It wants the right images, and is refused for what it lacks only.
    with pytest.raises(ZigguratError, match="entries are missing"):
        load_official_backbone(backbone, "resnet50_caffe", tmp_path / "R-50.pth")


@pytest.mark.parametrize(
    ("backbone", "order"),
    [
        ("resnet50", "rgb"),
        ("resnet50_caffe", "bgr"),
        ("resnet152_caffe", "bgr"),
        ("resnet50_gn", "bgr"),
        ("resnext101_32x8d_caffe2", "bgr"),
        ("resnet50_caffe_dc5", "bgr"),
        ("resnet50_frozen", "rgb"),
        ("resnet101_d8", "rgb"),
        ("p2t_tiny", "rgb"),
    ],
)
def test_the_backbone_says_what_a_model_gets(backbone: str, order: str) -> None:
    with torch.device("meta"):
        detector = zoo.create_model("faster_rcnn", backbone=backbone)
        segmenter = zoo.create_model("semantic_fpn", backbone=backbone)
    pixels = CAFFE_PIXELS if order == "bgr" else IMAGENET_PIXELS
    for model in (detector, segmenter):
        wanted = model.preprocessing
        assert isinstance(wanted, FitInside | FitAligned)
        assert Pixels(wanted.mean, wanted.std, wanted.channel_order) == pixels
