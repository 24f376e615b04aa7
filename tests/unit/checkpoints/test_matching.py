"""What a table of names can say of an entry, and what a report says of it then."""

import pytest
import torch
from torch import Tensor, nn

from ziggurat import zoo
from ziggurat.cards import MODELS
from ziggurat.checkpoints.matching import (
    LoadReport,
    load_entries,
    match_entries,
    nearest_layout,
    shapes_of,
)
from ziggurat.checkpoints.names import WITHOUT_BATCH_COUNTS, BackgroundFirst, NameMap, Shape
from ziggurat.checkpoints.native import SAME_NAMES
from ziggurat.checkpoints.read import given
from ziggurat.errors import ZigguratError
from ziggurat.types import ModelIdentity


def _repeat_to(value: Tensor, shape: Shape) -> Tensor:
    """A rule for grids: the first position everywhere."""
    return value[:, :1].expand(shape)


NAMES = NameMap(
    renames=((r"fc\.(weight|bias)", r"linear.\1"), ("pos", "pos"), (r"bn\.(.+)", r"norm.\1")),
    transposed=(r"fc\.weight",),
    resized=((r"pos", _repeat_to),),
)


class Model(nn.Module):
    def __init__(self, positions: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.pos = nn.Parameter(torch.zeros(1, positions, 5))
        self.norm = nn.BatchNorm1d(2)


def _file(positions: int = 4) -> dict[str, Tensor]:
    """What a program saves that counts no batches and stores matrices as (in, out)."""
    return {
        "fc.weight": torch.arange(6.0).reshape(3, 2),
        "fc.bias": torch.ones(2),
        "pos": torch.arange(5.0 * positions).reshape(1, positions, 5),
        "bn.weight": torch.ones(2),
        "bn.bias": torch.ones(2),
        "bn.running_mean": torch.ones(2),
        "bn.running_var": torch.ones(2),
    }


def _load(model: nn.Module, weights: dict[str, Tensor], names: NameMap) -> LoadReport:
    stored = given(weights, "here")
    return load_entries(model, stored, names, source="here", label="a model", hint="look again")


def test_transposed_matrices_are_turned() -> None:
    model = Model()
    report = _load(model, _file(), NAMES + WITHOUT_BATCH_COUNTS)
    assert ("fc.weight", "linear.weight") in report.matched
    assert model.linear.weight.tolist() == [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]


def test_a_matrix_that_is_not_transposed_does_not_fit() -> None:
    other = _file() | {"fc.weight": torch.ones(2, 3)}
    with pytest.raises(ZigguratError, match=r"fc\.weight is \(2, 3\), expected \(3, 2\)"):
        _load(Model(), other, NAMES + WITHOUT_BATCH_COUNTS)


def test_square_matrices_are_turned_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    names = NameMap(renames=((r"w\.(.+)", r"0.\1"),), transposed=(r"w\.weight",))
    _load(model, {"w.weight": torch.arange(4.0).reshape(2, 2), "w.bias": torch.ones(2)}, names)
    assert model.state_dict()["0.weight"].tolist() == [[0.0, 2.0], [1.0, 3.0]]


def test_position_embeddings_of_another_grid_are_resized_by_the_rule() -> None:
    model = Model(positions=9)
    report = _load(model, _file(positions=4), NAMES + WITHOUT_BATCH_COUNTS)
    assert report.resized == (("pos", "pos"),)
    assert "pos" not in dict(report.matched)
    assert model.pos.shape == (1, 9, 5)
    assert model.pos[0, 8].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    lines = report.summary().splitlines()
    assert lines[:2] == ["7 entries loaded", "1 of them resized to the grid of the model (pos)"]


def test_position_embeddings_of_the_same_grid_are_left_as_they_are() -> None:
    model = Model()
    report = _load(model, _file(), NAMES + WITHOUT_BATCH_COUNTS)
    assert report.resized == ()
    assert torch.equal(model.pos, _file()["pos"])


@pytest.mark.parametrize("shape", [(1, 4, 6), (2, 4, 5), (4, 5)])
def test_resizing_changes_the_number_of_positions_only(shape: tuple[int, ...]) -> None:
    with pytest.raises(ZigguratError, match=r"1 entries have another shape \(pos is"):
        _load(Model(), _file() | {"pos": torch.ones(shape)}, NAMES + WITHOUT_BATCH_COUNTS)


def test_a_rule_that_refuses_changes_nothing() -> None:
    def refuse(value: Tensor, shape: Shape) -> Tensor:
        raise ZigguratError(f"no grid of {value.shape[1]} positions")

    model = Model(positions=9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = NameMap(NAMES.renames, transposed=NAMES.transposed, resized=(("pos", refuse),))
    with pytest.raises(ZigguratError, match="no grid of 4 positions"):
        _load(model, _file(), names + WITHOUT_BATCH_COUNTS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_entries_may_be_absent_for_a_stated_reason_only() -> None:
    with pytest.raises(ZigguratError, match=r"1 entries are missing \(norm\.num_batches_tracked\)"):
        _load(Model(), _file(), NAMES)
    report = _load(Model(), _file(), NAMES + WITHOUT_BATCH_COUNTS)
    [(name, reason)] = report.absent
    assert name == "norm.num_batches_tracked"
    assert "only PyTorch keeps" in reason
    assert f"1 not in the file (norm.num_batches_tracked): {reason}" in report.summary()
    assert report.is_complete


def test_of_what_may_be_absent_no_half_may_be() -> None:
    names = SAME_NAMES + NameMap(absent=((r"head\..+", "other files have no head"),))
    own = {"a": (1,), "head.weight": (2, 2), "head.bias": (2,)}
    assert match_entries(own, {"a": (1,)}, names).is_complete
    assert match_entries(own, own, names).absent == ()
    half = match_entries(own, {"a": (1,), "head.bias": (2,)}, names)
    assert half.missing == ("head.weight",)
    assert half.absent == ()


def test_every_entry_is_in_one_place() -> None:
    names = NameMap(
        renames=NAMES.renames, ignored=((r"old\..+", "not used"),), resized=NAMES.resized
    )
    names = names + WITHOUT_BATCH_COUNTS
    official = shapes_of(_file(positions=9)) | {"old.w": (1,), "new.w": (1,)}
    report = match_entries(shapes_of(Model().state_dict()), official, names)
    places = [name for name, _ in (*report.matched, *report.resized, *report.ignored)]
    places += [*report.unexpected, *(name for name, _, _ in report.wrong_shape)]
    assert sorted(places) == sorted(official)
    assert report.wrong_shape == (("fc.weight", (3, 2), (2, 3)),)


def test_a_table_for_a_part_keeps_all_that_it_says() -> None:
    part = (NAMES + WITHOUT_BATCH_COUNTS).under("backbone.", "features.")
    assert part.own_name("backbone.fc.bias") == "features.linear.bias"
    assert part.is_transposed("backbone.fc.weight")
    assert not part.is_transposed("fc.weight")
    assert part.resizing_rule("features.pos") is _repeat_to
    assert part.resizing_rule("pos") is None
    own = {"features.linear.bias": (2,), "features.norm.num_batches_tracked": ()}
    assert match_entries(own, {"backbone.fc.bias": (2,)}, part).is_complete
    other = {"features.linear.bias": (2,), "norm.num_batches_tracked": ()}
    assert not match_entries(other, {"backbone.fc.bias": (2,)}, part).is_complete


def test_the_layout_is_the_one_that_knows_most_entries() -> None:
    plain = NameMap(renames=((r"fc\.(weight|bias)", r"linear.\1"),))
    paddle = NameMap(
        renames=((r"fc\.(weight|bias)", r"linear.\1"), (r"bn\._mean", "norm.running_mean")),
        transposed=(r"fc\.weight",),
    )
    own = shapes_of(Model().state_dict())
    with_mean = {"fc.weight": (3, 2), "bn._mean": (2,)}
    assert nearest_layout((plain, paddle), own, with_mean) is paddle
    assert nearest_layout((plain, paddle), own, {"fc.weight": (2, 3)}) is plain


CLASSES = NameMap(
    renames=((r"(score|box)\.(weight|bias)", r"\1.\2"),),
    background_first=(
        (r"score\..+", BackgroundFirst()),
        (r"box\..+", BackgroundFirst(rows=2, is_kept=False)),
    ),
)
"""Three classes; background comes first, and has boxes of two numbers."""


class Outputs(nn.Module):
    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.score = nn.Linear(1, num_classes + 1)
        self.box = nn.Linear(1, 2 * num_classes)


def _outputs() -> dict[str, Tensor]:
    return {
        "score.weight": torch.arange(4.0)[:, None],
        "score.bias": torch.arange(4.0),
        "box.weight": torch.arange(8.0)[:, None],
        "box.bias": torch.arange(8.0),
    }


def test_background_goes_last_or_out() -> None:
    model = Outputs()
    report = _load(model, _outputs(), CLASSES)
    assert model.score.bias.tolist() == [1, 2, 3, 0]
    assert model.score.weight[:, 0].tolist() == [1, 2, 3, 0]
    assert model.box.bias.tolist() == [2, 3, 4, 5, 6, 7]
    assert report.matched == ()
    assert [name for name, _ in report.reordered] == list(_outputs())
    lines = report.summary().splitlines()
    assert lines[0] == "4 entries loaded"
    assert lines[1].startswith("4 of them with background last or left out (score.weight, ")


def test_other_classes_are_told_in_the_numbers_of_the_file() -> None:
    with pytest.raises(ZigguratError, match=r"box\.weight is \(8, 1\), expected \(12, 1\)"):
        _load(Outputs(5), _outputs(), CLASSES)


def test_a_number_in_place_of_classes_is_refused() -> None:
    with pytest.raises(ZigguratError, match=r"box\.bias is \(\), expected \(8,\)"):
        _load(Outputs(), _outputs() | {"box.bias": torch.tensor(1.0)}, CLASSES)


TWICE = NameMap(
    renames=((r"q\.(weight|bias)", r"0.\1"),),
    repeated=((r"k\.(.+)", r"q.\1", "k is a second name of q"),),
)


def _twice() -> dict[str, Tensor]:
    return {f"{name}.weight": torch.ones(1, 1) for name in "qk"} | {
        f"{name}.bias": torch.zeros(1) for name in "qk"
    }


def test_an_entry_under_two_names_is_read_once() -> None:
    model = nn.Sequential(nn.Linear(1, 1))
    names = TWICE.under("a.", "")
    report = _load(model, {f"a.{name}": value for name, value in _twice().items()}, names)
    assert report.matched == (("a.q.weight", "0.weight"), ("a.q.bias", "0.bias"))
    reason = "k is a second name of q"
    assert report.ignored == (("a.k.weight", reason), ("a.k.bias", reason))


@pytest.mark.parametrize("other", [torch.zeros(1, 1), torch.ones(1), torch.ones(1, 1, 1)])
def test_two_names_of_one_entry_must_hold_the_same(other: Tensor) -> None:
    layer = nn.Linear(1, 1)
    before = layer.weight.item()
    with pytest.raises(
        ZigguratError,
        match=r"entries 'k.weight' and 'q.weight' of here differ, and are one: k is a second name",
    ):
        _load(nn.Sequential(layer), _twice() | {"k.weight": other}, TWICE)
    assert layer.weight.item() == before


def test_reset_classes_knows_a_head_by_itself() -> None:
    names = NameMap(renames=((r"outs\.(.+)", r"box_head.logits.\1"),))
    own = {"box_head.logits.weight": (4, 8), "box_head.logits.bias": (4,)}
    official = {"outs.weight": (81, 8), "outs.bias": (81,)}
    assert not match_entries(own, official, names).is_complete
    report = match_entries(own, official, names, reset_classes=True)
    assert [name for name, _ in report.ignored] == list(official)


FAMILIES = {
    card.backbone.split("_")[0]: card.name
    for card in reversed(MODELS.values())
    if card.task == "classification"
}


@pytest.mark.parametrize("name", FAMILIES.values())
def test_reset_classes_of_every_family_keeps_the_backbone_and_says_so(name: str) -> None:
    identity = ModelIdentity("classification", "classifier", MODELS[name].backbone, 1000)
    with torch.device("meta"):
        published = shapes_of(zoo.build(identity).state_dict())
        ours = shapes_of(zoo.create_model(identity.backbone, num_classes=43).state_dict())
    assert not match_entries(ours, published, SAME_NAMES).is_complete
    report = match_entries(ours, published, SAME_NAMES, reset_classes=True)
    assert report.is_complete
    assert len(report.matched) == len(ours) - 2
    assert [entry for entry, _ in report.ignored] == ["head.fc.weight", "head.fc.bias"]
    assert "2 ignored (head.fc.weight, head.fc.bias): made for other classes" in report.summary()
