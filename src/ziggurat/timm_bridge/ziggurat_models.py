"""Names and preprocessing of our classifiers in timm's registry.

timm lists models by the file that registers them, hence the name of this one:
`timm.list_models(module="ziggurat_models")`.

This file imports neither timm nor a backbone, which imports timm, before they are used: it runs
while timm is being imported, perhaps by one of our backbones.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ziggurat.cards import MODELS
from ziggurat.preprocessing import CenterCrop
from ziggurat.weights import gpvit, p2t, pvt, topformer

if TYPE_CHECKING:
    from timm.models import DefaultCfg, PretrainedCfg
    from torch import nn

FIRST_CONVS = {
    "pvt": "backbone.stages.0.patch_embed.proj",
    "p2t": "backbone.stages.0.patch_embed.proj",
    "topformer": "backbone.pyramid.stem.conv",
    "gpvit": "backbone.patch_embed.stem.0.conv",
}
"""The convolution of each family that sees the image: timm adapts it to other numbers of
channels."""

default_cfgs: dict[str, "DefaultCfg"] = {}
"""What timm knows of each model without building it. timm looks for it under this name."""


def register() -> None:
    """Add every published classifier to timm's list; a second call changes nothing.

    A name that timm has itself is not overridden: our PVT v2 are `ziggurat_pvt_v2_b0` and so on.
    """
    from timm.models import generate_default_cfgs, is_model, register_model

    for card in MODELS.values():
        if card.task != "classification":
            continue
        is_taken = is_model(card.name) and not _is_ours(card.name)
        timm_name = f"ziggurat_{card.name}" if is_taken else card.name
        if is_model(timm_name):
            continue
        default_cfgs.update(generate_default_cfgs({timm_name: _pretrained_cfg(card.name)}))
        # timm writes the name into __all__ of this file, so it has to be here.
        globals()[timm_name] = register_model(_entry_point(card.name, timm_name))


def _is_ours(timm_name: str) -> bool:
    from timm.models import model_entrypoint

    return bool(model_entrypoint(timm_name).__module__ == __name__)


def _pretrained_cfg(name: str) -> "PretrainedCfg":
    from timm.models import PretrainedCfg

    expected = CenterCrop()
    # The first that can be downloaded; the catalogue itself would import the backbones.
    files = [file for family in (pvt, p2t, topformer, gpvit) for file in family.FILES]
    published = next((file for file in files if file.model == name and file.url), None)
    return PretrainedCfg(
        url=published.url if published else None,
        license=published.licence if published else None,
        input_size=(3, expected.crop, expected.crop),
        crop_pct=expected.crop / expected.resize,
        interpolation="bicubic",
        mean=expected.mean,
        std=expected.std,
        num_classes=1000,
        first_conv=next(conv for family, conv in FIRST_CONVS.items() if name.startswith(family)),
        classifier="head.fc",
    )


def _entry_point(name: str, timm_name: str) -> Callable[..., "nn.Module"]:
    # The signature is timm's; what it passes on that no model takes is refused by the constructor.
    def entry_point(pretrained: bool = False, **kwargs: Any) -> "nn.Module":  # noqa: ANN401
        from ziggurat.timm_bridge.build import build_for_timm

        return build_for_timm(name, timm_name, pretrained=pretrained, **kwargs)

    entry_point.__name__ = entry_point.__qualname__ = timm_name
    entry_point.__doc__ = f"Build {name} with timm's interface."
    return entry_point
