"""Every official entry is mapped exactly once, and what does not fit changes nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ziggurat import zoo
from ziggurat.checkpoints import p2t
from ziggurat.checkpoints.matching import match_entries
from ziggurat.checkpoints.names import NameMap
from ziggurat.checkpoints.native import save_weights
from ziggurat.checkpoints.official import load_official
from ziggurat.errors import ZigguratError
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector

Weights = dict[str, Tensor]
Snapshot = Callable[[nn.Module], Weights]


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[n], other[n]) for n in one)


def test_classifier(classifier: Classifier, imagenet_file: Weights) -> None:
    report = load_official(classifier, imagenet_file)
    assert [official for official, _ in report.matched] == list(imagenet_file)
    assert sorted(ours for _, ours in report.matched) == sorted(classifier.state_dict())
    assert report.ignored == ()
    own = classifier.state_dict()
    assert all(torch.equal(own[ours], imagenet_file[name]) for name, ours in report.matched)


@pytest.mark.parametrize(
    ("official", "ours"),
    [
        ("patch_embed1.proj.weight", "backbone.stages.0.patch_embed.proj.weight"),
        ("patch_embed4.norm.bias", "backbone.stages.3.patch_embed.norm.bias"),
        ("d_convs2.3.weight", "backbone.stages.1.pool_convs.3.weight"),
        ("block2.1.norm1.weight", "backbone.stages.1.blocks.1.norm1.weight"),
        ("block2.1.norm2.bias", "backbone.stages.1.blocks.1.norm2.bias"),
        ("block2.1.attn.q.0.weight", "backbone.stages.1.blocks.1.attn.q.weight"),
        ("block2.1.attn.kv.0.bias", "backbone.stages.1.blocks.1.attn.kv.bias"),
        ("block2.1.attn.norm.weight", "backbone.stages.1.blocks.1.attn.pool_norm.weight"),
        ("block2.1.attn.proj.bias", "backbone.stages.1.blocks.1.attn.proj.bias"),
        ("block2.1.mlp.fc1.weight", "backbone.stages.1.blocks.1.mlp.fc1.weight"),
        ("block2.1.mlp.conv.bias", "backbone.stages.1.blocks.1.mlp.conv.bias"),
        ("block2.1.mlp.fc2.weight", "backbone.stages.1.blocks.1.mlp.fc2.weight"),
        ("block3.17.mlp.fc2.weight", "backbone.stages.2.blocks.17.mlp.fc2.weight"),
        ("head.bias", "head.fc.bias"),
        ("block5.0.norm1.weight", None),
        ("block1.0.norm1.running_mean", None),
        ("xblock1.0.norm1.weight", None),
        ("head.weightx", None),
    ],
)
def test_names_of_p2t(official: str, ours: str | None) -> None:
    assert p2t.CLASSIFIER.own_name(official) == ours


def test_detector(detector: Detector, detector_file: Weights) -> None:
    report = load_official(detector, {"meta": {"epoch": 12}, "state_dict": detector_file})
    names = dict(report.matched)
    assert list(names) == list(detector_file)
    assert sorted(names.values()) == sorted(detector.state_dict())
    assert names["neck.fpn_convs.4.conv.weight"] == "neck.output_convs.4.weight"
    assert names["neck.lateral_convs.1.conv.bias"] == "neck.lateral_convs.1.bias"
    assert names["bbox_head.cls_convs.1.conv.bias"] == "head.cls_convs.1.bias"
    assert names["bbox_head.reg_convs.0.conv.weight"] == "head.reg_convs.0.weight"
    assert names["bbox_head.retina_cls.bias"] == "head.cls_logits.bias"
    assert names["bbox_head.retina_reg.weight"] == "head.box_deltas.weight"
    own = detector.state_dict()
    assert all(torch.equal(own[ours], detector_file[name]) for name, ours in report.matched)


def test_backbone_from_any_file(imagenet_file: Weights, detector_file: Weights) -> None:
    features = {n: v for n, v in imagenet_file.items() if not n.startswith("head.")}
    segmenter_file = {f"backbone.{n}": v for n, v in imagenet_file.items()}
    segmenter_file["decode_head.conv_seg.weight"] = torch.ones(3, 4, 1, 1)
    cases = (
        (imagenet_file, ["head.weight", "head.bias"]),
        (detector_file, [n for n in detector_file if not n.startswith("backbone.")]),
        (
            segmenter_file,
            ["backbone.head.weight", "backbone.head.bias", "decode_head.conv_seg.weight"],
        ),
    )
    for file, ignored in cases:
        backbone = zoo.create_backbone("p2t_mini")
        report = load_official(backbone, file)
        assert [name for name, _ in report.ignored] == ignored
        assert sorted(ours for _, ours in report.matched) == sorted(backbone.state_dict())
        own = backbone.state_dict()
        prefix = "" if file is imagenet_file else "backbone."
        for official, ours in p2t_pairs(features):
            assert torch.equal(own[ours], file[prefix + official])


def p2t_pairs(features: Weights) -> list[tuple[str, str]]:
    pairs = [(name, p2t.BACKBONE.own_name(name)) for name in features]
    return [(name, ours) for name, ours in pairs if ours is not None]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_from_a_file(
    tmp_path: Path, classifier: Classifier, imagenet_file: Weights, suffix: str
) -> None:
    path = tmp_path / f"official{suffix}"
    if suffix == ".pth":
        torch.save({"model": imagenet_file}, path)
    else:
        save_file(imagenet_file, path)
    load_official(classifier, path)
    # The file is no longer needed: nothing of the model lives in it.
    path.write_bytes(b"")
    assert torch.equal(classifier.head.fc.bias, imagenet_file["head.bias"])


def test_half_precision_becomes_the_precision_of_the_model(
    classifier: Classifier, imagenet_file: Weights
) -> None:
    load_official(classifier, {name: value.half() for name, value in imagenet_file.items()})
    assert classifier.head.fc.bias.dtype == torch.float32
    assert torch.equal(classifier.head.fc.bias, imagenet_file["head.bias"].half().float())


def _without(weights: Weights, name: str) -> Weights:
    return {other: value for other, value in weights.items() if other != name}


BAD: dict[str, tuple[Callable[[Weights], Weights], str]] = {
    "missing": (
        lambda w: _without(w, "block2.1.attn.q.0.bias"),
        r"1 entries are missing \(backbone\.stages\.1\.blocks\.1\.attn\.q\.bias\)",
    ),
    "unexpected": (
        lambda w: w | {"pos_embed1": torch.ones(1)},
        r"1 of its entries are unknown \(pos_embed1\)",
    ),
    "one block too many": (
        lambda w: w | {"block1.1.norm1.weight": torch.ones(8)},
        r"block1\.1\.norm1\.weight, nearest of ours backbone\.stages\.\d\.blocks\.\d\.norm1",
    ),
    "typo": (
        lambda w: _without(w, "head.bias") | {"head.fc.biass": torch.ones(5)},
        r"head\.fc\.biass, nearest of ours head\.fc\.bias.*1 entries are missing \(head\.fc\.bias",
    ),
    "wrong shape": (
        lambda w: w | {"d_convs1.0.bias": torch.ones(9)},
        r"1 entries have another shape \(d_convs1\.0\.bias is \(9,\), expected \(8,\)",
    ),
    "transposed": (
        lambda w: w | {"block1.0.attn.kv.0.weight": torch.ones(8, 16)},
        r"is \(8, 16\), expected \(16, 8\)",
    ),
    "integers": (
        lambda w: w | {"head.bias": torch.ones(5, dtype=torch.int64)},
        r"'head\.bias' of .* is torch\.int64, expected torch\.float32",
    ),
    "nan": (
        lambda w: w | {"head.bias": torch.full((5,), float("nan"))},
        r"'head\.bias' of the given mapping holds NaN",
    ),
    "detector": (
        lambda w: {f"backbone.{name}": value for name, value in w.items()},
        "the file of a detector or segmenter",
    ),
    "other classes": (
        lambda w: w | {"head.weight": torch.ones(7, 24), "head.bias": torch.ones(7)},
        r"2 entries have another shape \(head\.weight is \(7, 24\).*`reset_classes`",
    ),
    "nothing": (lambda w: {}, "holds no weights"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_raises_and_changes_nothing(
    classifier: Classifier, imagenet_file: Weights, snapshot: Snapshot, case: str
) -> None:
    change, message = BAD[case]
    before = snapshot(classifier)
    with pytest.raises(ZigguratError, match=message):
        load_official(classifier, change(imagenet_file))
    assert _equal(classifier.state_dict(), before)


def test_imagenet_file_into_a_detector(
    detector: Detector, imagenet_file: Weights, snapshot: Snapshot
) -> None:
    before = snapshot(detector)
    with pytest.raises(ZigguratError, match=r"ImageNet file, load it into `model\.backbone`"):
        load_official(detector, imagenet_file)
    assert _equal(detector.state_dict(), before)
    load_official(detector.backbone, imagenet_file)
    assert not _equal(detector.state_dict(), before)


def test_numbers_that_are_none_in_the_precision_of_the_model(
    classifier: Classifier, imagenet_file: Weights, snapshot: Snapshot
) -> None:
    before = snapshot(classifier)
    wide = imagenet_file["head.bias"].double()
    wide[1] = 1e300
    with pytest.raises(
        ZigguratError, match=r"'head\.bias' of .* beyond the range of torch\.float32"
    ):
        load_official(classifier, imagenet_file | {"head.bias": wide})
    assert _equal(snapshot(classifier), before)
    wide[1] = 1e30
    load_official(classifier, imagenet_file | {"head.bias": wide})


def test_a_file_of_ziggurat_is_no_official_one(classifier: Classifier, tmp_path: Path) -> None:
    save_weights(classifier, tmp_path / "own.safetensors")
    with pytest.raises(
        ZigguratError, match="is a weight file of ziggurat already, and no official"
    ):
        load_official(classifier, tmp_path / "own.safetensors")


def test_names_as_lightning_saves_them(classifier: Classifier, imagenet_file: Weights) -> None:
    saved = {f"model.{name}": value for name, value in imagenet_file.items()}
    with pytest.raises(ZigguratError, match=r"begin with 'model\.', as Lightning saves them"):
        load_official(classifier, saved)


def test_own_names_are_recognised(classifier: Classifier) -> None:
    own = {f"model.{name}": value for name, value in classifier.state_dict().items()}
    with pytest.raises(
        ZigguratError, match=r"ziggurat wrote it.*best\.safetensors.*`ziggurat\.load`"
    ):
        load_official(classifier, {"state_dict": own})


def test_an_entry_under_two_names(imagenet_file: Weights) -> None:
    both = imagenet_file | {"backbone.d_convs1.0.bias": torch.ones(8)}
    with pytest.raises(ZigguratError, match=r"twice.*stages\.0\.pool_convs\.0\.bias"):
        load_official(zoo.create_backbone("p2t_mini"), both)


def test_reset_classes_of_a_classifier(classifier: Classifier, imagenet_file: Weights) -> None:
    other = imagenet_file | {"head.weight": torch.ones(7, 24), "head.bias": torch.ones(7)}
    initial = classifier.head.fc.weight.clone()
    report = load_official(classifier, other, reset_classes=True)
    assert [name for name, _ in report.ignored] == ["head.weight", "head.bias"]
    assert "initial values" in report.ignored[0][1]
    assert report.is_complete
    assert torch.equal(classifier.head.fc.weight, initial)
    stage = classifier.state_dict()["backbone.stages.0.pool_convs.0.bias"]
    assert torch.equal(stage, imagenet_file["d_convs1.0.bias"])


def test_reset_classes_of_a_detector_keeps_its_boxes(
    detector: Detector, detector_file: Weights
) -> None:
    name = "bbox_head.retina_cls"
    other = detector_file | {f"{name}.weight": torch.ones(18, 16, 3, 3)}
    other[f"{name}.bias"] = torch.ones(18)
    with pytest.raises(ZigguratError, match=r"retina_cls\.weight is \(18, 16, 3, 3\)"):
        load_official(detector, other)
    report = load_official(detector, other, reset_classes=True)
    assert [official for official, _ in report.ignored] == [f"{name}.weight", f"{name}.bias"]
    loaded = detector.state_dict()["head.box_deltas.weight"]
    assert torch.equal(loaded, detector_file["bbox_head.retina_reg.weight"])


def as_published(file: Weights, count: int, anchors: int) -> Weights:
    """Give the classification rows for so many classes, each with its own number in it."""
    name = "bbox_head.retina_cls"
    rows = torch.arange(float(count)).repeat(anchors)
    weight = rows[:, None, None, None].expand(-1, 16, 3, 3).clone()
    return file | {f"{name}.weight": weight, f"{name}.bias": rows}


def test_classes_of_the_published_data_are_carried_over_by_name(
    detector: Detector, detector_file: Weights
) -> None:
    detector.classes = ("car", "crate", "person")[: len(detector.classes)]
    count = len(detector.classes)
    anchors = len(detector_file["bbox_head.retina_cls.bias"]) // count
    coco = as_published(detector_file, 80, anchors)
    report = load_official(detector, coco, reset_classes=True)
    assert report.ignored == ()
    assert "classes carried over by name" in report.summary()
    bias = detector.state_dict()["head.cls_logits.bias"].view(anchors, count)
    assert bias[:, 0].eq(2).all()  # "car" is the third of COCO's
    assert not bias[:, 1].eq(torch.arange(80.0)[:, None]).any()


def test_names_in_the_file_go_before_the_published(
    detector: Detector, detector_file: Weights
) -> None:
    count = len(detector.classes)
    anchors = len(detector_file["bbox_head.retina_cls.bias"]) // count
    names = tuple(f"thing {number}" for number in range(count))
    detector.classes = names[::-1]
    content = {
        "state_dict": as_published(detector_file, count, anchors),
        "meta": {"CLASSES": names},
    }
    with pytest.raises(
        ZigguratError, match=r"another order: class 0 is 'thing 0' there.*carry over"
    ):
        load_official(detector, content)
    load_official(detector, content, reset_classes=True)
    bias = detector.state_dict()["head.cls_logits.bias"].view(anchors, count)
    assert torch.equal(bias[0], torch.arange(float(count)).flip(0))


def test_folders_of_imagenet_keep_what_is_known_of_them(
    classifier: Classifier, imagenet_file: Weights
) -> None:
    count = len(classifier.classes)
    assert count < 1000
    classifier.classes = ("n01484850", "n01440764", *(f"x{i}" for i in range(count - 2)))
    rows = torch.arange(1000.0)
    other = imagenet_file | {"head.weight": rows[:, None].expand(-1, 24).clone(), "head.bias": rows}
    load_official(classifier, other, reset_classes=True)
    assert classifier.head.fc.bias[:2].tolist() == [2, 0]


def test_reset_classes_does_not_hide_another_model(
    classifier: Classifier, imagenet_file: Weights
) -> None:
    other = imagenet_file | {"head.weight": torch.ones(7, 25)}
    with pytest.raises(ZigguratError, match=r"head\.weight is \(7, 25\)"):
        load_official(classifier, other, reset_classes=True)
    other = imagenet_file | {"d_convs1.0.bias": torch.ones(9)}
    with pytest.raises(ZigguratError, match=r"d_convs1\.0\.bias is \(9,\)"):
        load_official(classifier, other, reset_classes=True)


def test_reset_classes_loads_what_fits(classifier: Classifier, imagenet_file: Weights) -> None:
    report = load_official(classifier, imagenet_file, reset_classes=True)
    assert report.ignored == ()
    assert torch.equal(classifier.head.fc.bias, imagenet_file["head.bias"])


def test_unknown_modules_and_models_without_memory(imagenet_file: Weights) -> None:
    with pytest.raises(ZigguratError, match="known for .*P2T.*, not for Linear"):
        load_official(nn.Linear(2, 2), imagenet_file)
    with torch.device("meta"):
        backbone = zoo.create_backbone("p2t_mini")
    with pytest.raises(ValueError, match="meta device"):
        load_official(backbone, imagenet_file)


def test_summary_says_what_was_left_out_and_why() -> None:
    names = NameMap(renames=((r"(a|b|x|y)", r"\1"),), ignored=((r"old\.\d", "no longer used"),))
    own = {"a": (1,), "b": (2,), "c": (3,)}
    official = {"a": (1,), "b": (4,), "x": (1,)} | {f"old.{i}": (1,) for i in range(4)}
    report = match_entries(own, official, names)
    assert report.matched == (("a", "a"),)
    assert report.missing == ("c",)
    assert report.unexpected == ("x",)
    assert report.wrong_shape == (("b", (4,), (2,)),)
    assert not report.is_complete
    assert report.summary().splitlines() == [
        "1 entries loaded",
        "4 ignored (old.0, old.1, old.2, ...): no longer used",
        "1 missing (c)",
        "1 unexpected (x)",
        "1 of another shape (b (4,) instead of (2,))",
    ]


def test_a_table_for_a_part_escapes_its_prefix() -> None:
    names = NameMap(renames=((r"(w)", r"own.\1"),)).under("part.", "model.")
    assert names.own_name("part.w") == "model.own.w"
    assert names.own_name("partxw") is None


def test_every_alternative_of_a_pattern_is_under_the_prefix() -> None:
    names = NameMap(
        renames=((r"a\.(\d)|b\.(\d)", r"c.\1"),),
        ignored=((r"x|y", "why"),),
        transposed=(r"u|v",),
        absent=((r"p|q", "why"),),
    ).under("theirs.", "ours.")
    assert names.own_name("theirs.a.1") == "ours.c.1"
    assert names.own_name("b.1") is None
    reasons = [names.reason_to_ignore(x) for x in ("theirs.x", "theirs.y", "y")]
    assert reasons == ["why", "why", None]
    assert [names.is_transposed(x) for x in ("theirs.u", "theirs.v", "v")] == [True, True, False]
    own = {"ours.q": (1,), "q": (1,)}
    report = match_entries(own, {}, names)
    assert (report.absent, report.missing) == ((("ours.q", "why"),), ("q",))


def test_the_class_token_and_norm_of_a_pvt_are_left_out_of_its_backbone() -> None:
    official = {}
    for name in ("cls_token", "norm.weight", "norm.bias"):
        official[f"backbone.{name}"] = torch.zeros(1, 1, 512) if "cls" in name else torch.zeros(512)
    backbone = zoo.create_backbone("pvt_tiny")
    with pytest.raises(ZigguratError, match="entries are missing") as refused:
        load_official(backbone, official)
    assert "unknown" not in str(refused.value)


def test_its_own_names_are_those_of_a_state_dict(
    classifier: Classifier, tmp_path: Path, snapshot: Snapshot
) -> None:
    torch.save(classifier.state_dict(), tmp_path / "own.pth")
    other = zoo.build(classifier.identity)
    report = load_official(other, tmp_path / "own.pth")
    assert len(report.matched) == len(classifier.state_dict())
    assert _equal(other.state_dict(), classifier.state_dict())
    part = {n: v for n, v in classifier.state_dict().items() if "stages.3" not in n}
    before = snapshot(other)
    with pytest.raises(ZigguratError, match=r"entries are missing \(backbone\.stages\.3"):
        load_official(other, part)
    assert _equal(before, other.state_dict())
