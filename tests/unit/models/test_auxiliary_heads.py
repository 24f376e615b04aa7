"""A head that helps in training alone, on any segmenter."""

import math
from typing import Any

import pytest
import torch

from ziggurat import zoo
from ziggurat.config.files import load_run, run_to_tree
from ziggurat.heads.fcn import FCNHead
from ziggurat.losses.segmentation import SegmentationLoss
from ziggurat.models.semantic_segmenter import SemanticSegmenter, TrainingLogits
from ziggurat.necks.stride_pyramid import StridePyramid
from ziggurat.systems.plan import Plan
from ziggurat.systems.segmentation import SEGMENTATION_SYSTEMS, build_auxiliary_head
from ziggurat.types import ClassMasks, LabelMap

K = 3
SIDE = 64
RECIPE = "segformer_pvt_v2_b0_from_scratch"


@pytest.fixture(autouse=True, scope="module")
def listed_mini(p2t_mini: str) -> str:
    return p2t_mini


def segmenter(
    system: str, auxiliary_head: bool | None = None, backbone: str = "p2t_mini", **options: Any
) -> SemanticSegmenter:
    model = zoo.create_model(
        system,
        backbone=backbone,
        num_classes=K,
        head_channels=16,
        auxiliary_head=auxiliary_head,
        **options,
    )
    assert isinstance(model, SemanticSegmenter)
    return model


def reads(model: SemanticSegmenter) -> int:
    """Return which map the auxiliary head reads."""
    assert isinstance(model.auxiliary_head, FCNHead)
    return model.auxiliary_head.index


def labels() -> list[LabelMap]:
    return [LabelMap(torch.randint(K, (SIDE, SIDE), dtype=torch.uint8)) for _ in range(2)]


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("system", SEGMENTATION_SYSTEMS)
def test_every_segmenter_learns_through_one(system: str, overlapping: bool) -> None:
    model = segmenter(system, True, overlapping=overlapping).train()
    masks = [
        ClassMasks(x.labels == torch.arange(K)[:, None, None], x.labels == 9) for x in labels()
    ]
    raw = model(torch.randn(2, 3, SIDE, SIDE))
    assert isinstance(raw, TrainingLogits)
    losses = model.loss(raw, masks if overlapping else labels())
    assert math.isfinite(losses["auxiliary"].item())
    losses["auxiliary"].backward()
    assert model.auxiliary_head is not None
    for name, parameter in model.auxiliary_head.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    first = next(model.backbone.parameters())
    assert first.grad is not None and first.grad.any()
    assert all(parameter.grad is None for parameter in model.head.parameters())


@pytest.mark.parametrize("system", SEGMENTATION_SYSTEMS)
def test_nothing_but_training_asks_it(system: str) -> None:
    helped, plain = segmenter(system, True).eval(), segmenter(system, False).eval()
    assert plain.auxiliary_head is None
    kept = {
        name: value
        for name, value in helped.state_dict().items()
        if not name.startswith("auxiliary_head.")
    }
    plain.load_state_dict(kept)  # strict: every other entry is the same
    images = torch.randn(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        assert torch.equal(helped(images), plain(images))


def test_systems_are_as_published_by_default() -> None:
    for system in SEGMENTATION_SYSTEMS:
        with torch.device("meta"):
            model, asked = segmenter(system), segmenter(system, system == "upernet")
        assert (model.auxiliary_head is not None) == (system == "upernet")
        assert list(model.state_dict()) == list(asked.state_dict())


def test_upernet_without_one() -> None:
    model = segmenter("upernet", False).train()
    losses = model.loss(model(torch.randn(2, 3, SIDE, SIDE)), labels())
    assert list(losses) == ["pixels"]
    assert model.identity.name == "upernet_p2t_mini"
    assert zoo.build(model.identity).state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("system", "backbone", "index"),
    [
        ("segformer", "pvt_v2_b0", 2),
        ("segformer", "gpvit_l1", 3),  # four maps of stride 8
        ("semantic_fpn", "gpvit_l1", 2),  # which are made a pyramid here
        ("topformer_seg", "pvt_v2_b0", 2),
        ("topformer_seg", "topformer_tiny", 1),  # three injected maps
        ("upernet", "pvt_v2_b0", -1),  # its own, as published
        ("upernet", "gpvit_l1", -1),
    ],
)
def test_it_reads_the_map_of_stride_16(system: str, backbone: str, index: int) -> None:
    with torch.device("meta"):
        model = segmenter(system, True, backbone)
        raw = model.train()(torch.empty(2, 3, 128, 128))
    assert reads(model) == index
    assert isinstance(raw, TrainingLogits) and raw.auxiliary.shape[1] == K


def test_it_finds_stride_16_in_longer_and_shorter_pyramids() -> None:
    plan = Plan("any", K, 16)
    for strides, index in (((2, 4, 8, 16, 32), 3), ((8, 16), 1), ((4, 8), 1), ((8, 32), 1)):
        maps = StridePyramid([4] * len(strides), strides, strides)
        head = build_auxiliary_head(SEGMENTATION_SYSTEMS["segformer"], maps, plan, wanted=True)
        assert head is not None and head.index == index, strides


def test_a_weight_of_0_leaves_it_as_it_is() -> None:
    model = segmenter("segformer", True).train()
    model.training_loss = SegmentationLoss(auxiliary=0.0)
    assert model.auxiliary_head is not None
    before = [parameter.clone() for parameter in model.auxiliary_head.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    model.loss(model(torch.randn(2, 3, SIDE, SIDE)), labels())["pixels"].backward()
    optimizer.step()
    assert all(map(torch.equal, before, model.auxiliary_head.parameters()))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("null", None)])
def test_a_run_says_whether_there_is_one(text: str, value: bool | None) -> None:
    run = load_run(RECIPE, ["--data.root=data", f"--model.auxiliary_head={text}"])
    assert run.model.auxiliary_head is value
    assert run_to_tree(run)["model"]["auxiliary_head"] is value
    assert load_run(RECIPE, ["--data.root=data"]).model.auxiliary_head is None
