"""Weights of an auxiliary head: kept, begun anew where it was added, left out where it is not."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ziggurat import zoo
from ziggurat.checkpoints.native import load_into, load_weights, save_weights
from ziggurat.checkpoints.official import load_official
from ziggurat.errors import ZigguratError
from ziggurat.models.semantic_segmenter import SemanticSegmenter

OFFICIAL = (
    (r"^auxiliary_head\.conv\.", "auxiliary_head.convs.0."),
    (r"^auxiliary_head\.classifier\.logits", "auxiliary_head.conv_seg"),
    (r"^head\.classifier\.logits", "decode_head.conv_seg"),
    (r"^head\.projections", "decode_head.convs"),
    (r"^head\.mixing", "decode_head.fusion_conv"),
    (r"^head\.pooling\.pooled_convs\.(\d)", r"decode_head.psp_modules.\1.1"),
    (r"^head\.bottleneck", "decode_head.fpn_bottleneck"),
    (r"^head\.pooling\.bottleneck", "decode_head.bottleneck"),
    (r"^head\.output_convs", "decode_head.fpn_convs"),
    (r"^head\.lateral_convs", "decode_head.lateral_convs"),
    (r"\.norm\.", ".bn."),
)
"""Our names of heads, and MMSegmentation's."""


def segmenter(system: str, auxiliary_head: bool | None = None) -> SemanticSegmenter:
    model = zoo.create_model(
        system,
        backbone="p2t_mini",
        num_classes=3,
        head_channels=8,
        auxiliary_head=auxiliary_head,
    )
    assert isinstance(model, SemanticSegmenter)
    return model


def helpers(model: SemanticSegmenter) -> dict[str, Tensor]:
    """Return the entries of the auxiliary head."""
    return {
        name: value.clone()
        for name, value in model.state_dict().items()
        if name.startswith("auxiliary_head.")
    }


def official(model: SemanticSegmenter, imagenet_file: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what MMSegmentation saves for a model, with other weights of the backbone."""
    file = {f"backbone.{n}": v for n, v in imagenet_file.items() if not n.startswith("head.")}
    for name, value in model.state_dict().items():
        if name.startswith(("head.", "auxiliary_head.")):
            for ours, theirs in OFFICIAL:
                name = re.sub(ours, theirs, name)
            file[name] = value.clone()
    return file


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the identity that a file holds."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["ziggurat"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(values["identity"])
    save_file(tensors, path, metadata={"ziggurat": json.dumps(values)})


@pytest.mark.parametrize(("system", "choice"), [("segformer", True), ("upernet", False)])
def test_a_file_says_whether_its_model_has_one(system: str, choice: bool, tmp_path: Path) -> None:
    model = segmenter(system, choice)
    save_weights(model, tmp_path / "a.safetensors")
    loaded = load_weights(tmp_path / "a.safetensors")
    assert isinstance(loaded, SemanticSegmenter)
    assert loaded.identity == model.identity
    assert (loaded.auxiliary_head is not None) == choice
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("system", ["segformer", "upernet"])
def test_a_file_from_before_there_was_a_choice(system: str, tmp_path: Path) -> None:
    path, model = tmp_path / "a.safetensors", segmenter(system)
    save_weights(model, path)
    rewrite(path, lambda identity: identity.pop("auxiliary_head"))
    loaded = load_weights(path)
    assert loaded.identity == model.identity
    assert loaded.state_dict().keys() == model.state_dict().keys()
    rewrite(path, lambda identity: identity.update(auxiliary_head=1))
    with pytest.raises(ZigguratError, match="is damaged: auxiliary_head of its model is 1"):
        load_weights(path)


def test_a_file_of_ours_starts_a_model_with_one_and_a_model_without(tmp_path: Path) -> None:
    without, helped = segmenter("segformer"), segmenter("segformer", True)
    before = helpers(helped)
    save_weights(without, tmp_path / "without.safetensors")
    report = load_into(helped, tmp_path / "without.safetensors")
    assert [name for name, _ in report.absent] == list(before)
    assert "added to this model; it begins anew" in report.summary()
    assert all(torch.equal(value, before[name]) for name, value in helpers(helped).items())
    save_weights(helped, tmp_path / "helped.safetensors")
    report = load_into(without, tmp_path / "helped.safetensors")
    assert sorted(name for name, _ in report.ignored) == sorted(before)
    assert "only training needs, and this model has none" in report.summary()
    assert not load_into(helped, tmp_path / "helped.safetensors").absent


def test_a_file_of_ours_without_the_one_of_upernet(tmp_path: Path) -> None:
    path, model = tmp_path / "without.safetensors", segmenter("upernet")
    save_weights(segmenter("upernet", False), path)
    assert [name for name, _ in load_into(model, path).absent] == list(helpers(model))
    rewrite(path, lambda identity: identity.update(auxiliary_head=None))
    with pytest.raises(ZigguratError, match=r"8 entries are missing \(auxiliary_head\."):
        load_into(model, path)


def test_an_official_file_has_none_for_a_head_that_was_added(
    imagenet_file: dict[str, Tensor],
) -> None:
    file = official(segmenter("segformer"), imagenet_file)
    report = load_official(segmenter("segformer"), file)
    assert not report.absent and not report.ignored
    model = segmenter("segformer", True)
    before = helpers(model)
    report = load_official(model, file)
    assert len(report.matched) == len(file)
    assert [name for name, _ in report.absent] == list(before)
    assert all(torch.equal(value, before[name]) for name, value in helpers(model).items())
    given = segmenter("segformer", True)
    report = load_official(model, official(given, imagenet_file))
    assert not report.absent
    assert all(torch.equal(value, helpers(given)[name]) for name, value in helpers(model).items())


def test_an_official_file_of_upernet(imagenet_file: dict[str, Tensor]) -> None:
    file = official(segmenter("upernet"), imagenet_file)
    assert not load_official(segmenter("upernet"), file).ignored
    report = load_official(segmenter("upernet", False), file)
    assert [name for name, _ in report.ignored] == [n for n in file if n.startswith("auxiliary")]
    assert {reason for _, reason in report.ignored} == {
        "auxiliary head, which only training needs, and this model has none"
    }
    halved = {name: value for name, value in file.items() if not name.startswith("auxiliary")}
    with pytest.raises(ZigguratError, match=r"8 entries are missing \(auxiliary_head\."):
        load_official(segmenter("upernet"), halved)
