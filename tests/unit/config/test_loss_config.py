"""Options of a segmenter's loss are checked when they are set."""

import dataclasses
import re
from typing import Any

import pytest

from ziggurat.config.loss import LossConfig
from ziggurat.errors import ZigguratError
from ziggurat.losses.segmentation import SegmentationLoss


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dice": -1.0}, "loss.dice must be at least 0, got -1.0"),
        ({"auxiliary": -0.1}, "loss.auxiliary must be at least 0, got -0.1"),
        ({"pixels": 0.0}, "loss.pixels must be above 0 where no other loss is, got 0.0"),
        ({"hard_share": 1.5}, "loss.hard_share must be between 0 and 1, got 1.5"),
        ({"hard_below": 0.0}, "loss.hard_below must be above 0, at most 1, got 0.0"),
        ({"boundary_width": 4}, "loss.boundary_width must be odd, at least 1, got 4"),
        ({"class_weights": (0.0, 0.0)}, "numbers of at least 0, not all 0, got (0.0, 0.0)"),
        ({"class_weights": ()}, "numbers of at least 0, not all 0, got ()"),
        ({"class_weights": (-1.0, 1.0)}, "numbers of at least 0, not all 0, got (-1.0, 1.0)"),
        (
            {"pixels": 0.0, "auxiliary": 0.0, "dice": 1.0, "class_weights": "balanced"},
            "loss.class_weights must be null where loss.pixels and loss.auxiliary are 0",
        ),
        (
            {"pixels": 0.0, "auxiliary": 0.0, "dice": 1.0, "hard_below": 0.7},
            "loss.hard_below must be null where loss.pixels and loss.auxiliary are 0",
        ),
        (
            {"pixels": 0.0, "auxiliary": 0.0, "dice": 1.0, "normaliser": "labelled"},
            "loss.normaliser must be left at its default 'all' where loss.pixels and loss.auxiliary"
            " are 0",
        ),
        (
            {"hard_share": 0.5},
            "loss.hard_share must be left at its default 0.0625 where loss.hard_below is null",
        ),
        (
            {"boundary_width": 7},
            "loss.boundary_width must be left at its default 5 where loss.boundary is 0",
        ),
    ],
)
def test_values_out_of_range(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ZigguratError, match=re.escape(message)):
        LossConfig(**fields)


def test_fields_that_are_read_may_have_any_value() -> None:
    config = LossConfig(
        normaliser="labelled", hard_below=0.7, hard_share=0.5, boundary=1.0, boundary_width=7
    )
    assert (config.hard_share, config.boundary_width) == (0.5, 7)


def test_the_options_are_those_of_the_loss_with_the_same_defaults() -> None:
    assert SegmentationLoss(**dataclasses.asdict(LossConfig())) == SegmentationLoss()
