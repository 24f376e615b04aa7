"""The interface that timm's tools use, on a small model, with the errors of wrong input."""

import pickle
from typing import Any

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from torch import Tensor, nn

import ziggurat
from ziggurat import ZigguratError
from ziggurat.layers.tokens import to_tokens

P2T = "p2t_tiny"


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96)


def create(name: str, **options: Any) -> Any:
    return timm.create_model(name, **options)


def test_weights_go_both_ways(images: Tensor) -> None:
    theirs = create(P2T, num_classes=5).eval()
    ours = ziggurat.create_model(P2T, num_classes=5).eval()
    assert not torch.equal(theirs(images), ours(images))
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(theirs(images), ours(images))
    theirs.reset_classifier(5)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(theirs(images), ours(images))


def test_forward_is_made_of_its_two_halves(images: Tensor) -> None:
    model = create(P2T, num_classes=5).eval()
    features = model.forward_features(images)
    assert features.shape == (2, 24, 2, 3)
    assert torch.equal(model.forward_head(features), model(images))
    vectors = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(vectors, features.mean(dim=(2, 3)))
    assert torch.equal(model.get_classifier()(vectors), model(images))


def test_without_classes_vectors_come_out(images: Tensor) -> None:
    model = create(P2T, num_classes=0)
    assert model(images).shape == (2, model.num_features) == (2, 24)
    assert isinstance(model.get_classifier(), nn.Identity)
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)
    assert model.num_classes == 3


def test_without_a_pool_the_map_comes_out(images: Tensor) -> None:
    model = create(P2T, num_classes=0, global_pool="")
    assert torch.equal(model(images), model.forward_features(images))
    model.reset_classifier(3, "avg")
    assert model(images).shape == (2, 3)


