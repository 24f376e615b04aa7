"""Every combination of a system, a neck and a backbone has a name that builds it."""

import pytest
import torch

import ziggurat
from ziggurat import ZigguratError
from ziggurat.cards import MODELS
from ziggurat.systems import SYSTEMS
from ziggurat.types import ModelIdentity
from ziggurat.zoo import BACKBONES, task_of
from ziggurat.zoo.names import Combination, combination_of, necks_of

TIMM = ("timm:resnet18", "timm:resnet18.a1_in1k", "timm:swin_tiny_patch4_window7_224")


def name_of(combination: Combination) -> str:
    parts = combination
    task = SYSTEMS[parts.system].task
    return ModelIdentity(task, parts.system, parts.backbone, num_classes=1, neck=parts.neck).name


def test_every_name_is_that_of_one_combination() -> None:
    everything = [
        Combination(system, backbone, neck)
        for system in SYSTEMS
        for backbone in (*BACKBONES, *TIMM)
        for neck in necks_of(system)
    ]
    for combination in everything:
        assert combination_of(name_of(combination)) == combination
    names = {name_of(combination) for combination in everything}
    assert len(names) == len(everything)
    assert not names & {*SYSTEMS, *BACKBONES}


def test_names_of_published_models_say_their_parts() -> None:
    for name, card in MODELS.items():
        if card.task != "classification":
            neck = card.neck or SYSTEMS[card.system].neck
            assert combination_of(name) == Combination(card.system, card.backbone, neck)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("faster_rcnn_p2t_small", ("faster_rcnn", "p2t_small", None)),
        ("mask_rcnn_resnet50", ("mask_rcnn", "resnet50", None)),
        ("retinanet_fpt_p2t_small", ("retinanet", "p2t_small", "fpt")),
        ("detr_p2t_small", ("detr", "p2t_small", None)),
        ("atss_gpvit_l1", ("atss", "gpvit_l1_adapter", None)),
        ("trans2seg_pvt_small", ("trans2seg", "pvt_small", None)),
        ("upernet_fpt_paper_p2t_tiny", ("upernet", "p2t_tiny", "fpt_paper")),
        ("segformer_timm:resnet18", ("segformer", "timm:resnet18", None)),
        ("keypoint_rcnn_pvt_v2_b0", ("keypoint_rcnn", "pvt_v2_b0", None)),
        (
            "topformer_seg_timm:resnet18_cityscapes",
            ("topformer_seg_cityscapes", "timm:resnet18", None),
        ),
    ],
)
def test_a_name_builds_what_its_parts_build(name: str, parts: tuple[str, str, str | None]) -> None:
    system, backbone, neck = parts
    with torch.device("meta"):
        model = ziggurat.create_model(name, num_classes=3)
        same = ziggurat.create_model(system, backbone=backbone, neck=neck, num_classes=3)
    assert model.identity == same.identity
    assert model.identity.name == name
    assert task_of(name) == model.identity.task
    shapes = [(entry, value.shape) for entry, value in model.state_dict().items()]
    assert shapes == [(entry, value.shape) for entry, value in same.state_dict().items()]


def test_a_neck_beside_a_name_replaces_its_own() -> None:
    with torch.device("meta"):
        model = ziggurat.create_model("retinanet_pvt_v2_b0", neck="fpt")
    assert model.identity.name == "retinanet_fpt_pvt_v2_b0"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("faster_rcnn_p2t_smal", {}, "did you mean 'faster_rcnn_p2t_small'"),
        ("retinanet_fpt_resnet5", {}, "did you mean 'retinanet_fpt_resnet50'"),
        ("retinanet_timm:resnet19", {}, "unknown network of timm 'resnet19'"),
        ("mask_rcnn_resnet50", {"backbone": "resnet101"}, "has its own backbone"),
        ("resnet50", {}, "'resnet50' is a backbone and no model by itself"),
        ("timm:resnet18", {}, "for example 'retinanet_timm:resnet18'"),
        ("nothing", {}, "`ziggurat list` prints the names, and the systems and backbones"),
    ],
)
def test_wrong_names_are_refused_in_a_short_sentence(
    name: str, options: dict[str, str], message: str
) -> None:
    with torch.device("meta"), pytest.raises(ZigguratError, match=message) as refusal:
        ziggurat.create_model(name, **options)  # type: ignore[arg-type]
    if not options:
        assert len(str(refusal.value)) < 200
