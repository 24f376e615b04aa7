"""The Feature Pyramid Transformer on any pyramid: sizes, gradients, memory, bad input."""

import platform
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ziggurat
from ziggurat.errors import ZigguratError
from ziggurat.layers.checkpointing import set_checkpointing
from ziggurat.layers.grounding_transformer import EuclideanGrounding, GroundingTransformer
from ziggurat.layers.local_attention import LocalAttention
from ziggurat.layers.self_transformer import pool_keys
from ziggurat.necks import fpt
from ziggurat.necks.extended import ExtendedPyramid
from ziggurat.necks.fpt import FeaturePyramidTransformer, Formulas
from ziggurat.ops import memory

FORMULAS: tuple[Formulas, ...] = ("official", "paper")


def pyramid(sizes: Sequence[tuple[int, int]], batch: int = 1) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, 4 + 2 * i, *size) for i, size in enumerate(sizes)]


def neck_for(maps: Sequence[Tensor], strides: Sequence[int], **options: Any) -> Any:
    torch.manual_seed(1)
    return FeaturePyramidTransformer([x.shape[1] for x in maps], strides, 16, **options)


@pytest.mark.parametrize("formulas", FORMULAS)
@pytest.mark.parametrize(
    ("sizes", "strides"),
    [
        ([(6, 8), (3, 4)], (8, 16)),
        ([(25, 33), (13, 17), (7, 9)], (8, 16, 32)),
        ([(16, 9), (8, 5), (4, 3), (2, 2), (1, 1)], (4, 8, 16, 32, 64)),
        ([(5, 7), (5, 7)], (16, 16)),  # of one stride
        ([(10, 10), (7, 7)], (4, 6)),  # of a ratio that is no whole number
        ([(1, 1), (1, 1)], (4, 8)),
    ],
)
def test_any_pyramid_becomes_one_of_the_same_sizes_in_which_everything_learns(
    formulas: Formulas, sizes: list[tuple[int, int]], strides: tuple[int, ...]
) -> None:
    maps = pyramid(sizes)
    neck = neck_for(maps, strides, formulas=formulas)
    for ground in neck.grounds.values():  # zero at first, as published
        if formulas == "official":
            nn.init.normal_(ground.norm.weight)
    out = neck(maps)
    assert [tuple(x.shape) for x in out] == [(1, 16, *size) for size in sizes]
    assert neck.out_strides == strides
    sum((x * torch.randn_like(x)).sum() for x in out).backward()
    for name, parameter in neck.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        # A map of one cell has nothing to choose from, and its group norms see little.
        assert sizes[-1] == (1, 1) or gradient.abs().max() > 0, name


def test_maps_can_go_out_with_the_channels_that_they_came_in_with() -> None:
    maps, sizes = pyramid([(6, 8), (3, 4)], batch=2), [(6, 8), (3, 4)]
    neck, plain = neck_for(maps, (8, 16), restores_channels=True), neck_for(maps, (8, 16))
    assert (neck.out_channels, plain.out_channels) == ((4, 6), (16, 16))
    out = neck(maps)
    assert [x.shape for x in out] == [x.shape for x in maps]
    sum((x * torch.randn_like(x)).sum() for x in out).backward()
    assert all(p.grad.abs().max() > 0 for p in neck.restorations.parameters())
    assert set(plain.state_dict()) == {
        name for name in neck.state_dict() if not name.startswith("restorations.")
    }
    more, less = (x.predicted_bytes(sizes, batch=2, learns=False) for x in (neck, plain))
    assert more - less == 4 * 2 * (6 * 8 * 4 + 3 * 4 * 6)