def test_a_fresh_classifier_is_fresh_and_the_rest_stays() -> None:
    model = create(P2T, num_classes=5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_classifier(5)
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert changed == {"head.fc.weight"}  # the bias starts at 0 each time
    assert model.head.fc.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_dropout_is_in_front_of_the_classifier(images: Tensor) -> None:
    model = create(P2T, num_classes=0, drop_rate=0.5)
    assert (model(images) == 0).float().mean().item() == pytest.approx(0.5, abs=0.2)
    assert (model.eval()(images) == 0).sum() == 0


def test_stochastic_depth_reaches_the_blocks() -> None:
    model = create(P2T, drop_path_rate=0.4)
    rates = [block.drop_path.drop_prob for block in list(model.backbone.stages)[-1].blocks]
    assert rates == [pytest.approx(0.4)]


def test_parameters_go_where_they_are_told() -> None:
    model = create(P2T, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}
    model.reset_classifier(3)
    assert (model.head.fc.weight.is_meta, model.head.fc.weight.dtype) == (True, torch.bfloat16)


def test_intermediates_are_the_maps_of_the_backbone(images: Tensor) -> None:
    model = create(P2T).eval()
    expected = model.backbone(images)
    last, maps = model.forward_intermediates(images)
    assert torch.equal(last, expected[-1])
    assert all(map(torch.equal, maps, expected))
    assert [m.shape[1] for m in maps] == [info["num_chs"] for info in model.feature_info]
    for indices, wanted in ((2, (2, 3)), ((0, 2), (0, 2)), ((-1,), (3,)), ([1], (1,))):
        maps = model.forward_intermediates(images, indices, intermediates_only=True)
        assert len(maps) == len(wanted)
        assert all(torch.equal(m, expected[i]) for m, i in zip(maps, wanted, strict=True))


def test_stopping_early_computes_no_further_stage(images: Tensor) -> None:
    model = create(P2T).eval()
    ran = []
    for i, stage in enumerate(model.backbone.stages):
        stage.register_forward_hook(lambda *_, i=i: ran.append(i))
    last, maps = model.forward_intermediates(images, indices=[1], stop_early=True)
    assert ran == [0, 1]
    assert torch.equal(last, maps[0])
    model.forward_intermediates(images, indices=[1])
    assert ran == [0, 1, 0, 1, 2, 3]


def test_layouts_are_views_of_the_map(images: Tensor) -> None:
    model = create(P2T).eval()
    reference = model.forward_intermediates(images, [0], intermediates_only=True)[0]
    shapes = {"NHWC": reference.permute(0, 2, 3, 1), "NLC": to_tokens(reference)}
    for layout, expected in shapes.items():
        (got,) = model.forward_intermediates(
            images, [0], output_fmt=layout, intermediates_only=True
        )
        assert torch.equal(got, expected)
        assert got.is_contiguous()  # no copy was needed: the map is in channels_last memory


def test_features_only_keeps_what_it_needs(images: Tensor) -> None:
    net = create(P2T, features_only=True, out_indices=(0, 2))
    assert net.feature_info.channels() == [8, 16]
    assert net.feature_info.reduction() == [4, 16]
    assert [tuple(m.shape) for m in net(images)] == [(2, 8, 16, 24), (2, 16, 4, 6)]
    assert len(net.model.backbone.stages) == 3
    assert [tuple(m.shape)[1] for m in create(P2T, features_only=True)(images)] == [
        8,
        12,
        16,
        24,
    ]


def test_a_cut_model_ends_at_its_last_feature(images: Tensor) -> None:
    model = create(P2T).eval()
    expected = model.forward_intermediates(images, [1], intermediates_only=True)[0]
    assert model.prune_intermediate_layers([1]) == [1]
    assert torch.equal(model(images), expected)
    assert model.num_features == 12
    with pytest.raises(ZigguratError, match="was cut behind one of its features and cannot class"):
        model.reset_classifier(3)


def test_checkpointing_changes_no_gradient(images: Tensor) -> None:
    model = create(P2T, num_classes=5)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        assert all(stage.use_checkpointing is enable for stage in model.backbone.stages)
        model.zero_grad()
        model(images).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_layer_decay_gives_each_block_its_rate() -> None:
    model = create(P2T, num_classes=5)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1.0, layer_decay=0.5)
    names = {id(p): name for name, p in model.named_parameters()}
    scales = {names[id(p)]: g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    # Stem, five blocks, head.
    assert scales["head.fc.weight"] == 1
    assert scales["backbone.stages.3.blocks.0.mlp.fc1.weight"] == 0.5
    assert scales["backbone.stages.3.patch_embed.proj.weight"] == 0.5
    assert scales["backbone.stages.3.pool_convs.0.weight"] == 0.5
    assert scales["backbone.stages.1.blocks.1.attn.q.weight"] == 0.5**3
    assert scales["backbone.stages.1.blocks.0.attn.q.weight"] == 0.5**4
    assert scales["backbone.stages.0.blocks.0.attn.q.weight"] == 0.5**5
    assert scales["backbone.stages.0.patch_embed.proj.weight"] == 0.5**6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "max"}, "has no global_pool='max'; its weights are trained with 'avg'"),
        ({"global_pool": ""}, "cannot have num_classes=1000 with global_pool=''"),
        ({"num_classes": -1}, "cannot have num_classes=-1 with global_pool='avg'"),
        ({"drop_path_rate": 1.5}, "drop_path_rate must be in"),
        ({"in_chans": 0}, "in_channels must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        create(P2T, **options)


def test_an_unknown_argument_is_not_ignored() -> None:
    with pytest.raises(TypeError, match="img_size"):
        create(P2T, img_size=512)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"indices": 5}, "has 4 features, got indices=5 for that many last ones; give 1 to 4"),
        ({"indices": 0}, "has 4 features, got indices=0"),
        ({"indices": [4]}, r"has features 0 to 3, got indices=\[4\]"),
        ({"indices": [-5]}, "has features 0 to 3"),
        ({"indices": []}, "has features 0 to 3"),
        ({"output_fmt": "HWC"}, "unknown output_fmt 'HWC'; known are NCHW, NHWC, NLC"),
    ],
)
def test_wrong_intermediates_are_refused(
    options: dict[str, object], message: str, images: Tensor
) -> None:
    with pytest.raises(ZigguratError, match=message):
        create(P2T).forward_intermediates(images, **options)


@pytest.mark.parametrize("name", ["p2t_tiny", "pvt_v2_b0", "pvt_tiny", "topformer_tiny"])
def test_models_can_be_pickled(name: str, images: Tensor) -> None:
    model = create(name, num_classes=3).eval()
    copied = pickle.loads(pickle.dumps(model))
    assert torch.equal(model(images), copied(images))
