"""Each family keeps what timm's tools expect, tested on its name model."""

import inspect
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

import ziggurat
from ziggurat import ZigguratError, zoo
from ziggurat.layers.tokens import to_tokens
from ziggurat.timm_bridge.families import FAMILIES

FEATURES = {
    "pvt_tiny": ((8, 4), (12, 8), (16, 16), (24, 32)),
    "ziggurat_pvt_v2_b0": ((8, 4), (12, 8), (16, 16), (24, 32)),
    "p2t_tiny": ((8, 4), (12, 8), (16, 16), (24, 32)),
    "topformer_tiny": ((8, 4), (12, 8), (16, 16), (60, 32)),
    "gpvit_l1": ((24, 8), (24, 8), (24, 8), (24, 8)),
}

# Stem, five or twelve blocks, head; TopFormer has five rows of its token pyramid and four blocks.
NUM_LAYERS = {
    "pvt_tiny": 7,
    "ziggurat_pvt_v2_b0": 7,
    "p2t_tiny": 7,
    "topformer_tiny": 11,
    "gpvit_l1": 14,
}
NUM_COARSE_LAYERS = {
    "pvt_tiny": 6,
    "ziggurat_pvt_v2_b0": 6,
    "p2t_tiny": 6,
    "topformer_tiny": 4,
    "gpvit_l1": 3,
}


@pytest.fixture
def model(name: str) -> Any:
    return timm.create_model(name, num_classes=3).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96)


def test_every_family_that_classifies_is_known() -> None:
    for model_name, build in zoo.TRUNKS.items():
        assert inspect.signature(build).return_annotation in FAMILIES, model_name


def test_logits_are_those_of_our_classifier(name: str, model: Any, images: Tensor) -> None:
    ours = ziggurat.create_model(name.removeprefix("ziggurat_"), num_classes=3).eval()
    ours.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(images), ours(images))


def test_features_have_the_promised_channels_and_strides(
    name: str, model: Any, images: Tensor
) -> None:
    with torch.no_grad():
        last, maps = model.forward_intermediates(images)
        assert torch.equal(last, model.forward_features(images))
    info = [(f["num_chs"], f["reduction"]) for f in model.feature_info]
    assert tuple(info) == FEATURES[name]
    for (channels, stride), features in zip(info, maps, strict=True):
        assert features.shape == (2, channels, 64 // stride, 96 // stride)
        assert features.is_contiguous(memory_format=torch.channels_last)


def test_feature_names_are_those_of_modules(name: str, model: Any, images: Tensor) -> None:
    shapes: dict[str, torch.Size] = {}
    for info in model.feature_info:
        model.get_submodule(info["module"]).register_forward_hook(
            lambda _, __, output, name=info["module"]: shapes.update({name: output.shape})
        )
    with torch.no_grad():
        model(images)
    assert [shape[1] for shape in shapes.values()] == [c for c, _ in FEATURES[name]]


@pytest.mark.parametrize("index", range(4))
def test_pruning_keeps_the_feature_and_no_idle_parameter(
    name: str, index: int, model: Any, images: Tensor
) -> None:
    with torch.no_grad():
        expected = model.forward_intermediates(images, [index], intermediates_only=True)[0]
    net: Any = timm.create_model(name, features_only=True, out_indices=(index,)).eval()
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    net.load_state_dict({name: state[name] for name in net.state_dict()})
    (features,) = net(images)
    assert torch.equal(features, expected)
    features.sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


def test_layers_are_ordered_from_input_to_output(name: str, model: Any) -> None:
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    names = [name for name, _ in model.named_parameters()]
    assert set(layers) == set(names)
    assert set(layers.values()) == set(range(NUM_LAYERS[name]))
    first_conv = model.pretrained_cfg["first_conv"]
    assert layers[f"{first_conv}.weight"] == 0
    head = NUM_LAYERS[name] - 1
    assert {name for name, layer in layers.items() if layer == head} == {
        name for name in names if name.startswith("head.")
    }
    coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert set(coarse.values()) == set(range(NUM_COARSE_LAYERS[name]))


def test_norms_at_the_end_join_the_last_block() -> None:
    for name, norm, block in (
        ("pvt_tiny", "backbone.norm.weight", "backbone.stages.3.blocks.0.norm1"),
        ("ziggurat_pvt_v2_b0", "backbone.stages.1.norm.weight", "backbone.stages.1.blocks.1.norm1"),
        ("gpvit_l1", "backbone.norms.11.weight", "backbone.blocks.11.norm1"),
    ):
        with torch.device("meta"):
            model: Any = timm.create_model(name)
        layers = group_parameters(model, model.group_matcher(), reverse=True)
        assert {layers[norm]} == {layer for n, layer in layers.items() if n.startswith(block)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pvt_tiny", {"backbone.stages.3.cls_token"}),
        ("ziggurat_pvt_v2_b0", set()),
        ("p2t_tiny", set()),
        ("topformer_tiny", set()),
        (
            "gpvit_l1",
            {"backbone.patch_embed.pos_embed", "head.pool.group_token"}
            | {f"backbone.blocks.{i}.group_token" for i in (1, 4, 7, 10)},
        ),
    ],
)
def test_only_what_the_official_code_spares_does_not_decay(name: str, expected: set[str]) -> None:
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    assert model.no_weight_decay() == expected


