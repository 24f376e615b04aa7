"""The Feature Pyramid Transformer on any pyramid: sizes, gradients, memory, bad input."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ziggurat.errors import ZigguratError
from ziggurat.layers.checkpointing import set_checkpointing
from ziggurat.layers.self_transformer import pool_keys
from ziggurat.necks import fpt
from ziggurat.necks.extended import ExtendedPyramid
from ziggurat.necks.fpt import FeaturePyramidTransformer, Formulas
from ziggurat.ops import memory, window_attention

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


def test_windows_in_bands_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = pyramid([(12, 10), (5, 4)])
    neck = neck_for(maps, (4, 9), formulas="paper", window=3, dropout=0.0)
    results = []
    for numbers in (2**22, 0):
        monkeypatch.setattr(window_attention, "NUMBERS_AT_A_TIME", numbers)
        neck.zero_grad()
        out = neck(maps)[0]
        out.square().sum().backward()
        results.append((out.detach(), neck.grounds["0_1"].k.weight.grad))
    torch.testing.assert_close(results[0], results[1])


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


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="two maps at least, got 1"):
        FeaturePyramidTransformer([4], [8], 16)
    with pytest.raises(ValueError, match="a window belongs to the formulas of the paper"):
        FeaturePyramidTransformer([4, 4], [8, 16], 16, window=5)
    with pytest.raises(ValueError, match="a middle, an odd side, got 4"):
        neck_for(pyramid([(4, 4), (2, 2)]), (4, 8), formulas="paper", window=4)(
            pyramid([(4, 4), (2, 2)])
        )
    with pytest.raises(ValueError, match="15 channels cannot be cut into 2 parts"):
        FeaturePyramidTransformer([4, 4], [8, 16], 15)
