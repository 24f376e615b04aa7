"""Weights for the networks of timm that serve as backbones, through timm's own loader.

The loader knows how files of each network are renamed, and fills the whole network, its classifier
included. What the backbone has of it is copied from there.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from timm.models import get_pretrained_cfg
from timm.models._features import FeatureGetterNet
from timm.models._hub import hf_split
from torch import nn

from ziggurat.backbones.timm_backbone import TimmBackbone
from ziggurat.checkpoints import resnet
from ziggurat.checkpoints.matching import SHOWN, LoadReport
from ziggurat.checkpoints.read import read_stored
from ziggurat.errors import ZigguratError

FILES_ON_THE_HUB = ("model.safetensors", "pytorch_model.bin")
"""Where a repository of timm has weights, in the order in which timm looks."""


def load_published(backbone: TimmBackbone, file: Path | None = None) -> LoadReport:
    """Load the weights that timm publishes for a network; timm downloads and keeps them.

    Args:
        backbone: Receives the weights.
        file: What timm has kept of them, to be used without a look at the network.

    Raises:
        ZigguratError: If there are none, or they cannot be had.
    """
    kept = None if file is None else {"file": str(file)}
    try:
        whole = timm.create_model(backbone.name, pretrained=True, pretrained_cfg_overlay=kept)
    except (RuntimeError, OSError, ValueError) as error:
        raise ZigguratError(
            f"timm has no weights of {backbone.name!r} for this machine ({_in_short(error)}); "
            "check the connection and HF_HUB_OFFLINE, or give the path of a file"
        ) from error
    return _copy(backbone, whole)


def kept_file(network: str) -> Path:
    """Return what timm has downloaded of a network's weights, without a look at the network.

    Args:
        network: Name of the network.

    Raises:
        ZigguratError: If nothing of it is on this machine.
    """
    facts = get_pretrained_cfg(network)
    places: list[Path | str | None] = []
    if facts is not None and facts.hf_hub_id:
        repository, revision = hf_split(facts.hf_hub_id)
        names = (facts.hf_hub_filename,) if facts.hf_hub_filename else FILES_ON_THE_HUB
        places += [try_to_load_from_cache(repository, name, revision=revision) for name in names]
    elif facts is not None and isinstance(facts.url, str):
        places.append(Path(torch.hub.get_dir(), "checkpoints", facts.url.rpartition("/")[2]))
    for place in places:
        if isinstance(place, str | Path) and Path(place).is_file():
            return Path(place)
    raise ZigguratError(
        f"timm's weights of {network!r} are not on this machine, and downloads are forbidden by "
        "ZIGGURAT_OFFLINE or HF_HUB_OFFLINE; unset it, or give the path of a file"
    )


def load_file(backbone: TimmBackbone, path: Path, *, use_ema: bool = False) -> LoadReport:
    """Load a file that timm would load; every entry of it must have its place in the network.

    Args:
        backbone: Receives the weights; unchanged if they do not fit.
        path: A .pth, .pt or .safetensors file.
        use_ema: Load the weights that were averaged over the training, where a file has both.

    Raises:
        ZigguratError: If the file cannot be read or does not fit.
    """
    stored = read_stored(path, use_ema=use_ema)
    if resnet.saw_levels(stored.tensors):
        raise ZigguratError(
            f"{path} was trained on BGR levels from 0 to 255, as of Caffe, and {backbone.name!r} "
            "of timm gets normalised RGB; choose another file, or a backbone such as resnet50_caffe"
        )
    # With the number of classes that is in the file timm compares every entry, else none.
    count = _num_classes(backbone.name, stored.tensors)
    try:
        whole = timm.create_model(
            backbone.name,
            pretrained=True,
            num_classes=count,
            pretrained_cfg_overlay={"state_dict": dict(stored.tensors), "num_classes": count},
        )
    except (RuntimeError, KeyError, ValueError) as error:
        raise ZigguratError(
            f"{path} does not fit {backbone.name!r} of timm: {_in_short(error)}; choose the "
            "network that the file was made for"
        ) from error
    return replace(_copy(backbone, whole), has_unused_average=stored.has_unused_average)


def _num_classes(network: str, weights: dict[str, torch.Tensor]) -> int:
    """Return how many classes the classifier in a file has; 0 where it has none."""
    facts = get_pretrained_cfg(network)
    names: Any = facts.classifier if facts is not None else None
    for classifier in (names,) if isinstance(names, str) else names or ():
        # timm renames the "head" of its authors' files to "head.fc", after this.
        for name in (classifier, classifier.removesuffix(".fc")):
            if f"{name}.weight" in weights:
                return len(weights[f"{name}.weight"])
    return 0


def _copy(backbone: TimmBackbone, whole: nn.Module) -> LoadReport:
    """Copy the part of a network that a backbone has.

    Args:
        backbone: Receives the weights.
        whole: The network with its classifier.

    Raises:
        ZigguratError: If an entry of the backbone is not in the network.
    """
    values, own = whole.state_dict(), backbone.model.state_dict()
    wrapper = "model." if isinstance(backbone.model, FeatureGetterNet) else ""
    theirs = {_plain(name): name for name in values}
    found = {name: theirs.get(_plain(name.removeprefix(wrapper)), "") for name in own}
    lost = [
        name
        for name, other in found.items()
        if other not in values or values[other].shape != own[name].shape
    ]
    if lost:
        raise ZigguratError(
            f"the maps of {backbone.name!r} of timm have {len(lost)} entries that its weights have "
            f"not ({', '.join(lost[:SHOWN])}); choose another network"
        )
    with torch.no_grad():
        for name, other in found.items():
            own[name].copy_(values[other])
    left_out = sorted(values.keys() - set(found.values()))
    reason = "classifier, or a layer behind the last map"
    return LoadReport(
        matched=tuple((other, f"model.{name}") for name, other in found.items()),
        ignored=tuple((name, reason) for name in left_out),
    )


def _plain(name: str) -> str:
    # Where timm takes a sequence of stages apart, stages.0 becomes stages_0.
    return name.replace("_", ".")


def _in_short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
