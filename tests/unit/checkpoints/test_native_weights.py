"""A weight file carries all that prediction needs, and is refused when it is not whole."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import ziggurat
from ziggurat import zoo
from ziggurat.checkpoints import native, tensor_file
from ziggurat.checkpoints.description import (
    FORMAT_VERSION,
    Description,
    preprocessing_from_dict,
    preprocessing_to_dict,
)
from ziggurat.checkpoints.native import is_native, load_into, load_weights, save_weights
from ziggurat.errors import ZigguratError
from ziggurat.models.classifier import Classifier
from ziggurat.models.detector import Detector
from ziggurat.models.semantic_segmenter import SemanticSegmenter
from ziggurat.preprocessing import CenterCrop, FitAligned, FitInside, Preprocessing
from ziggurat.types import ModelIdentity


def _equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[n], theirs[n]) for n in mine)


def _metadata(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        values: dict[str, Any] = json.loads(file.metadata()["ziggurat"])
    return values


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description of a file and keep its tensors."""
    values = _metadata(path)
    change(values)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata={"ziggurat": json.dumps(values)})


@pytest.fixture
def weights(tmp_path: Path, classifier: Classifier) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(classifier, path)
    return path


def test_classifier_comes_back_with_everything(tmp_path: Path, classifier: Classifier) -> None:
    classifier.classes = ("Ähre", "b", "c\nd", 'e"', "")
    classifier.preprocessing = CenterCrop(72, 64, (0.1, 0.2, 0.3), (0.4, 0.5, 1 / 3))
    save_weights(classifier, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    assert isinstance(loaded, Classifier)
    assert loaded.identity == classifier.identity
    assert loaded.classes == classifier.classes
    assert loaded.preprocessing == classifier.preprocessing
    assert not loaded.training
    assert _equal(loaded, classifier)
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(loaded(images), classifier.eval()(images))


def test_detector_comes_back_with_everything(tmp_path: Path, detector: Detector) -> None:
    detector.preprocessing = FitInside(short_side=320, long_side=480, divisor=64)
    save_weights(detector, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    assert isinstance(loaded, Detector)
    assert loaded.identity == detector.identity
    assert loaded.preprocessing == detector.preprocessing
    assert _equal(loaded, detector)


def test_a_segmenter_of_overlapping_classes_comes_back_as_one(tmp_path: Path) -> None:
    model = zoo.create_model(
        "segformer", backbone="p2t_mini", num_classes=3, head_channels=8, overlapping=True
    )
    assert isinstance(model, SemanticSegmenter) and model.overlapping
    # Whether they overlap is said in one place, the identity, which the file carries.
    model.identity = replace(model.identity, overlapping=False)
    assert not model.overlapping
    model.identity = replace(model.identity, overlapping=True)
    save_weights(model, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    assert isinstance(loaded, SemanticSegmenter) and loaded.overlapping


def test_channels_last_weights_are_kept(tmp_path: Path, classifier: Classifier) -> None:
    classifier.to(memory_format=torch.channels_last)
    save_weights(classifier, tmp_path / "a.safetensors")
    assert _equal(load_weights(tmp_path / "a.safetensors"), classifier)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_in_the_file_and_becomes_single_in_the_model(
    tmp_path: Path, classifier: Classifier, dtype: torch.dtype
) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(classifier.to(dtype), path)
    with safe_open(path, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {dtype}  # noqa: SIM118
    loaded = load_weights(path)
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert _equal(loaded, classifier.float())


def test_the_same_weights_give_the_same_bytes(tmp_path: Path, classifier: Classifier) -> None:
    for name in ("a", "b"):
        save_weights(classifier, tmp_path / f"{name}.safetensors")
    one, other = (tmp_path / f"{name}.safetensors" for name in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_the_file_is_ordinary_safetensors_with_plain_metadata(weights: Path) -> None:
    values = _metadata(weights)
    assert values["format_version"] == 3
    assert values["identity"]["backbone"] == "p2t_mini"
    assert values["classes"] == [f"class_{i}" for i in range(5)]
    assert values["preprocessing"]["kind"] == "center_crop"


def test_loading_leaves_the_file_free(weights: Path, classifier: Classifier) -> None:
    loaded = load_weights(weights)
    weights.write_bytes(b"")
    assert _equal(loaded, classifier)


def test_full_disk_keeps_the_previous_weights(
    weights: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = weights.read_bytes()
    nn.init.ones_(classifier.head.fc.weight)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ZigguratError, match=r"cannot write .*No space left"):
        save_weights(classifier, weights)
    assert weights.read_bytes() == before
    assert os.listdir(weights.parent) == [weights.name]


def test_save_refuses_other_names_and_wrong_classes(tmp_path: Path, classifier: Classifier) -> None:
    with pytest.raises(ZigguratError, match=r"saved as \.safetensors, got the name .*a\.pth"):
        save_weights(classifier, tmp_path / "a.pth")
    classifier.classes = ("only one",)
    with pytest.raises(ZigguratError, match="5 classes but 1 class names"):
        save_weights(classifier, tmp_path / "a.safetensors")
    assert os.listdir(tmp_path) == []


def test_foreign_files_are_told_to_convert(tmp_path: Path, classifier: Classifier) -> None:
    torch.save(classifier.state_dict(), tmp_path / "a.pth")
    save_file({"w": torch.ones(1)}, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        with pytest.raises(ZigguratError, match="not a weight file of ziggurat.*ziggurat convert"):
            load_weights(tmp_path / name)
        assert not is_native(tmp_path / name)


def test_is_native_reads_no_tensor(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tensor_file, "read_safetensors")
    monkeypatch.delattr(native, "read_safetensors")
    assert is_native(weights)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ZigguratError, match="truncated"):
        is_native(weights)


def test_is_native(weights: Path, tmp_path: Path) -> None:
    assert is_native(weights)
    with pytest.raises(ZigguratError, match="no file"):
        is_native(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 0.01, 0.5, 0.999])
def test_truncated(weights: Path, keep: float) -> None:
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ZigguratError, match="truncated|empty"):
        load_weights(weights)


@pytest.mark.parametrize("backbone", ["timm:test_resnet", "timm:test_resnet.r160_in1k"])
def test_a_backbone_of_timm_is_built_again(tmp_path: Path, backbone: str) -> None:
    model = zoo.create_model(
        "retinanet", backbone=backbone, num_classes=2, head_channels=8, head_depth=1
    )
    save_weights(model, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    assert loaded.identity == model.identity
    own, theirs = model.state_dict(), loaded.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "newer": (
        lambda v: v.update(format_version=FORMAT_VERSION + 1),
        f"format version {FORMAT_VERSION + 1}, expected {FORMAT_VERSION}; update",
    ),
    "no version": (lambda v: v.pop("format_version"), "format version None"),
    "no classes": (lambda v: v.pop("classes"), "lacks, or should not have, classes"),
    "extra": (lambda v: v.update(run="os.system"), "should not have, run"),
    "identity": (lambda v: v.update(identity=3), "does not say which model"),
    "identity extra": (lambda v: v["identity"].update(code="x"), "should not have, code"),
    "task": (lambda v: v["identity"].update(task="dreaming"), "task of its model is 'dreaming'"),
    "task list": (lambda v: v["identity"].update(task=[]), r"task of its model is \[\]"),
    "backbone": (lambda v: v["identity"].update(backbone="p2t_minni"), "did you mean 'p2t_mini'"),
    "backbone kind": (lambda v: v["identity"].update(backbone=1), "backbone of its model is 1"),
    "backbone elsewhere": (
        lambda v: v["identity"].update(
            task="detection", system="retinanet", backbone="timm:hf-hub:someone/something"
        ),
        "backbone of its model is 'timm:hf-hub:someone/something'",
    ),
    "backbone file": (
        lambda v: v["identity"].update(
            task="detection", system="retinanet", backbone="timm:local-dir:/tmp"
        ),
        "backbone of its model is 'timm:local-dir:/tmp'",
    ),
    "backbone of timm": (
        lambda v: v["identity"].update(
            task="detection",
            system="retinanet",
            backbone="timm:resnet1",
            neck="fpn",
            head_channels=8,
            head_depth=1,
        ),
        "cannot be built: unknown network of timm 'resnet1'",
    ),
    "classifier of timm": (
        lambda v: v["identity"].update(backbone="timm:resnet18"),
        "backbone of its model is 'timm:resnet18'",
    ),
    "system": (
        lambda v: v["identity"].update(
            task="detection", system="yolo", head_channels=8, head_depth=1
        ),
        "unknown system",
    ),
    "boolean": (lambda v: v["identity"].update(num_classes=True), "num_classes of its model is T"),
    "keys": (lambda v: v["identity"].update(key_budget=0), "key_budget of its model is 0"),
    "keys of no transformer": (
        lambda v: v["identity"].update(key_budget=9),
        "cannot be built: .* has no key_budget",
    ),
    "class count": (lambda v: v["classes"].append("x"), "6 class names for 5 classes"),
    "class kind": (lambda v: v.update(classes=[1] * 5), "no list of names"),
    "huge": (
        lambda v: v["identity"].update(
            task="detection", system="retinanet", head_channels=10**15, head_depth=2
        ),
        "cannot be built|does not fit",
    ),
    "deep": (
        lambda v: v["identity"].update(
            task="detection", system="retinanet", head_channels=8, head_depth=10**9
        ),
        "describes 1000000000 layers",
    ),
    "other model": (lambda v: v["identity"].update(backbone="p2t_tiny"), "does not fit p2t_tiny"),
    "preprocessing": (lambda v: v.update(preprocessing={"kind": "melt"}), "none of center_crop"),
    "preprocessing kind": (lambda v: v["preprocessing"].update(kind=[]), "none of center_crop"),
    "crop": (lambda v: v["preprocessing"].update(crop=0), "crop of its preprocessing is 0"),
    "std": (lambda v: v["preprocessing"].update(std=[1, 0, 1]), "std of its preprocessing"),
    "mean": (lambda v: v["preprocessing"].update(mean=[1, 2]), "mean of its preprocessing"),
    "nan": (lambda v: v["preprocessing"].update(mean=[1, 2, float("nan")]), "mean of its"),
    "field": (lambda v: v["preprocessing"].update(blur=3), "should not have, blur"),
    "other kind": (
        lambda v: v.update(preprocessing=preprocessing_to_dict(FitInside())),
        "p2t_mini does not take FitInside",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_description_that_is_not_right(weights: Path, case: str) -> None:
    change, message = BROKEN[case]
    _rewrite(weights, change)
    with pytest.raises(ZigguratError, match=message) as caught:
        load_weights(weights)
    assert str(weights) in str(caught.value)


def _without(name: str, description: Any) -> None:
    description["identity"].pop(name)


def test_a_file_from_before_a_field_was_added(weights: Path) -> None:
    before = load_weights(weights)
    for name in ("key_budget", "self_levels", "grounding_window", "num_keypoints"):
        _rewrite(weights, partial(_without, name))
    assert load_weights(weights).identity == before.identity


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_a_description_that_is_no_json(text: str) -> None:
    with pytest.raises(ZigguratError, match="x is damaged"):
        Description.from_json(text, "x")


def _edit(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a file and keep its description."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    change(tensors)
    save_file(tensors, path, metadata=metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.fc.bias"), r"1 entries are missing \(head\.fc\.bias\)"),
        (lambda t: t.update(extra=torch.ones(1)), "1 of its entries are unknown"),
        (lambda t: t.update({"head.fc.bias": torch.ones(6)}), r"is \(6,\), expected \(5,\)"),
        (lambda t: t["head.fc.bias"].fill_(float("nan")), r"'head\.fc\.bias' .* holds NaN"),
    ],
)
def test_tensors_that_are_not_right(
    weights: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    _edit(weights, change)
    with pytest.raises(ZigguratError, match=message):
        load_weights(weights)


def test_load_into_trains_further(weights: Path, classifier: Classifier) -> None:
    other = zoo.build(classifier.identity)
    other.classes = ("v", "w", "x", "y", "z")
    report = load_into(other, weights)  # whose classes have no names
    assert len(report.matched) == len(classifier.state_dict())
    assert _equal(other, classifier)
    assert other.classes == ("v", "w", "x", "y", "z")


def test_a_new_model_takes_over_what_a_file_says(tmp_path: Path, classifier: Classifier) -> None:
    file = tmp_path / "own.safetensors"
    classifier.classes = ("ant", "bee", "cow", "dog", "eel")
    classifier.preprocessing = CenterCrop(96, 64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    save_weights(classifier, file)
    same = ziggurat.create_model("p2t_mini", num_classes=5, pretrained=file)
    assert (same.classes, same.preprocessing) == (classifier.classes, classifier.preprocessing)
    more = ziggurat.create_model("p2t_mini", num_classes=7, pretrained=file)
    assert more.preprocessing == classifier.preprocessing
    assert more.classes == tuple(f"class_{k}" for k in range(7))
    other = zoo.build(classifier.identity)
    with pytest.raises(ZigguratError, match=r"was trained on RGB .*\(0\.5, .*p2t_mini gets"):
        load_into(other, file)


def test_a_new_segmenter_gets_names_and_colours(tmp_path: Path) -> None:
    identity = ModelIdentity("semantic_segmentation", "semantic_fpn", "p2t_mini", 2, "fpn", 32)
    segmenter = zoo.build(identity)
    assert isinstance(segmenter, SemanticSegmenter)
    segmenter.classes, segmenter.palette = ("road", "sky"), ((1, 2, 3), (4, 5, 6))
    file = tmp_path / "own.safetensors"
    save_weights(segmenter, file)
    again = ziggurat.create_model(
        "semantic_fpn", backbone="p2t_mini", num_classes=2, head_channels=32, pretrained=file
    )
    assert isinstance(again, SemanticSegmenter)
    assert (again.classes, again.palette) == (segmenter.classes, segmenter.palette)


def test_load_into_other_names(
    tmp_path: Path, classifier: Classifier, snapshot: Callable[[nn.Module], Any]
) -> None:
    classifier.classes = ("ant", "bee", "cow", "dog", "eel")
    save_weights(classifier, tmp_path / "named.safetensors")
    other = zoo.build(classifier.identity)
    other.classes = ("ant", "abeille", "cow", "dog", "eel")
    load_into(other, tmp_path / "named.safetensors")  # another word for the same thing
    assert _equal(other, classifier)
    other = zoo.build(classifier.identity)
    other.classes = ("aaa", "ant", "bee", "cow", "dog")
    before = snapshot(other)
    with pytest.raises(ZigguratError, match=r"class 1 is 'bee' there and 'ant' here; `--model.res"):
        load_into(other, tmp_path / "named.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    report = load_into(other, tmp_path / "named.safetensors", reset_classes=True)
    assert "4 of 5 classes carried over by name" in report.summary()
    rows, given = (m.state_dict()["head.fc.weight"] for m in (other, classifier))
    assert torch.equal(rows[1:], given[:4])


def test_load_into_other_classes(weights: Path, snapshot: Callable[[nn.Module], Any]) -> None:
    other = zoo.build(ModelIdentity("classification", "classifier", "p2t_mini", 9))
    before = snapshot(other)
    with pytest.raises(ZigguratError, match=r"holds p2t_mini, does not fit.*head\.fc\.weight"):
        load_into(other, weights)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    report = load_into(other, weights, reset_classes=True)
    assert [name for name, _ in report.ignored] == ["head.fc.bias", "head.fc.weight"]
    assert torch.equal(other.state_dict()["head.fc.weight"], before["head.fc.weight"])


def test_load_into_another_system(weights: Path, detector: Detector) -> None:
    with pytest.raises(ZigguratError, match="does not fit retinanet_p2t_mini"):
        load_into(detector, weights, reset_classes=True)


def test_load_into_another_backbone_of_the_same_shapes(weights: Path, detector: Detector) -> None:
    save_weights(detector, weights)
    _rewrite(weights, lambda values: values["identity"].update(backbone="resnet50_caffe"))
    message = "holds the backbone resnet50_caffe of retinanet_resnet50_caffe, expected p2t_mini"
    with pytest.raises(ZigguratError, match=message):
        load_into(zoo.build(detector.identity), weights)


def test_load_into_a_model_of_other_pixels(
    weights: Path, detector: Detector, snapshot: Callable[[nn.Module], Any]
) -> None:
    save_weights(detector, weights)
    other = zoo.build(detector.identity)
    other.preprocessing = FitInside(channel_order="bgr")
    before = snapshot(other)
    with pytest.raises(ZigguratError, match=r"trained on RGB with mean .* gets BGR with mean"):
        load_into(other, weights)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    other.preprocessing = FitInside(short_side=320, long_side=512)  # of other sizes
    load_into(other, weights)
    assert _equal(other, detector)


@pytest.mark.parametrize(
    "preprocessing",
    [
        CenterCrop(),
        CenterCrop(resize=72, crop=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        FitInside(),
        FitInside(short_side=320, long_side=512, divisor=64),
        FitInside(mean=(0.5, 0.4, 0.3), std=(1 / 255,) * 3, channel_order="bgr"),
        FitAligned(channel_order="bgr"),
    ],
)
def test_preprocessing_survives_json(preprocessing: Preprocessing) -> None:
    text = json.dumps(preprocessing_to_dict(preprocessing))
    assert preprocessing_from_dict(json.loads(text), "here") == preprocessing


def test_build_has_the_saved_entries_for_published_models() -> None:
    for name in ("p2t_tiny", "retinanet_p2t_tiny"):
        with torch.device("meta"):
            model = zoo.create_model(name)
            again = zoo.build(model.identity)
        assert {n: v.shape for n, v in model.state_dict().items()} == {
            n: v.shape for n, v in again.state_dict().items()
        }


def test_a_preprocessing_from_before_it_had_an_order_of_channels() -> None:
    values = preprocessing_to_dict(FitInside(short_side=320))
    del values["channel_order"]
    assert preprocessing_from_dict(values, "here") == FitInside(short_side=320)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (preprocessing_to_dict(FitInside()) | {"channel_order": "gbr"}, "channel_order of its pre"),
        (preprocessing_to_dict(FitAligned()) | {"channel_order": 1}, "channel_order of its pre"),
        (preprocessing_to_dict(FitInside()) | {"channel_order": []}, "channel_order of its pre"),
        (
            preprocessing_to_dict(CenterCrop()) | {"channel_order": "bgr"},
            "should not have, channel",
        ),
    ],
)
def test_an_order_of_channels_that_is_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ZigguratError, match=message):
        preprocessing_from_dict(values, "here")


def test_colours_of_a_segmenter_come_back(tmp_path: Path) -> None:
    model = zoo.create_model("segformer", backbone="p2t_mini", num_classes=2, head_channels=8)
    assert isinstance(model, SemanticSegmenter)
    save_weights(model, tmp_path / "plain.safetensors")
    plain = load_weights(tmp_path / "plain.safetensors")
    assert isinstance(plain, SemanticSegmenter) and plain.palette is None
    model.palette = ((1, 2, 3), (255, 0, 255))
    save_weights(model, tmp_path / "coloured.safetensors")
    coloured = load_weights(tmp_path / "coloured.safetensors")
    assert isinstance(coloured, SemanticSegmenter) and coloured.palette == model.palette


@pytest.mark.parametrize(
    "palette", ["red", [[1, 2, 3]], [[1, 2, 3], [4, 5]], [[1, 2, 3], [4, 5, 256]]]
)
def test_a_palette_that_is_none(palette: object) -> None:
    identity = ModelIdentity("semantic_segmentation", "segformer", "p2t_mini", 2, None, 8)
    content = json.loads(Description(identity, ("a", "b"), FitAligned()).to_json())
    text = json.dumps(content | {"palette": palette})
    with pytest.raises(ZigguratError, match=r"is damaged: its palette is no 2 colours"):
        Description.from_json(text, "a file")
    content["identity"]["task"] = "detection"
    with pytest.raises(ZigguratError, match=r"a model for detection has no palette"):
        Description.from_json(json.dumps(content | {"palette": palette}), "a file")
