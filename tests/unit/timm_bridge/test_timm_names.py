"""What timm knows of our models: names, preprocessing, the parts that it adapts."""

import fnmatch
from typing import Any

import pytest
import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import get_pretrained_cfg, is_model_pretrained, model_entrypoint
from torch import nn

from ziggurat.cards import MODELS
from ziggurat.preprocessing import CenterCrop
from ziggurat.timm_bridge.ziggurat_models import register
from ziggurat.weights.catalogue import FILES

CLASSIFIERS = [name for name, card in MODELS.items() if card.task == "classification"]
LISTED = timm.list_models(module="ziggurat_models")


def registered(name: str) -> Any:
    return get_pretrained_cfg(name)


def test_every_classifier_is_listed() -> None:
    assert sorted(name.removeprefix("ziggurat_") for name in LISTED) == sorted(CLASSIFIERS)


def test_models_are_found_by_pattern() -> None:
    expected = {name for name in CLASSIFIERS if fnmatch.fnmatch(name, "p2t*")}
    assert set(timm.list_models("p2t*")) == expected


def test_names_of_timm_stay_those_of_timm() -> None:
    assert model_entrypoint("pvt_v2_b0").__module__ == "timm.models.pvt_v2"
    assert model_entrypoint("ziggurat_pvt_v2_b0").__module__.startswith("ziggurat.")
    assert {name for name in LISTED if name.startswith("ziggurat_")} == {
        f"ziggurat_{name}" for name in CLASSIFIERS if name.startswith("pvt_v2")
    }


def test_registering_again_changes_nothing() -> None:
    before = timm.list_models()
    register()  # a warning of timm, that a name is overwritten, would be an error here
    assert timm.list_models() == before


def test_timm_finds_the_parts_that_it_adapts(name: str) -> None:
    with torch.device("meta"):
        model: Any = timm.create_model(name, in_chans=5, num_classes=7)
    cfg = registered(name)
    first, last = model.get_submodule(cfg.first_conv), model.get_submodule(cfg.classifier)
    assert isinstance(first, nn.Conv2d) and first.in_channels == 5
    assert isinstance(last, nn.Linear) and last.out_features == 7
    assert last is model.get_classifier()


@pytest.mark.parametrize("name", LISTED)
def test_preprocessing_is_that_of_the_model(name: str) -> None:
    config = resolve_data_config(pretrained_cfg=registered(name).to_dict())
    ours = CenterCrop()
    assert config["input_size"] == (3, ours.crop, ours.crop)
    assert round(ours.crop / config["crop_pct"]) == ours.resize
    assert config["interpolation"] == "bicubic"
    assert (config["mean"], config["std"]) == (ours.mean, ours.std)


@pytest.mark.parametrize("name", LISTED)
def test_pretrained_is_promised_where_a_program_can_download(name: str) -> None:
    urls = {file.url for file in FILES.values() if file.model == name.removeprefix("ziggurat_")}
    assert bool(is_model_pretrained(name)) == bool(urls - {None})
    assert registered(name).url in (urls if urls - {None} else {None})
