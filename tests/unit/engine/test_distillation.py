"""A teacher answers for the student's classes and images, and a run shares out the loss."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from ziggurat.checkpoints.native import save_weights
from ziggurat.config import ClassificationRun, DistillationConfig, load_run
from ziggurat.engine.distillation import Distillation, Teacher, build_distillation
from ziggurat.errors import ZigguratError
from ziggurat.models.classifier import Classifier
from ziggurat.preprocessing import CenterCrop
from ziggurat.zoo import create_model

IMAGENET = CenterCrop(resize=80, crop=72)
SMALL = "timm:test_resnet.r160_in1k"


class Means(nn.Module):
    """Gives the mean of each channel as a logit, and notes the size of the images."""

    sizes: tuple[int, ...] = ()

    def forward(self, images: Tensor) -> Tensor:
        self.sizes = tuple(images.shape[2:])
        return images.mean(dim=(2, 3))


def run_with(**options: Any) -> ClassificationRun:
    words = [f"--distillation.{name}={value}" for name, value in options.items()]
    run = load_run("p2t_tiny_300e_imagenet", ["--data.root=/data", *words])
    assert isinstance(run, ClassificationRun)
    return run


def student(*classes: str) -> Classifier:
    model = create_model("topformer_tiny", num_classes=len(classes))
    assert isinstance(model, Classifier)
    model.classes, model.preprocessing = classes, IMAGENET
    return model


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    model = create_model("topformer_tiny", num_classes=3)
    assert isinstance(model, Classifier)
    model.classes = ("ant", "bee", "cow")
    save_weights(model, tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


def test_teacher_sees_its_own_normalisation_and_size() -> None:
    network = Means()
    teacher = Teacher(network, (0.5, 0.5, 0.5), (0.5, 0.5, 0.25), (8, 6))
    pixels = torch.tensor([0.2, 0.6, 1.0])
    mean, std = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)
    images = ((pixels - mean) / std).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    logits = teacher(images, IMAGENET)
    assert network.sizes == (8, 6)
    expected = torch.tensor([-0.6, 0.2, 2.0]).expand(2, 3)
    torch.testing.assert_close(logits, expected)
    as_student = Teacher(network, IMAGENET.mean, IMAGENET.std, (4, 4))
    assert torch.equal(as_student(images, IMAGENET), images.mean(dim=(2, 3)))
    assert network.sizes == (4, 4)


def test_teacher_is_frozen_and_quiet() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    teacher = Teacher(network, IMAGENET.mean, IMAGENET.std, (2, 2))
    images = torch.randn(4, 3, 2, 2)
    state = torch.get_rng_state()
    logits = teacher(images, IMAGENET)
    assert torch.equal(state, torch.get_rng_state())
    assert not logits.requires_grad
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(part.training for part in network.modules())
    assert torch.equal(logits, teacher(images, IMAGENET))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Cross entropy 2 of the labels; the teacher's class has probability 1/2.
        (DistillationConfig("t"), {"classification": 1.0, "distillation": 0.5 * 0.6931}),
        (
            DistillationConfig("t", alpha=0.25, kind="hard"),
            {"classification": 1.5, "distillation": 0.25 * 0.6931},
        ),
        # KL of (3/4, 1/4) from (1/2, 1/2) is 0.1308, a mean over two classes.
        (
            DistillationConfig("t", alpha=1.0, kind="soft"),
            {"classification": 0.0, "distillation": 0.1308 / 2},
        ),
    ],
)
def test_loss_is_shared_out(config: DistillationConfig, expected: dict[str, float]) -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[3.0, 1.0]]).log().expand(len(images), 2)

    teacher = Teacher(Fixed(), IMAGENET.mean, IMAGENET.std, (4, 4))
    distillation = Distillation(teacher, IMAGENET, config)
    losses = {"classification": torch.tensor(2.0)}
    found = distillation(torch.zeros(3, 3, 4, 4), torch.zeros(3, 2), losses)
    assert {name: float(loss) for name, loss in found.items()} == pytest.approx(expected, abs=1e-4)


def test_no_teacher_no_distillation() -> None:
    assert build_distillation(run_with(), student("a"), print) is None


def test_classes_of_our_teachers_are_found_by_name(teacher_file: Path) -> None:
    said: list[str] = []
    config = run_with(teacher=teacher_file, kind="soft", temperature=3.0)
    distillation = build_distillation(config, student("cow", "ant"), said.append)
    assert distillation is not None and distillation.temperature == 3.0
    assert said == [
        f"soft distillation from {teacher_file}, which sees 224 x 224 pixels: 0.5 of the loss"
    ]
    images = torch.randn(2, 3, 64, 64)
    taught = distillation.teacher(images, IMAGENET)
    every = distillation.teacher.network(
        torch.nn.functional.interpolate(images, (224, 224), mode="bicubic", antialias=True)
    )
    torch.testing.assert_close(taught, every[:, [2, 0]])


def test_teacher_that_does_not_know_a_class(teacher_file: Path) -> None:
    config = run_with(teacher=teacher_file)
    with pytest.raises(ZigguratError, match="one of 3 classes without 'dog'; train a teacher"):
        build_distillation(config, student("ant", "dog"), print)


def test_teacher_of_timm(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=2)
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    config = run_with(teacher="timm:test_resnet", weights=tmp_path / "teacher.pth")
    said: list[str] = []
    distillation = build_distillation(config, student("a", "b"), said.append)
    assert distillation is not None and "hard distillation from timm:test_resnet" in said[0]
    teacher = distillation.teacher
    assert teacher.image_size == (160, 160)
    assert teacher.mean == (0.5, 0.5, 0.5)
    images = torch.randn(2, 3, 160, 160)
    taught = teacher(images, CenterCrop(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    with torch.no_grad():
        torch.testing.assert_close(taught, network.eval()(images))


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"teacher": "timm:regnety_16"}, ["unknown network of timm 'regnety_16'", "regnety_160"]),
        ({"teacher": "p2t_tny"}, ["distillation.teacher 'p2t_tny'", "p2t_tiny"]),
        ({"teacher": "mask_rcnn_p2t_tiny"}, ["unknown distillation.teacher"]),
        ({"teacher": "nothing.safetensors"}, ["nothing.safetensors"]),
        ({"teacher": "p2t_tiny", "weights": "nothing.pth"}, ["nothing.pth"]),
        ({"teacher": "timm:test_resnet", "weights": "nothing.pth"}, ["nothing.pth"]),
    ],
)
def test_teachers_that_cannot_be_had(options: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(ZigguratError) as caught:
        build_distillation(run_with(**options), student("a", "b"), print)
    assert all(part in str(caught.value) for part in parts), caught.value


def test_weights_that_do_not_fit_a_teacher(tmp_path: Path, teacher_file: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=5)
    torch.save(network.state_dict(), tmp_path / "five.pth")
    config = run_with(teacher="timm:test_resnet", weights=tmp_path / "five.pth")
    with pytest.raises(ZigguratError, match=r"test_resnet.*five\.pth: .*size mismatch"):
        build_distillation(config, student("a", "b"), print)
    config = run_with(teacher="p2t_tiny", weights=teacher_file)
    with pytest.raises(ZigguratError, match="give it as distillation.teacher"):
        build_distillation(config, student("a", "b"), print)


def test_published_teacher_with_other_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = timm.create_model("test_resnet")

    def create(name: str, *, pretrained: bool) -> nn.Module:
        assert (name, pretrained) == ("test_resnet.r160_in1k", True)
        return network

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(ZigguratError, match="knows 1000 classes, the data have 2"):
        build_distillation(run_with(teacher=SMALL), student("a", "b"), print)


def test_a_detector_does_not_teach(tmp_path: Path) -> None:
    model = create_model("retinanet", backbone="topformer_tiny", num_classes=2, head_channels=32)
    save_weights(model, tmp_path / "detector.safetensors")
    config = run_with(teacher=tmp_path / "detector.safetensors")
    with pytest.raises(ZigguratError, match="must be a classifier, got .* which does detection"):
        build_distillation(config, student("a", "b"), print)
