"""GPViT: what outputs on golden values cannot show, at tiny size."""

from collections.abc import Callable

import pytest
import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from ziggurat.backbones.gpvit import (
    GPViT,
    GroupPropagationBlock,
    StripeBlock,
    gpvit_l1,
    gpvit_l2,
    gpvit_l3,
    gpvit_l4,
    resize_positions,
)
from ziggurat.checkpoints.gpvit import resize_position_embedding
from ziggurat.errors import ZigguratError
from ziggurat.layers.tokens import to_tokens


def mini(out_indices: tuple[int, ...] = (1, 3), drop_path_rate: float = 0.0) -> GPViT:
    return GPViT(
        embed_dim=24,
        num_heads=4,
        num_group_heads=2,
        num_groups=(0, 4, 0, 2),
        num_stem_convs=1,
        out_indices=out_indices,
        drop_path_rate=drop_path_rate,
        in_channels=3,
    )


@pytest.mark.parametrize("size", [(64, 96), (97, 101), (33, 8), (1, 1)])
def test_every_size_gives_maps_of_stride_8_rounded_up(size: tuple[int, int]) -> None:
    maps = mini().eval()(torch.randn(2, 3, *size))
    assert [m.shape for m in maps] == [(2, 24, -(-size[0] // 8), -(-size[1] // 8))] * 2
    assert all(m.isfinite().all() for m in maps)


def test_group_tokens_tell_every_pixel_of_a_far_one() -> None:
    block = GroupPropagationBlock(24, 2, 4, 0.0).eval()
    nn.init.normal_(block.group_token)
    nn.init.constant_(block.get_parameter("dwconv.norm.bias"), 10.0)  # no ReLU hides a change
    x = torch.randn(1, 24, 12, 12)
    changed = x.clone()
    changed[..., 0, 0] *= 100
    block.double()
    with torch.no_grad():
        difference = (block(x.double()) - block(changed.double()))[..., 6:, 6:].abs()
    assert (difference.amax(dim=1) > 0).all()


def test_stripe_blocks_see_their_row_and_column_only() -> None:
    block = StripeBlock(24, 4, 0.0).eval()
    x = torch.randn(1, 24, 12, 12)
    changed = x.clone()
    changed[..., 0, 0] += 1
    with torch.no_grad():
        difference = (block(x) - block(changed)).abs().amax(dim=1)[0]
    # Two cells of a stripe, and one more that the convolution after it reaches.
    assert (difference[3:, 3:] == 0).all()
    assert (difference[:2] > 0).all()
    assert (difference[:, :2] > 0).all()


def test_norms_of_stripe_blocks_and_outputs_have_another_epsilon() -> None:
    model = mini()
    eps = {name: m.eps for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
    assert len(eps) == 2 * 2 + 2 * 7 + 2
    for name, value in eps.items():
        is_small = name.startswith(("blocks.0.", "blocks.2.", "norms."))
        assert value == (1e-6 if is_small else 1e-5), name


def test_a_norm_is_on_the_output_only() -> None:
    torch.manual_seed(1)
    both = mini((1, 3)).eval()
    last = mini((3,)).eval()
    last.load_state_dict(
        {name: v for name, v in both.state_dict().items() if not name.startswith("norms.1.")}
    )
    with torch.no_grad():
        both.get_parameter("norms.1.weight").mul_(5)
        images = torch.randn(1, 3, 32, 32)
        torch.testing.assert_close(both(images)[1], last(images)[0])
        torch.testing.assert_close(last(images)[0], last.forward_features(images))


def test_initial_values() -> None:
    model = gpvit_l1()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1), name
            assert not module.bias.any(), name
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all(), name
            assert not module.bias.any(), name
    learned = {
        n: p for n, p in model.named_parameters() if n.endswith(("pos_embed", "group_token"))
    }
    assert len(learned) == 5
    for name, parameter in learned.items():
        assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name
    # Convolutions keep PyTorch's own: uniform, with a bound of 1 / sqrt(fan in).
    assert model.patch_embed.proj.weight.abs().max().item() == pytest.approx(1 / 32, rel=0.01)


def test_stochastic_depth_grows_linearly() -> None:
    model = mini(drop_path_rate=0.3)
    rates = [
        [m.drop_prob for m in block.modules() if isinstance(m, DropPath)] for block in model.blocks
    ]
    # A stripe block drops through one module, a group propagation block through three.
    assert rates == [[], [pytest.approx(0.1)] * 3, [pytest.approx(0.2)], [pytest.approx(0.3)] * 3]


def test_checkpointing_gives_the_same_gradients() -> None:
    images = torch.randn(2, 3, 40, 48)
    gradients: list[list[Tensor]] = []
    model = mini().eval()  # batch statistics would be counted twice
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        torch.stack([m.square().mean() for m in model(images)]).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("out_indices", [(), (1,), (3, 1), (1, 1, 3), (-1, 3), (1, 3, 4)])
def test_impossible_outputs_are_refused(out_indices: tuple[int, ...]) -> None:
    with pytest.raises(ZigguratError, match=r"out_indices must be increasing .* end with 3"):
        mini(out_indices)


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (gpvit_l1, 9_325_544),
        (gpvit_l2, 23_691_532),
        (gpvit_l3, 36_221_056),
        (gpvit_l4, 74_859_456),
    ],
)
def test_variants_have_the_published_sizes(build: Callable[..., GPViT], parameters: int) -> None:
    with torch.device("meta"):
        model = build(out_indices=(11,))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_position_embedding_is_resized_bicubically() -> None:
    ramp = torch.arange(16.0).view(1, 16, 1)
    assert torch.equal(resize_positions(ramp, 4, 4), ramp.view(1, 1, 4, 4))
    wider = resize_positions(ramp, 4, 8)
    expected = nn.functional.interpolate(ramp.view(1, 1, 4, 4), (4, 8), mode="bicubic")
    assert torch.equal(wider, expected)


def test_position_embedding_of_another_grid_is_resized_when_loaded() -> None:
    value = torch.randn(1, 36, 5)
    ours = resize_position_embedding(value, (1, 16, 5))
    assert ours.shape == (1, 16, 5)
    torch.testing.assert_close(ours, to_tokens(resize_positions(value, 4, 4)))


def test_position_embedding_of_no_square_grid_is_refused() -> None:
    with pytest.raises(ZigguratError, match="has 37 rows, expected those of a square grid"):
        resize_position_embedding(torch.randn(1, 37, 5), (1, 16, 5))


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
        for shape in ((1, 3, 97, 101), (3, 3, 80, 160), (1, 3, 224, 224)):
            images = torch.randn(shape)
            for a, b in zip(program(images), model(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_it_compiles_without_graph_breaks() -> None:
    model = mini().eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    with torch.no_grad():
        for size in ((64, 97), (224, 224)):
            images = torch.randn(1, 3, *size)
            for a, b in zip(compiled(images), model(images), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
