"""Names, options and the errors of wrong ones."""

import pytest
import torch
from torch import nn

import ziggurat
from ziggurat import ZigguratError
from ziggurat.backbones.p2t import Block, PyramidPoolingAttention
from ziggurat.layers.grounding_transformer import LocalGrounding
from ziggurat.necks.fpt import find_transformer
from ziggurat.types import ModelIdentity
from ziggurat.zoo import NUM_CLASSES, build, models


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("p2t_tny", {}, "unknown model 'p2t_tny'; did you mean 'p2t_tiny'"),
        ("retinanet", {}, "is a system and needs backbone"),
        ("retinanet", {"backbone": "p2t_smal"}, "unknown backbone 'p2t_smal'; did you mean"),
        ("retinanet", {"backbone": "p2t_tiny", "neck": "fpnn"}, "did you mean 'fpn'"),
        ("retinanet_p2t_tiny", {"backbone": "p2t_small"}, "has its own backbone"),
        ("p2t_tiny", {"neck": "fpn"}, "is a classifier and has no neck"),
        ("p2t_tiny", {"num_classes": 0}, "num_classes must be at least 1, got 0"),
        (
            "topformer_seg_tiny",
            {"num_classes": 256},
            "at most 255 classes, got 256",
        ),
        ("p2t_tiny", {"drop_path_rate": 1.0}, "drop_path_rate must be in"),
        ("retinanet_p2t_tiny", {"head_channels": 0}, "head_channels >= 1"),
        (
            "p2t_tiny",
            {"auxiliary_head": True},
            "auxiliary_head is for semantic_segmentation, and p2t_tiny does classification; leave",
        ),
        ("retinanet_p2t_tiny", {"auxiliary_head": False}, "retinanet_p2t_tiny does detection"),
        ("p2t_tiny", {"key_budget": 9}, "without the neck fpt or .* and has no key_budget"),
        ("retinanet_p2t_tiny", {"drop_block": 0.1}, "and has no drop_block"),
        ("p2t_tiny", {"self_levels": 2, "grounding_window": 5}, "no self_levels, grounding_window"),
        ("mask_rcnn_fpt_p2t_small", {"self_levels": 5}, "from 0 to the 4 maps, or None, got 5"),
        ("mask_rcnn_fpt_p2t_small", {"grounding_window": 4}, "an odd side, got 4"),
        ("mask_rcnn_fpt_p2t_small", {"key_budget": 0}, "key_budget must be at least 1, got 0"),
        ("mask_rcnn_fpt_p2t_small", {"drop_block": 1.0}, "at least 0 and below 1, got 1.0"),
    ],
)
def test_wrong_requests_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ZigguratError, match=message):
        ziggurat.create_model(name, **options)  # type: ignore[arg-type]


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ZigguratError, match="did you mean 'detection'"):
        ziggurat.list_models(task="detecton")


def test_tasks_divide_the_models() -> None:
    by_task = {task: ziggurat.list_models(task=task) for task in NUM_CLASSES}
    assert "retinanet_p2t_tiny" in by_task["detection"]
    assert "pvt_v2_b2_li" in by_task["classification"]
    names = [name for names in by_task.values() for name in names]
    assert sorted(names) == sorted(ziggurat.list_models())
    assert len(names) == len(set(names))


def test_combination_equals_the_published_model() -> None:
    with torch.device("meta"):
        free = ziggurat.create_model("retinanet", backbone="p2t_tiny", neck="fpn")
        published = ziggurat.create_model("retinanet_p2t_tiny")
    assert free.identity == published.identity


def test_choices_of_a_transformer_reach_it() -> None:
    with torch.device("meta"):
        model = ziggurat.create_model(
            "mask_rcnn_fpt_p2t_small",
            key_budget=300,
            self_levels=2,
            grounding_window=7,
            drop_block=0.1,
        )
        again = find_transformer(build(model.identity))
    transformer = find_transformer(model)
    assert transformer is not None
    assert again is not None
    for module in (*transformer.selfs.values(), *again.selfs.values()):
        assert getattr(module, "key_budget", None) == 300
    for neck in (transformer, again):
        assert list(neck.selfs) == ["2", "3"]
        assert all(isinstance(look, LocalGrounding) for look in neck.grounds.values())
        widths = [
            fuse.in_channels for fuse in neck.fusions.modules() if isinstance(fuse, nn.Conv2d)
        ]
        assert widths == [1024, 1024, 1280, 1280]
    assert getattr(transformer.drop_block, "drop_prob", None) == 0.1
    assert isinstance(again.drop_block, nn.Identity)  # of training alone


def test_norm_epsilons_that_outputs_hardly_show() -> None:
    with torch.device("meta"):
        backbone = ziggurat.create_backbone("p2t_tiny")
    for name, module in backbone.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == (1e-6 if name.endswith(("norm1", "norm2")) else 1e-5), name


def test_stochastic_depth_grows_from_zero_to_the_rate() -> None:
    with torch.device("meta"):
        backbone = ziggurat.create_backbone("p2t_tiny", drop_path_rate=0.12)
    rates = [
        getattr(block.drop_path, "drop_prob", 0.0)
        for block in backbone.modules()
        if isinstance(block, Block)
    ]
    assert rates == pytest.approx([0.01 * i for i in range(13)])


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match="num_heads must divide dim, got dim=10, num_heads=3"):
        PyramidPoolingAttention(10, 3, (1, 2))


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (33, 300)])
def test_small_and_narrow_images_keep_a_cell_in_every_level(size: tuple[int, int]) -> None:
    with torch.device("meta"):
        maps = ziggurat.create_backbone("p2t_tiny")(torch.empty(1, 3, *size))
    assert tuple(maps[-1].shape[2:]) == (-(-size[0] // 32), -(-size[1] // 32))


def test_padding_is_refused_by_a_classifier_and_checked_by_a_detector() -> None:
    with torch.device("meta"):
        classifier = ziggurat.create_model("p2t_tiny")
        detector = ziggurat.create_model("retinanet_p2t_tiny")
        images = torch.empty(1, 3, 96, 96)
    with pytest.raises(ZigguratError, match="images without padding"):
        classifier(images, [(96, 80)])
    with pytest.raises(ZigguratError, match="at most 96 x 96"):
        detector(images, [(97, 96)])


@pytest.mark.parametrize(
    ("name", "system", "backbone", "rate"),
    [
        ("mask_rcnn_p2t_base", "mask_rcnn", "p2t_base", 0.3),
        ("upernet_gpvit_l4", "upernet", "gpvit_l4", 0.2),
        ("retinanet_pvt_large", "retinanet", "pvt_large", 0.0),
        ("mask_rcnn_gpvit_l1", "mask_rcnn", "gpvit_l1_adapter", 0.1),
        (None, "cascade_mask_rcnn", "gpvit_l1_adapter", 0.1),
        (None, "mask_rcnn", "resnet50", 0.0),
    ],
)
def test_a_model_trains_alike_however_it_is_called(
    name: str | None, system: str, backbone: str, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []

    def spy(identity: ModelIdentity, **given: float) -> models.Model:
        built.append((identity, given))
        return build(identity, **given)

    monkeypatch.setattr(models, "build", spy)
    with torch.device("meta"):
        models.create_model(system, backbone=backbone)
        if name is not None:
            models.create_model(name)
    assert all(given["drop_path_rate"] == rate for _, given in built)
    assert len({identity for identity, _ in built}) == 1
