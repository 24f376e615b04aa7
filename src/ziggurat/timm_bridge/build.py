"""What `timm.create_model` does for a model of ours.

There are two sources of weights. The caller may name one to timm, as in
`pretrained_cfg_overlay=dict(file=...)`, and timm reads it; otherwise `ziggurat.pretrained` fetches
what is published. Both go through timm's own rule for other numbers of channels and classes.
"""

from pathlib import Path
from typing import Any

from timm.models import (
    PretrainedCfg,
    build_model_with_cfg,
    get_pretrained_cfg,
    load_pretrained,
    resolve_pretrained_cfg,
)
from torch import nn

from ziggurat.checkpoints.read import read_checkpoint
from ziggurat.errors import ZigguratError
from ziggurat.pretrained import find_weights
from ziggurat.timm_bridge.classifier import TimmClassifier
from ziggurat.timm_bridge.families import NUM_FEATURES
from ziggurat.timm_bridge.weights import with_own_names
from ziggurat.weights.catalogue import files_for

SOURCES = ("url", "file", "state_dict", "hf_hub_id")
"""Fields of timm's configuration that say where weights are."""


def build_for_timm(
    name: str,
    timm_name: str,
    *,
    pretrained: bool,
    pretrained_cfg: str | dict[str, Any] | PretrainedCfg | None = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> nn.Module:
    """Build a classifier, or with `features_only=True` a module that returns its maps.

    Args:
        name: Our name of the model.
        timm_name: Its name in timm's list.
        pretrained: Whether to load weights.
        pretrained_cfg: timm's description of weights, instead of the registered one.
        pretrained_cfg_overlay: Fields of it that are replaced.
        cache_dir: Where timm keeps what it downloads; what we download has a place of its own.
        kwargs: Arguments of `TimmClassifier`, and `features_only` and `out_indices`.

    Returns:
        A `TimmClassifier`, or one wrapped in timm's `FeatureGetterNet`.

    Raises:
        ZigguratError: If `cache_dir` is given for a download that is not timm's.
    """
    given = (
        pretrained_cfg.to_dict() if isinstance(pretrained_cfg, PretrainedCfg) else pretrained_cfg
    )
    cfg = resolve_pretrained_cfg(timm_name, given, pretrained_cfg_overlay)
    registered = get_pretrained_cfg(timm_name)
    is_published = pretrained and all(getattr(cfg, s) == getattr(registered, s) for s in SOURCES)
    if is_published and cache_dir is not None:
        raise ZigguratError(
            f"cache_dir has no effect on the published weights of {timm_name}, got {cache_dir}; "
            "set the environment variable ZIGGURAT_CACHE instead"
        )

    def construct(**arguments: Any) -> TimmClassifier:  # noqa: ANN401
        model = TimmClassifier(name, **arguments)
        if is_published:
            _load_published(model, name, cfg)
        return model

    return build_model_with_cfg(
        construct,
        timm_name,
        pretrained and not is_published,
        pretrained_cfg=cfg.to_dict(),
        pretrained_filter_fn=with_own_names,
        feature_cfg={"feature_cls": "getter", "out_indices": tuple(range(NUM_FEATURES))},
        cache_dir=cache_dir,
        **kwargs,
    )


def _load_published(model: TimmClassifier, name: str, cfg: PretrainedCfg) -> None:
    """Load what is published of a model.

    Raises:
        ZigguratError: If nothing is, or it cannot be downloaded.
    """
    try:
        weights = read_checkpoint(find_weights(name))
    except ZigguratError as error:
        published = next(iter(files_for(name)), None)
        if published is not None and published.url is not None:
            raise
        where = "no weights are published" if published is None else published.how_to_save
        raise ZigguratError(
            f"no program can download weights of {name!r}: {where}; a file on the disk is given to "
            "timm as pretrained=True, pretrained_cfg_overlay={'file': 'PATH'}, or as "
            "checkpoint_path='PATH' alone, a .pdparams file after `ziggurat convert PATH --model "
            f"{name} -o {name}.safetensors`"
        ) from error
    load_pretrained(
        model,
        {**cfg.to_dict(), "state_dict": weights},
        num_classes=model.num_classes,
        in_chans=model.in_chans,
        filter_fn=with_own_names,
    )