@pytest.mark.parametrize(("name", "normed"), [("pvt_tiny", 1), ("gpvit_l1", 4), ("p2t_tiny", 0)])
def test_the_last_norm_is_applied_where_it_fits(name: str, normed: int, images: Tensor) -> None:
    model: Any = timm.create_model(name, num_classes=0).eval()
    with torch.no_grad():
        last, plain = model.forward_intermediates(images)
        _, maps = model.forward_intermediates(images, norm=True)
    changed = [not torch.equal(a, b) for a, b in zip(maps, plain, strict=True)]
    assert changed == [False] * (4 - normed) + [True] * normed
    if normed:
        tokens = last[:, 1:] if name == "pvt_tiny" else to_tokens(last)
        torch.testing.assert_close(to_tokens(maps[-1]), tokens)


@pytest.mark.parametrize(
    ("name", "pool", "kept"),
    [("pvt_tiny", "token", 0), ("gpvit_l1", "map", 4), ("topformer_tiny", "avg", 5)],
)
def test_a_pool_with_weights_stays_unless_it_is_taken_off(name: str, pool: str, kept: int) -> None:
    with torch.device("meta"):
        model: Any = timm.create_model(name)
    assert model.global_pool == pool
    before = model.head.pool
    model.reset_classifier(3)
    assert model.head.pool is before
    assert len(before.state_dict()) == kept
    model.reset_classifier(0, "")
    assert isinstance(model.head.pool, nn.Identity)


@pytest.mark.parametrize(("name", "side"), [("pvt_tiny", 32), ("ziggurat_pvt_v2_b0", 29)])
def test_images_that_are_too_small_are_refused(name: str, side: int) -> None:
    with torch.device("meta"):
        net: Any = timm.create_model(name, features_only=True)
        net(torch.empty(1, 3, side, side))
        with pytest.raises(ZigguratError, match=f"at least {side} x {side} pixels, got {side - 1}"):
            net(torch.empty(1, 3, side - 1, side))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_features_are_one_graph(name: str, model: Any, images: Tensor) -> None:
    def features(images: Tensor) -> list[Tensor]:
        last, maps = model.forward_intermediates(images, [0, 2], norm=True, stop_early=True)
        return [last, *maps]

    compiled = torch.compile(features, backend="eager", fullgraph=True)
    with torch.no_grad():
        for a, b in zip(compiled(images), features(images), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_features_export(name: str, images: Tensor) -> None:
    net: Any = timm.create_model(name, features_only=True).eval()
    with torch.no_grad():
        program = torch.export.export(net, (images,)).module()
        for a, b in zip(program(images), net(images), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
