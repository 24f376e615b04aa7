"""Classes of the same name keep what a head has learned of them."""

from pathlib import Path

import pytest
import torch

from ziggurat.checkpoints.class_rows import ClassChange, has_names
from ziggurat.checkpoints.matching import CLASS_ENTRIES
from ziggurat.checkpoints.native import load_into, save_weights
from ziggurat.zoo import Model, create_model

CHANGE = ClassChange(("ant", "bee", "cow"), ("cow", "dog", "ant", "class_3"))


def rows_of(name: str, before: list[int], size: int, change: ClassChange = CHANGE) -> list[int]:
    """Numbers stand for rows of the file; -1 is an initial value."""
    value = change.rows(name, torch.tensor(before), torch.full((size,), -1))
    numbers: list[int] = value.tolist()
    return numbers


def test_rows_of_shared_classes() -> None:
    assert CHANGE.shared == {0: 2, 2: 0}
    assert CHANGE.summary() == "2 of 4 classes carried over by name, 2 begin anew"
    assert rows_of("head.fc.weight", [0, 1, 2], 4) == [2, -1, 0, -1]


def test_background_is_carried_over_too() -> None:
    assert rows_of("head.box_head.logits.bias", [0, 1, 2, 9], 5) == [2, -1, 0, -1, 9]
    one, two = ClassChange(("ant",), ("bee", "ant")), ClassChange(("bee", "ant"), ("ant",))
    assert rows_of("head.box_head.logits.bias", [0, 9], 3, one) == [-1, 0, 9]
    assert rows_of("head.box_head.logits.bias", [0, 1, 9], 2, two) == [1, 9]
    others = ClassChange(("ant",), ("bee",))
    assert rows_of("head.box_head.logits.bias", [0, 9], 2, others) == [-1, -1]


def test_every_anchor_lists_the_classes() -> None:
    assert rows_of("head.cls_logits.weight", [0, 1, 2, 10, 11, 12], 8) == [
        *(2, -1, 0, -1),
        *(12, -1, 10, -1),
    ]
    one = ClassChange(("ant",), ("bee", "ant"))
    assert rows_of("head.cls_logits.weight", [0, 10], 4, one) == [-1, 0, -1, 10]


def test_a_class_has_four_deltas() -> None:
    before = [10 * number + side for number in range(3) for side in range(4)]
    fresh = [-1] * 4
    expected = [20, 21, 22, 23, *fresh, 0, 1, 2, 3, *fresh]
    assert rows_of("head.box_head.deltas.weight", before, 16) == expected


def test_sizes_of_other_classes() -> None:
    with pytest.raises(ValueError, match="5 and 9 rows do not belong to 3 and 4"):
        rows_of("head.fc.weight", [0] * 5, 9)


def test_numbers_are_no_names() -> None:
    assert not has_names(("class_0", "class_1"))
    assert has_names(("class_1", "class_0")) and has_names(("ant",))
    # What a run has for classes beyond those of its data is not known either.
    assert ClassChange(("ant", "class_1"), ("class_1", "class_1")).shared == {}


def named(name: str, classes: tuple[str, ...], head_channels: int | None = None) -> Model:
    backbone = None if name == "topformer_tiny" else "topformer_tiny"
    model = create_model(
        name, backbone=backbone, num_classes=len(classes), head_channels=head_channels
    )
    model.classes = classes
    return model


@pytest.mark.parametrize(
    "name", ["topformer_tiny", "retinanet", "mask_rcnn", "sparse_rcnn", "detr", "semantic_fpn"]
)
def test_a_file_of_some_of_the_classes(name: str, tmp_path: Path) -> None:
    width = None if name == "topformer_tiny" else 32
    source = named(name, ("ant", "bee", "cow"), width)
    save_weights(source, tmp_path / "three.safetensors")
    model = named(name, ("bee", "dog", "emu", "ant"), width)
    fresh = {entry: value.clone() for entry, value in model.state_dict().items()}
    report = load_into(model, tmp_path / "three.safetensors", reset_classes=True)
    assert report.is_complete and not report.ignored
    own, given = model.state_dict(), source.state_dict()
    of_classes = {ours for _, ours in report.by_class}
    assert of_classes == {entry for entry in own if entry.startswith(CLASS_ENTRIES)}
    assert all(torch.equal(own[entry], given[entry]) for entry in own.keys() - of_classes)
    for entry in of_classes:
        expected = ClassChange(source.classes, model.classes).rows(
            entry, given[entry], fresh[entry]
        )
        assert torch.equal(own[entry], expected)
        assert entry.endswith("bias") or not torch.equal(own[entry], fresh[entry])
    line = "2 of 4 classes carried over by name, 2 begin anew"
    assert line in report.summary()


def test_as_many_other_classes_are_not_mistaken_for_these(tmp_path: Path) -> None:
    source = named("topformer_tiny", ("ant", "bee"))
    save_weights(source, tmp_path / "two.safetensors")
    model = named("topformer_tiny", ("bee", "ant"))
    load_into(model, tmp_path / "two.safetensors", reset_classes=True)
    expected = source.state_dict()["head.fc.weight"].flip(0)
    assert torch.equal(model.state_dict()["head.fc.weight"], expected)
    others = named("topformer_tiny", ("cat", "dog"))
    fresh = others.state_dict()["head.fc.weight"].clone()
    report = load_into(others, tmp_path / "two.safetensors", reset_classes=True)
    assert torch.equal(others.state_dict()["head.fc.weight"], fresh)
    assert "0 of 2 classes carried over" in report.summary()
