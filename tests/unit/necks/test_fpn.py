"""The feature pyramid's sizes and sums."""

import torch

from ziggurat.necks.fpn import FPN


def test_levels_strides_and_odd_sizes() -> None:
    fpn = FPN((4, 8, 16), (8, 16, 32), 6, start_level=0, num_extra_levels=2, extra_from="input")
    maps = [torch.randn(1, 4, 13, 21), torch.randn(1, 8, 7, 11), torch.randn(1, 16, 4, 6)]
    levels = fpn(maps)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (6, 13, 21),
        (6, 7, 11),
        (6, 4, 6),
        (6, 2, 3),
        (6, 1, 2),
    ]
    assert fpn.out_strides == (8, 16, 32, 64, 128)
    assert fpn.out_channels == (6,) * 5


def test_coarse_maps_reach_fine_levels_but_not_the_other_way() -> None:
    fpn = FPN((2, 2), (8, 16), 3, start_level=0, num_extra_levels=0, extra_from="output")
    fine, coarse = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2, requires_grad=True)
    fpn([fine, coarse])[0].sum().backward()
    assert coarse.grad is not None
    assert coarse.grad.abs().sum() > 0
    quiet, loud = fpn([fine, coarse])[1], fpn([fine + 5, coarse])[1]
    torch.testing.assert_close(quiet, loud)


def test_extra_levels_come_from_where_they_are_told() -> None:
    for extra_from, channels in (("input", 5), ("output", 3)):
        fpn = FPN((5,), (32,), 3, start_level=0, num_extra_levels=1, extra_from=extra_from)  # type: ignore[arg-type]
        assert fpn.output_convs[1].in_channels == channels
