"""Colours of classes: those of well-known data sets, else colours that are told apart."""

import numpy as np

from ziggurat.class_lists import class_list
from ziggurat.visualize.palettes import class_colours, known_colours


def test_well_known_data_sets_have_their_own_colours() -> None:
    for name in ("ade20k", "camvid", "cityscapes", "coco_stuff", "pascal_context", "pascal_voc"):
        known = class_list(name)
        assert class_colours(known.classes).tolist() == [list(colour) for colour in known.palette]


def test_order_and_capitals_do_not_matter() -> None:
    known = class_list("cityscapes")
    names = [name.upper() for name in reversed(known.classes)]
    assert class_colours(names).tolist() == [list(colour) for colour in reversed(known.palette)]


def test_pascal_context_without_background() -> None:
    known = class_list("pascal_context")
    assert class_colours(known.classes[1:]).tolist() == [list(c) for c in known.palette[1:]]


def test_other_classes_are_told_apart() -> None:
    assert known_colours(("road", "sky")) is None
    colours = class_colours([f"class_{label}" for label in range(60)])
    assert colours.dtype == np.uint8
    assert len({tuple(colour) for colour in colours.tolist()}) == 60
    assert class_colours(()).shape == (0, 3)
