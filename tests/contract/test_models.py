"""What every listed model and backbone keeps; a new one is covered by being listed.

What costs nothing on the meta device is tested on all of them. What computes is tested on the first
one listed of each family and system, which should be its smallest: larger ones run the same code.
"""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ziggurat
from ziggurat.cards import MODELS
from ziggurat.heads.retinanet import RetinaNetOutput
from ziggurat.keypoints import COCO_PERSON, Keypoints
from ziggurat.systems import SYSTEMS
from ziggurat.types import Detections, LabelMap, ObjectMasks
from ziggurat.zoo import BACKBONES, Model, build

SIZES = [(96, 128), (97, 101)]


def _family(backbone: str) -> str:
    return BACKBONES[backbone].__module__


def _cells(name: str, side: int, stride: int) -> int:
    # PVT cuts the image into squares; all others round up.
    return side // stride if _family(name) == "ziggurat.backbones.pvt" else -(-side // stride)


def _is_divisible(name: str) -> bool:
    return _family(name) == "ziggurat.backbones.gpvit_adapter"  # takes multiples of 32 only


SMALLEST_BACKBONES = list({_family(name): name for name in reversed(BACKBONES)}.values())
SMALLEST_MODELS = list(
    {
        (c.system, c.neck, _family(c.backbone) if c.task == "classification" else ""): name
        for name, c in reversed(MODELS.items())
    }.values()
)
"""Every backbone and every head once: what both do alone they do together."""
SMALLEST_OF_TASKS = {MODELS[name].task: name for name in reversed(SMALLEST_MODELS)}.values()
LEARNING_ELSEWHERE = (
    *("faster_rcnn_fpt_resnet50", "faster_rcnn_panet_fpt_resnet50_caffe"),  # with masks
    *("faster_rcnn_panet_2fc_fpt_resnet50_caffe", "mask_rcnn_fpt_resnet50"),  # with PANet
    *("semantic_fpn_fpt_pvt_v2_b2", "retinanet_fpt_gpvit_l1"),  # FPT with PANet, heads on FPN
    # The golden tests compare the norms of the gradients of these, part by part.
    *("cascade_mask_rcnn_pvt_v2_b2_li", "sparse_rcnn_pvt_v2_b2_li", "mask_rcnn_pvt_tiny"),
)
"""Every part of these is in another model, too, where it learns."""


def slow_unless(name: str, quick: Collection[str]) -> Any:
    """Leave a larger variant, which runs the same code, to the slow tests."""
    return pytest.param(name, marks=[] if name in quick else pytest.mark.slow)


EXPORTED = [slow_unless(name, ["p2t_tiny"]) for name in SMALLEST_MODELS]
LEARNING = [
    slow_unless(name, set(SMALLEST_MODELS) - set(LEARNING_ELSEWHERE)) for name in SMALLEST_MODELS
]


def small(name: str) -> Model:
    """Build a model of three classes, a system with a narrow head."""
    card = MODELS[name]
    has_system = card.task != "classification"
    return ziggurat.create_model(
        name,
        num_classes=3,
        head_channels=32 if has_system else None,
        head_depth=1 if has_system and SYSTEMS[card.system].has_depth else None,
        drop_path_rate=0.0,
    )


def flat(raw: Any) -> list[Tensor]:
    """List the tensors of a model's raw output."""
    if isinstance(raw, Tensor):
        return [raw]
    return (
        [tensor for part in raw for tensor in flat(part)] if isinstance(raw, tuple | list) else []
    )


def targets_of(name: str) -> Any:
    """What two images of 96 x 97 pixels show: a class, classes of pixels, or an object."""
    if MODELS[name].task == "classification":
        return torch.tensor([0, 2])
    if MODELS[name].task == "semantic_segmentation":
        labels = torch.arange(96 * 97).view(96, 97) // 1000 % 3
        return [LabelMap(labels), LabelMap(labels.flip(0))]
    boxes = torch.tensor([[10.0, 10.0, 60.0, 70.0]])
    masks = torch.zeros(1, 96, 97, dtype=torch.bool)
    masks[:, 10:70, 10:60] = True
    return [
        Detections(
            boxes,
            torch.ones(1),
            torch.tensor([label]),
            ObjectMasks.from_full(masks),
            Keypoints(torch.tensor([[[30.0, 40.0, 2.0]] * 17]), COCO_PERSON),
        )
        for label in range(2)
    ]


def is_unused(name: str, parameter: str) -> bool:
    """Whether a parameter belongs to a map that the system does not read at this size."""
    system = MODELS[name].system
    if system in ("atss", "gfl") and parameter.startswith("head.scales."):
        return not parameter.endswith(".0")  # the object belongs to the finest level
    if system == "cascade_mask_rcnn":  # no anchor of the coarse levels is inside of the image
        return parameter.startswith(("neck.output_convs.2.", "neck.output_convs.3."))
    # PVTv2 normalises each map, dense heads leave out the finest.
    is_dense = system in ("retinanet", "atss", "gfl")
    return is_dense and "pvt_v2" in name and parameter.startswith("backbone.stages.0.norm.")


