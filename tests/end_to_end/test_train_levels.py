"""A detector on Caffe's ResNet gets BGR levels wherever it sees an image."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ziggurat import zoo
from ziggurat.backbones.resnet import ResNet
from ziggurat.checkpoints.native import load_weights
from ziggurat.cli.main import main
from ziggurat.data.channels import normalize_levels
from ziggurat.preprocessing import FitInside


def tiny_caffe(*, drop_path_rate: float = 0.0, in_channels: int = 3) -> ResNet:
    return ResNet(
        (1, 1, 1, 1),
        groups=1,
        width_per_group=4,
        stride_in_1x1=True,
        norm="frozen",
        output_stride=32,
        num_frozen_stages=1,
        drop_path_rate=drop_path_rate,
        in_channels=in_channels,
        sees_levels=True,
    )


TORCHVISION = (
    (r"stem\.conv\.", "conv1."),
    (r"stem\.norm\.", "bn1."),
    (r"\.shortcut\.conv\.", ".downsample.0."),
    (r"\.shortcut\.norm\.", ".downsample.1."),
    (r"\.conv(\d)\.conv\.", r".conv\1."),
    (r"\.conv(\d)\.norm\.", r".bn\1."),
    (r"stages\.(\d)\.blocks\.", lambda match: f"layer{int(match[1]) + 1}."),
)


def imagenet_file(path: Path, gain: float) -> Path:
    """Weights by torchvision's names, with what one filter makes of the pixels' variance."""
    torch.manual_seed(0)
    weights: dict[str, Tensor] = {}
    for name, value in tiny_caffe().state_dict().items():
        for pattern, official in TORCHVISION:
            name = re.sub(pattern, official, name)  # noqa: PLW2901
        weights[name] = value
    squares = float(weights["conv1.weight"].square().sum())
    weights["bn1.running_var"] = torch.full((64,), gain * squares / 64)
    torch.save(weights, path)
    return path


class FirstInputs:
    """Notes what the first convolution of a ResNet sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Tensor] = []
        original = ResNet.forward

        def forward(model: ResNet, images: Tensor) -> list[Tensor]:
            self.seen.append(images.detach().clone())
            return original(model, images)

        monkeypatch.setattr(ResNet, "forward", forward)

    def require_levels(self) -> None:
        """Raise unless the grey of the photos is there as levels less their means, blue first."""
        assert self.seen
        for images in self.seen:
            grey = torch.tensor([128 - 102.9801, 128 - 115.9465, 128 - 122.7717])
            near = (images - grey[:, None, None]).abs().amax(dim=1) < 2
            assert float(near.float().mean()) > 0.05
            assert float(images.abs().max()) > 60
        self.seen.clear()


@pytest.fixture
def train_words(coco_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(zoo.BACKBONES, "resnet50_caffe", tiny_caffe)
    return [
        *("train", "retinanet_p2t_tiny_1x_coco", "--model.name=retinanet"),
        *("--model.backbone=resnet50_caffe", "--model.drop_path_rate=0"),
        *(f"--data.root={coco_folder}", "--data.short_side=72", "--data.long_side=96"),
        *("--data.batch_size=4", "--data.workers=0", "--model.head_channels=16"),
        *("--model.head_depth=1", "--optimizer.lr=0.0001", "--schedule.warmup_steps=2"),
        *("--schedule.milestones=[50]", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
    ]


def test_levels_in_training_evaluation_and_prediction(
    tmp_path: Path, coco_folder: Path, train_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = FirstInputs(monkeypatch)
    run = tmp_path / "run"
    file = imagenet_file(tmp_path / "resnet50_caffe.pth", 20_000)
    words = [*train_words, "--output", str(run), f"--model.backbone_weights={file}"]
    assert main(words) == 0
    looks.require_levels()
    model = load_weights(run / "last.safetensors")
    assert isinstance(model.preprocessing, FitInside)
    assert model.preprocessing.channel_order == "bgr"
    assert main(["evaluate", str(run), "--device", "cpu", "--flip", "--voting", "0.8"]) == 0
    looks.require_levels()
    photos, out = str(coco_folder / "val"), str(tmp_path / "out")
    options = ["--score_threshold", "0", "--nms", "soft-gaussian", "--device", "cpu"]
    assert main(["predict", str(run), photos, "-o", out, *options]) == 0
    looks.require_levels()
    # Red is the last channel, whichever way it comes in.
    red = Image.new("RGB", (96, 72), (200, 40, 40))
    pixels = normalize_levels(np.asarray(red), model.preprocessing)
    assert pixels[0, 0].tolist() == pytest.approx([40 - 102.9801, 40 - 115.9465, 200 - 122.7717])


def test_a_resumed_run_sees_levels(
    tmp_path: Path, train_words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    file = imagenet_file(tmp_path / "resnet50_caffe.pth", 20_000)
    words = [*train_words, "--output", str(run), f"--model.backbone_weights={file}"]
    assert main([*words, "--trainer.max_steps=1"]) == 0
    file.unlink()  # a run that goes on needs it no more
    looks = FirstInputs(monkeypatch)
    assert main([*words, "--trainer.max_steps=2", "--resume"]) == 0
    looks.require_levels()


def test_weights_of_the_other_kind_are_refused(
    tmp_path: Path, train_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = imagenet_file(tmp_path / "resnet50-0676ba61.pth", 5)
    words = [*train_words, "--output", str(tmp_path / "run"), f"--model.backbone_weights={file}"]
    assert main(words) != 0
    message = capsys.readouterr().err
    assert "was trained on normalised RGB" in message
    assert "resnet50_caffe is for weights trained on BGR levels" in message
