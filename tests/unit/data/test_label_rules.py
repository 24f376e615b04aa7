"""classes.json, and the lists of classes of well-known data sets."""

import json
from pathlib import Path
from typing import Any

import pytest

from ziggurat.class_lists import class_list
from ziggurat.data.label_rules import read_rule
from ziggurat.errors import ZigguratError


def _write(root: Path, **content: object) -> Path:
    (root / "classes.json").write_text(json.dumps(content))
    return root


def test_classes_alone(tmp_path: Path) -> None:
    rule = read_rule(_write(tmp_path, classes=["road", "sky"]))
    assert (rule.classes, rule.palette, rule.values) == (("road", "sky"), None, (0, 1))
    assert rule.expected() == "0..1, or 255 where nobody labelled"


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"classes": ["road"]}', encoding="utf-8-sig")
    assert read_rule(tmp_path).classes == ("road",)


def test_everything(tmp_path: Path) -> None:
    rule = read_rule(
        _write(
            tmp_path,
            classes=["road", "sky"],
            palette=[[0, 0, 0], [70, 130, 180]],
            values=[3, 255],
            ignored=[9, [1, 2, 3]],
            ignore_index=8,
        )
    )
    assert rule.table[[3, 255, 9, 8]].tolist() == [0, 1, 255, 255]
    assert rule.is_known.nonzero()[0].tolist() == [3, 8, 9, 255]
    assert rule.ignored_colours == {(1, 2, 3)}  # black is a class


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"classes": []}, "list 'classes' of 1 to 255 different names"),
        ({"classes": ["a", "a"]}, "different names"),
        ({"classes": ["a", 3]}, "different names"),
        ({"palette": [[0, 0, 0]]}, "different names"),
        ({"classes": ["a"], "palette": [[0, 0]]}, "one colour .* for each of 1 classes"),
        ({"classes": ["a"], "palette": [[0, 0, 256]]}, "one colour"),
        ({"classes": ["a", "b"], "palette": [[0, 0, 0]]}, "for each of 2 classes"),
        ({"classes": ["a", "b"], "values": [1]}, "different number of 0..65535 for each of 2"),
        ({"classes": ["a", "b"], "values": [1, 1]}, "different number"),
        ({"classes": ["a", "b"], "values": [1, True]}, "different number"),
        ({"classes": ["a"], "values": [65536]}, "different number"),
        ({"classes": ["a"], "ignored": 3}, "may have 'ignored', a list"),
        ({"classes": ["a"], "ignored": ["b"]}, "may have 'ignored', a list"),
        ({"classes": ["a"], "ignore_index": -1}, "'ignore_index', one value"),
        ({"classes": ["a"], "ignored": [0]}, "gives 0 to a class and to what is ignored"),
        ({"classes": ["a"], "pallete": []}, "unknown entry .* 'pallete'; did you mean 'palette'"),
    ],
)
def test_faulty_class_files(tmp_path: Path, content: dict[str, Any], reason: str) -> None:
    with pytest.raises(ZigguratError, match=reason):
        read_rule(_write(tmp_path, **content))


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100000])
def test_no_class_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ZigguratError, match="says nothing about its classes: expected classes"):
        read_rule(tmp_path)
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(ZigguratError, match="is no JSON that can be read|must hold an object"):
        read_rule(tmp_path)


@pytest.mark.parametrize(
    ("name", "count", "first", "last"),
    [
        ("ade20k", 150, "wall", "flag"),
        ("camvid", 11, "sky", "bicyclist"),
        ("cityscapes", 19, "road", "bicycle"),
        ("coco_stuff", 171, "person", "wood"),
        ("pascal_context", 60, "background", "wood"),
        ("pascal_voc", 21, "background", "tvmonitor"),
    ],
)
def test_lists_of_classes(name: str, count: int, first: str, last: str) -> None:
    known = class_list(name)
    assert len(known.classes) == len(set(known.classes)) == len(known.palette) == count
    assert (known.classes[0], known.classes[-1]) == (first, last)
    assert all(0 <= level <= 255 for colour in known.palette for level in colour)


def test_vocs_colours_follow_from_the_bits_of_the_label() -> None:
    # Everingham et al., the VOC development kit: bits 0, 1, 2 of the label, then 3, 4, 5, are the
    # upper bits of red, green, blue.
    for label, colour in enumerate(class_list("pascal_voc").palette):
        expected = [0, 0, 0]
        for place in range(3):
            for channel in range(3):
                expected[channel] |= (label >> (3 * place + channel) & 1) << (7 - place)
        assert list(colour) == expected