@pytest.mark.parametrize("name", [slow_unless(name, SMALLEST_BACKBONES) for name in BACKBONES])
@pytest.mark.parametrize("size", SIZES)
def test_backbone_maps_have_the_promised_channels_strides_and_layout(
    name: str, size: tuple[int, int]
) -> None:
    size = (96, 128) if _is_divisible(name) else size
    with torch.device("meta"):
        backbone = ziggurat.create_backbone(name)
        maps = backbone(torch.empty(2, 3, *size))
    for features, channels, stride in zip(
        maps, backbone.out_channels, backbone.out_strides, strict=True
    ):
        expected = (2, channels, _cells(name, size[0], stride), _cells(name, size[1], stride))
        assert tuple(features.shape) == expected
        assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", [slow_unless(name, SMALLEST_MODELS) for name in MODELS])
def test_identity_and_state_build_the_same_model_again(name: str) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name, num_classes=7)
        again = build(model.identity)
    assert model.identity.name == name
    entries, others = model.state_dict(), again.state_dict()
    assert {n: (v.shape, v.dtype) for n, v in entries.items()} == {
        n: (v.shape, v.dtype) for n, v in others.items()
    }
    again.load_state_dict(entries, assign=True)  # strict: every name and shape


@pytest.mark.parametrize("name", SMALLEST_MODELS)
@pytest.mark.parametrize("size", SIZES)
def test_raw_output_has_a_place_for_every_class(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(name, num_classes=7)
        raw = model(torch.empty(2, 3, *size))
    assert flat(raw)
    if isinstance(raw, Tensor):
        assert raw.shape[:2] == (2, 7)
        assert raw.ndim == (2 if MODELS[name].task == "classification" else 4)
    elif isinstance(raw, RetinaNetOutput):
        assert {value.shape[0] for value in flat(raw)} == {2}
        assert {logits.shape[1] % 7 for logits in raw.cls_logits} == {0}
        assert [x.shape[1] * 4 // 7 for x in raw.cls_logits] == [y.shape[1] for y in raw.box_deltas]


@pytest.mark.parametrize("name", [slow_unless(name, SMALLEST_OF_TASKS) for name in SMALLEST_MODELS])
def test_a_state_gives_another_model_the_same_output(name: str) -> None:
    model, other = small(name).eval(), small(name).eval()
    images = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        expected = flat(model(images))
        assert not all(map(torch.equal, expected, flat(other(images))))
        other.load_state_dict(model.state_dict())
        assert all(map(torch.equal, expected, flat(other(images))))


@pytest.mark.parametrize("name", LEARNING)
def test_every_parameter_learns(name: str) -> None:
    model = small(name).train()
    images, targets, sizes = torch.randn(2, 3, 96, 97), targets_of(name), [(96, 97)] * 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trained = {
        key: parameter
        for key, parameter in model.named_parameters()
        if parameter.requires_grad and not is_unused(name, key)
    }
    learns = dict.fromkeys(trained, False)
    for _ in range(3):  # what starts at zero lets others learn from the next step on
        optimizer.zero_grad()
        losses = model.loss(model(images), targets, sizes)
        torch.stack(list(losses.values())).sum().backward()
        for key, parameter in trained.items():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            learns[key] = learns[key] or bool(parameter.grad.any())
        optimizer.step()
    assert [key for key, does in learns.items() if not does] == []


@pytest.mark.parametrize("name", SMALLEST_MODELS)
def test_decoding_gives_one_result_an_image(name: str) -> None:
    model = small(name).eval()
    sizes = [(96, 96)] * 2
    with torch.inference_mode():
        raw = model(torch.randn(2, 3, 96, 96), sizes)
        assert len(model.decode(raw, sizes, [(50, 60)] * 2)) == 2


@pytest.mark.parametrize("name", EXPORTED)
def test_model_exports_and_gives_the_same(name: str) -> None:
    model = small(name).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        for a, b in zip(flat(program.module()(images)), flat(model(images)), strict=True):
            if "sparse_rcnn" in name:
                # Untrained, each of its six stages makes what rounding changes ten times larger.
                a, b = a[:1], b[:1]
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name", [pytest.param("p2t_tiny", marks=pytest.mark.slow), "topformer_seg_tiny"]
)
def test_a_program_of_a_tensor_runs_without_this_package(name: str, tmp_path: Path) -> None:
    model = small(name).eval()
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.save((images, model(images)), tmp_path / "expected.pt")
        torch.export.save(torch.export.export(model, (images,)), tmp_path / "model.pt2")
    code = (
        "import sys, torch\n"
        "images, expected = torch.load('expected.pt')\n"
        "found = torch.export.load('model.pt2').module()(images)\n"
        "torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)\n"
        "assert 'ziggurat' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", SMALLEST_BACKBONES)
def test_a_batch_gives_what_its_images_give(name: str) -> None:
    backbone = ziggurat.create_backbone(name).eval()
    images = torch.randn(2, 3, 96, 64) if _is_divisible(name) else torch.randn(2, 3, 97, 80)
    with torch.inference_mode():
        together = backbone(images)
        alone = backbone(images[1:])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:], b, atol=1e-4, rtol=1e-4)
