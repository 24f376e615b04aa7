"""The adapter beside GPViT: what outputs on golden values cannot show, at tiny size."""

import pytest
import torch
from timm.layers.drop import DropPath
from torch import nn

from ziggurat.backbones.gpvit_adapter import GPViTAdapter, Injector, join_pyramid, split_pyramid
from ziggurat.layers.deformable_attention import DeformableAttention


def mini(*, drop_path_rate: float = 0.0, is_single_stage: bool = False) -> GPViTAdapter:
    return GPViTAdapter(
        embed_dim=24,
        num_heads=4,
        num_group_heads=2,
        num_groups=(0, 4, 0, 2),
        num_stem_convs=1,
        drop_path_rate=drop_path_rate,
        in_channels=3,
        is_single_stage=is_single_stage,
    )


@pytest.mark.parametrize("size", [(64, 96), (97, 101), (40, 33)])
@pytest.mark.parametrize("is_single_stage", [False, True])
def test_every_size_gives_a_pyramid(size: tuple[int, int], is_single_stage: bool) -> None:
    model = mini(is_single_stage=is_single_stage).eval()
    maps = model(torch.randn(2, 3, *size))
    assert model.out_strides == ((8, 16, 32) if is_single_stage else (4, 8, 16, 32))
    assert [tuple(m.shape) for m in maps] == [
        (2, 24, -(-size[0] // s), -(-size[1] // s)) for s in model.out_strides
    ]
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


def test_norms_of_the_adapter_have_a_small_epsilon() -> None:
    model = mini()
    parts = [*model.injectors.modules(), *model.extractors.modules()]
    norms = [m for m in parts if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 4 * 2 + 6 * 3
    assert {norm.eps for norm in norms} == {1e-6}


def test_initial_values() -> None:
    model = mini()
    values = dict(model.named_parameters())
    assert all(not values[f"injectors.{i}.gamma"].any() for i in range(4))
    assert values["level_embed"].std().item() == pytest.approx(1, abs=0.2)
    prior = values["prior.stem.1.conv.weight"]
    assert prior.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    dwconv = values["extractors.0.mlp.dwconv.weight"]  # 6 channels of 9 weights, one group each
    assert dwconv.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.4)
    xavier = values["extractors.0.attn.value_proj.weight"]
    assert xavier.abs().max().item() == pytest.approx((6 / 48) ** 0.5, rel=0.05)
    for name in ("sampling_offsets", "attention_weights"):
        assert not values[f"extractors.0.attn.{name}.weight"].any()
    assert values["extractors.0.mlp.fc1.weight"].std().item() == pytest.approx(0.02, rel=0.2)


def test_extractors_drop_at_the_full_rate() -> None:
    model = mini(drop_path_rate=0.3)
    rates = {m.drop_prob for m in model.extractors.modules() if isinstance(m, DropPath)}
    assert rates == {0.3}


def test_at_first_the_transformer_does_not_hear_the_pyramid() -> None:
    model = mini().eval()
    x, sizes = torch.randn(1, 24, 8, 8), [(8, 8), (4, 4), (2, 2)]
    pyramid = torch.randn(1, 84, 24)
    with torch.no_grad():
        injector = model.injectors[0]
        assert isinstance(injector, Injector)
        torch.testing.assert_close(injector(x, pyramid, sizes), x)
        injector.gamma.fill_(1.0)
        assert (injector(x, pyramid, sizes) - x).abs().min() > 0


def test_splitting_undoes_joining() -> None:
    maps = [torch.randn(2, 5, 4, 6), torch.randn(2, 5, 2, 3)]
    for a, b in zip(split_pyramid(join_pyramid(maps), [(4, 6), (2, 3)]), maps, strict=True):
        assert torch.equal(a, b)


def test_checkpointing_gives_the_same_gradients() -> None:
    images = torch.randn(1, 3, 64, 64)
    model = mini().eval()
    for i in range(4):
        nn.init.ones_(model.get_parameter(f"injectors.{i}.gamma"))
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        torch.stack([m.square().mean() for m in model(images)]).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_heads_must_divide_channels() -> None:
    with pytest.raises(ValueError, match="num_heads must divide dim"):
        DeformableAttention(24, 7, 1, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_it_exports_with_variable_sizes() -> None:
    model = mini().eval()
    sides = torch.export.Dim("height", min=65, max=2048), torch.export.Dim("width", min=65)
    with torch.no_grad():
        program = torch.export.export(
            model,
            (torch.randn(2, 3, 97, 131),),
            dynamic_shapes=({0: torch.export.Dim("batch"), 2: sides[0], 3: sides[1]},),
        ).module()
        for shape in ((1, 3, 97, 101), (3, 3, 80, 160)):
            images = torch.randn(shape)
            for a, b in zip(program(images), model(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