def test_silent_groundings_wake_up() -> None:
    maps = pyramid([(8, 8), (4, 4)])
    neck = neck_for(maps, (4, 8))
    optimizer = torch.optim.SGD(neck.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(x.square().mean() for x in neck(maps)).backward()
        optimizer.step()
    for name, parameter in neck.grounds.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_images_of_a_batch_do_not_see_each_other() -> None:
    maps = pyramid([(9, 7), (5, 4)], batch=3)
    neck = neck_for(maps, (8, 16)).eval()
    with torch.inference_mode():
        together = neck(maps)
        alone = neck([x[1:2] for x in maps])
    for all_of_them, one in zip(together, alone, strict=True):
        torch.testing.assert_close(all_of_them[1:2], one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("formulas", FORMULAS)
def test_forgetting_and_computing_again_gives_the_same_gradients(formulas: Formulas) -> None:
    maps = pyramid([(9, 7), (5, 4)], batch=2)
    neck = neck_for(maps, (8, 16), formulas=formulas, dropout=0.0)
    gradients = []
    for forgets in (False, True):
        set_checkpointing(neck, forgets)
        neck.zero_grad()
        sum(x.square().sum() for x in neck(maps)).backward()
        gradients.append([p.grad for p in neck.parameters()])
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, again)


def test_a_budget_of_keys_is_kept_and_changes_nothing_where_it_suffices() -> None:
    maps = pyramid([(32, 40), (16, 20)])
    out = {}
    for budget in (None, 320, 20):
        neck = neck_for(maps, (8, 16), key_budget=budget).eval()
        with torch.inference_mode():
            out[budget] = neck(maps)[0]
    assert torch.equal(out[None], out[320])  # 16 x 20 pooled keys
    assert not torch.equal(out[None], out[20])
    assert pool_keys(maps[0], 20, least=2).shape[2:] == (4, 5)
    assert pool_keys(maps[0], 1, least=2).shape[2:] == (1, 1)
    assert pool_keys(maps[0], None, least=1) is maps[0]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_coarsest_maps_alone_look_at_themselves(count: int) -> None:
    maps = pyramid([(16, 20), (8, 10)])
    neck = neck_for(maps, (8, 16), self_levels=count)
    found = neck(maps)
    assert [x.shape[2:] for x in found] == [(16, 20), (8, 10)]
    sum(x.square().sum() for x in found).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    looks = neck.eval().looks([x[:1] for x in maps], 0.5, 0.5)
    pairs = [(look.level, look.other) for look in looks]
    assert pairs == {0: [(0, 1)], 1: [(0, 1), (1, 1)], 2: [(0, 0), (0, 1), (1, 1)]}[count]
    sizes = [(16, 20), (8, 10)]
    whole = neck_for(maps, (8, 16)).predicted_bytes(sizes, batch=1, learns=True)
    fewer = neck.predicted_bytes(sizes, batch=1, learns=True)
    assert (fewer < whole) == (count < 2)


def test_local_attention_looks_where_it_reads() -> None:
    """With one-hot values, what a pixel found is where it looked."""
    attention = LocalAttention(4, 4, 3)
    x = torch.randn(1, 4, 5, 6)
    for row, column in ((0, 0), (2, 3), (4, 5)):
        looks = attention.attention(x, row, column)[0]
        read = torch.zeros_like(looks)
        for place in ((r, c) for r in range(5) for c in range(6)):
            one_hot = torch.zeros(1, 4, 5, 6)
            one_hot[:, :, *place] = 1
            attention.register_module("v", ConstantMap(one_hot))
            read[place] = attention(x)[0, :, row, column].mean()
        torch.testing.assert_close(looks, read)
        assert not looks[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].eq(0).any()


class ConstantMap(nn.Module):
    """Gives the same map whatever comes in."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return self.value


@pytest.mark.parametrize("formulas", FORMULAS)
def test_training_drops_blocks_of_what_was_found(formulas: Formulas) -> None:
    maps = pyramid([(12, 12), (6, 6), (2, 1)])
    neck = neck_for(maps, (4, 8, 32), formulas=formulas, dropout=0.0, drop_block=0.5)
    views = [view for level in range(3) for view in neck._views(neck._project(maps), level)]
    found, own = [view for i, view in enumerate(views) if i % 4 != 3], views[3::4]
    assert not any(x.eq(0).all(dim=1).any() for x in own)
    dropped = sum(int(x.eq(0).all(dim=1).sum()) for x in found if x.shape[2] == 12)
    if formulas == "paper":  # what the code grounds is 0 at first
        assert 0 < dropped < 3 * 144
    neck.eval()
    plain = neck_for(maps, (4, 8, 32), formulas=formulas, dropout=0.0).eval()
    plain.load_state_dict(neck.state_dict())
    for x, y in zip(neck(maps), plain(maps), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(("by", "num_convs"), [("convolution", 2), ("subsample", 0)])
def test_levels_beyond_the_coarsest(by: Any, num_convs: int) -> None:
    maps = pyramid([(16, 16), (9, 8), (5, 4)])
    transformer = neck_for(maps[1:], (8, 16))
    neck = ExtendedPyramid(transformer, start_level=1, num_extra_levels=2, by=by)
    out = neck(maps)
    assert [tuple(x.shape[2:]) for x in out] == [(9, 8), (5, 4), (3, 2), (2, 1)]
    assert neck.out_strides == (8, 16, 32, 64)
    assert neck.out_channels == (16,) * 4
    assert len(neck.convs) == num_convs


def test_what_cannot_fit_is_refused_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = pyramid([(8, 8), (4, 4)])
    neck = neck_for(maps, (4, 8))
    monkeypatch.setattr(fpt, "SMALL_ENOUGH", 0)
    monkeypatch.setattr(fpt, "available_bytes", lambda _: 1000)
    with pytest.raises(ZigguratError, match=r"needs about 0.3 GiB for 1 images .* 8 x 8, and 0.0"):
        neck(maps)
    learning = neck.predicted_bytes([(8, 8), (4, 4)], batch=2, learns=True)
    assert learning > neck.predicted_bytes([(8, 8), (4, 4)], batch=2, learns=False)
    monkeypatch.setattr(fpt, "available_bytes", lambda _: None)  # a system that does not tell
    neck(maps)


def test_memory_that_is_left() -> None:
    left = memory.available_bytes(torch.device("cpu"))
    assert left is None or left > 2**20
    assert memory.available_bytes(torch.device("meta")) is None


def test_freed_memory_of_this_process_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_free_in_heap", lambda: 0)
    without = memory.available_bytes(cpu)
    monkeypatch.setattr(memory, "_free_in_heap", lambda: 2**50)
    left = memory.available_bytes(cpu)
    assert (left is None) == (without is None)
    assert left is None or without is None or left > without + 2**49
    monkeypatch.undo()
    assert memory._free_in_heap() >= 0
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory._free_in_heap() == 0


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="two maps at least, got 1"):
        FeaturePyramidTransformer([4], [8], 16)
    with pytest.raises(ValueError, match="a middle, an odd side, got 4"):
        neck_for(pyramid([(4, 4), (2, 2)]), (4, 8), formulas="paper", window=4)(
            pyramid([(4, 4), (2, 2)])
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "an odd side, got 0"),
        ({"window": 4, "formulas": "paper"}, "an odd side, got 4"),
        ({"key_budget": 0}, "at least 1, or None, got 0"),
        ({"self_levels": -1}, "from 0 to the 2 maps, or None, got -1"),
        ({"self_levels": 3}, "from 0 to the 2 maps, or None, got 3"),
        ({"dropout": 2.0}, "dropout must be at least 0 and below 1, got 2"),
        ({"drop_block": 1.5}, "drop_block must be at least 0 and below 1, got 1.5"),
        ({"in_strides": (8,)}, r"for each map, got \(4, 4\) and \(8,\)"),
        ({"in_strides": (0, 8)}, "a number above 0 for each map"),
        ({"in_strides": (16, 8)}, r"from fine to coarse, got \(16, 8\)"),
        ({"in_channels": (0, 4)}, "a number above 0 for each map"),
        ({"out_channels": 0}, "got 0 channels"),
        ({"out_channels": 1}, "into 2 equal parts, got 1 channels"),
        ({"out_channels": 33}, "into 2 equal parts, got 33 channels"),
        ({"out_channels": 34, "formulas": "paper"}, "into 4 equal parts, got 34 channels"),
    ],
)
def test_arguments_that_it_cannot_have(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "in_channels": (4, 4),
        "in_strides": (8, 16),
        "out_channels": 16,
    } | options
    with pytest.raises(ZigguratError, match=message):
        FeaturePyramidTransformer(**arguments)


def test_what_is_ignored_within_a_window_is_refused() -> None:
    for options in ({"key_budget": 1}, {"parts": 3}):
        with pytest.raises(ZigguratError, match="one softmax over all of its keys"):
            EuclideanGrounding(16, window=5, **options)
    with pytest.raises(ZigguratError, match="6 channels cannot be cut into 4 parts"):
        EuclideanGrounding(6)


def test_batch_norms_need_two_images_a_step() -> None:
    maps = pyramid([(8, 8), (4, 4)])
    neck = neck_for(maps, (4, 8), inner_norm="batch")
    with pytest.raises(ZigguratError, match="two images a step at least, got one"):
        neck(maps)
    neck([torch.cat((x, x)) for x in maps])
    neck.eval()(maps)


def test_products_of_a_large_map_fit_half_precision() -> None:
    torch.manual_seed(0)
    ground = GroundingTransformer(16, None).eval()
    for conv in (ground.q, ground.k, ground.v):
        nn.init.eye_(conv.weight.flatten(1))
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    nn.init.normal_(ground.proj.weight)
    fine, coarse = torch.randn(1, 16, 8, 8), torch.randn(1, 16, 160, 160) + 2
    expected = ground(fine, coarse)
    with torch.autocast("cpu", torch.float16):
        half = ground(fine, coarse)
    torch.testing.assert_close(half.float(), expected, atol=0.1, rtol=0.05)


@pytest.mark.parametrize("system", ["retinanet", "semantic_fpn"])
def test_models_refuse_before_their_backbone_runs(
    system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ziggurat.create_model(
        system, backbone="pvt_v2_b0", neck="fpt", num_classes=3, head_channels=32
    ).eval()
    ran: list[str] = []
    model.backbone.register_forward_hook(lambda *_: ran.append("backbone"))
    monkeypatch.setattr(fpt, "SMALL_ENOUGH", 0)
    monkeypatch.setattr(fpt, "available_bytes", lambda _: 1000)
    with pytest.raises(ZigguratError, match="for 1 images whose finest map is"):
        model(torch.zeros(1, 3, 64, 64))
    assert not ran
