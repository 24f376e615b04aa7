"""Official files through timm's own loaders, with its rules for other channels and classes."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import PretrainedCfg, save_for_hf
from torch import Tensor

import ziggurat
from ziggurat import ZigguratError
from ziggurat.timm_bridge import build
from ziggurat.timm_bridge.weights import with_own_names

P2T = "p2t_tiny"
STEM = "backbone.stages.0.patch_embed.proj.weight"


def official_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of github.com/yuhuan-wu/P2T, whose stages are counted from 1."""
    kinds = {"patch_embed": "patch_embed", "pool_convs": "d_convs", "blocks": "block"}
    names = {}
    for name, value in state.items():
        match = re.fullmatch(r"backbone\.stages\.(\d)\.(\w+)\.(.+)", name)
        if match is None:
            names[name.replace("head.fc.", "head.")] = value
        else:
            rest = re.sub(r"attn\.(q|kv)\.", r"attn.\1.0.", match[3]).replace("pool_norm", "norm")
            names[f"{kinds[match[2]]}{int(match[1]) + 1}.{rest}"] = value
    return names


@pytest.fixture
def source() -> Any:
    """The model whose weights are in `file`."""
    return timm.create_model(P2T).eval()


@pytest.fixture
def file(source: Any, tmp_path: Path) -> Path:
    path = tmp_path / "p2t_tiny.pth"
    torch.save({"model": official_names(source.state_dict())}, path)
    return path


@pytest.fixture
def images() -> Tensor:
    return torch.randn(1, 3, 64, 64)


def test_checkpoint_path_takes_an_official_file(source: Any, file: Path, images: Tensor) -> None:
    model = timm.create_model(P2T, checkpoint_path=file).eval()
    assert torch.equal(model(images), source(images))


def test_a_foreign_entry_is_not_overlooked(file: Path) -> None:
    weights = torch.load(file)["model"]
    torch.save(weights | {"block9.0.norm1.weight": torch.zeros(8)}, file)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*block9\.0\.norm1\.weight"):
        timm.create_model(P2T, checkpoint_path=file)
    del weights["head.bias"]
    torch.save(weights, file)
    with pytest.raises(RuntimeError, match=r"Missing key.*head\.fc\.bias"):
        timm.create_model(P2T, checkpoint_path=file)


def test_a_state_without_official_names_is_left_as_it_is(source: Any) -> None:
    state = source.state_dict()
    assert with_own_names(state, source) is state
    assert source.load_state_dict({"other": torch.zeros(1)}, strict=False).unexpected_keys == [
        "other"
    ]


def test_a_named_file_is_adapted_to_channels_and_classes(source: Any, file: Path) -> None:
    model = timm.create_model(
        P2T,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(file)},
        in_chans=1,
        num_classes=7,
    )
    ours, theirs = model.state_dict(), source.state_dict()
    torch.testing.assert_close(ours[STEM], theirs[STEM].sum(dim=1, keepdim=True))
    assert ours["head.fc.weight"].shape == (7, 24)
    same = set(ours) - {STEM, "head.fc.weight", "head.fc.bias"}
    assert all(torch.equal(ours[name], theirs[name]) for name in same)


def test_features_take_a_named_file(source: Any, file: Path, images: Tensor) -> None:
    net = timm.create_model(
        P2T,
        pretrained=True,
        pretrained_cfg=PretrainedCfg(file=str(file), classifier="head.fc"),
        features_only=True,
        out_indices=(1, 3),
    ).eval()
    expected = source.forward_intermediates(images, [1, 3], intermediates_only=True)
    assert all(map(torch.equal, net(images), expected))


def test_published_weights_are_adapted_too(
    source: Any, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def find_weights(name: str) -> Path:
        asked.append(name)
        return file

    monkeypatch.setattr(build, "find_weights", find_weights)
    model: Any = timm.create_model(P2T, pretrained=True, in_chans=6, num_classes=0)
    assert asked == ["p2t_tiny"]
    ours, theirs = model.state_dict(), source.state_dict()
    torch.testing.assert_close(ours[STEM], theirs[STEM].repeat(1, 2, 1, 1) / 2)
    assert set(theirs) - set(ours) == {"head.fc.weight", "head.fc.bias"}
    assert all(torch.equal(ours[name], theirs[name]) for name in set(ours) - {STEM})
    assert "state_dict" not in model.pretrained_cfg  # nor held in memory a second time
    net = timm.create_model(P2T, pretrained=True, features_only=True, out_indices=(0,))
    assert torch.equal(net.state_dict()[f"model.{STEM}"], theirs[STEM])


def test_weights_that_only_a_person_can_get_are_asked_for() -> None:
    with pytest.raises(ZigguratError, match="p2t_tiny") as caught, torch.device("meta"):
        timm.create_model("p2t_tiny", pretrained=True)
    assert "pretrained_cfg_overlay={'file': 'PATH'}" in str(caught.value)
    assert "checkpoint_path='PATH'" in str(caught.value)
    assert "pretrained='" not in str(caught.value)


def test_what_ziggurat_convert_writes_is_a_file_for_timm(tmp_path: Path, images: Tensor) -> None:
    ours = ziggurat.create_model(P2T).eval()
    path = str(tmp_path / "converted.safetensors")
    ziggurat.save_weights(ours, path)
    for options in (
        {"pretrained": True, "pretrained_cfg_overlay": {"file": path}},
        {"checkpoint_path": path},
    ):
        assert torch.equal(timm.create_model(P2T, **options).eval()(images), ours(images))


def test_a_cache_that_would_not_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match=r"cache_dir has no effect .*ZIGGURAT_CACHE"):
        timm.create_model(P2T, pretrained=True, cache_dir=tmp_path)


def test_a_folder_that_timm_saved_builds_the_model_again(images: Tensor, tmp_path: Path) -> None:
    model = timm.create_model(P2T, num_classes=7).eval()
    save_for_hf(model, str(tmp_path))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(again(images), model(images))
