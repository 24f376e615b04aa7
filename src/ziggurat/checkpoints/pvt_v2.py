"""Names of PVT v2 in the files of github.com/whai362/PVT, and in timm, both ways.

Stages are counted from 1 in the official names and from 0 in timm's and ours.
"""

from torch import Tensor, nn

from ziggurat.backbones.pvt_v2 import PVTv2
from ziggurat.checkpoints.names import NameMap
from ziggurat.errors import ZigguratError
from ziggurat.models.classifier import Classifier

SAME_IN_BLOCKS = r"norm1|norm2|attn\.q|attn\.kv|attn\.proj|mlp\.fc1|mlp\.fc2"


def _stage(number: int) -> tuple[tuple[str, str], ...]:
    stage = f"stages.{number - 1}"
    block = rf"block{number}\.(\d+)"
    return (
        (rf"patch_embed{number}\.(proj|norm)\.(weight|bias)", rf"{stage}.patch_embed.\1.\2"),
        (rf"{block}\.({SAME_IN_BLOCKS})\.(weight|bias)", rf"{stage}.blocks.\1.\2.\3"),
        (rf"{block}\.attn\.sr\.(weight|bias)", rf"{stage}.blocks.\1.attn.reduction.conv.\2"),
        (rf"{block}\.attn\.norm\.(weight|bias)", rf"{stage}.blocks.\1.attn.reduction.norm.\2"),
        (rf"{block}\.mlp\.dwconv\.dwconv\.(weight|bias)", rf"{stage}.blocks.\1.mlp.conv.\2"),
        (rf"norm{number}\.(weight|bias)", rf"{stage}.norm.\1"),
    )


FEATURES = NameMap(renames=_stage(1) + _stage(2) + _stage(3) + _stage(4))

HEAD = NameMap(renames=((r"head\.(weight|bias)", r"head.fc.\1"),))

UNUSED_HEAD = NameMap(
    ignored=((r"head\.(weight|bias)", "ImageNet classifier, not part of a backbone"),)
)

CLASSIFIER = FEATURES.under("", "backbone.") + HEAD
BACKBONE = FEATURES + UNUSED_HEAD

_BLOCK = r"(stages\.\d\.blocks\.\d+)"

TIMM_FEATURES = NameMap(
    renames=(
        (r"patch_embed\.(proj|norm)\.(weight|bias)", r"stages.0.patch_embed.\1.\2"),
        (r"(stages\.\d)\.downsample\.(proj|norm)\.(weight|bias)", r"\1.patch_embed.\2.\3"),
        (rf"{_BLOCK}\.({SAME_IN_BLOCKS})\.(weight|bias)", r"\1.\2.\3"),
        (rf"{_BLOCK}\.attn\.sr\.(weight|bias)", r"\1.attn.reduction.conv.\2"),
        (rf"{_BLOCK}\.attn\.norm\.(weight|bias)", r"\1.attn.reduction.norm.\2"),
        (rf"{_BLOCK}\.mlp\.dwconv\.(weight|bias)", r"\1.mlp.conv.\2"),
        (r"(stages\.\d)\.norm\.(weight|bias)", r"\1.norm.\2"),
    )
)

TIMM = TIMM_FEATURES.under("", "backbone.") + HEAD
TIMM_BACKBONE = TIMM_FEATURES + UNUSED_HEAD

_FEATURES_TO_TIMM = NameMap(
    renames=(
        (r"stages\.0\.patch_embed\.(proj|norm)\.(weight|bias)", r"patch_embed.\1.\2"),
        (r"(stages\.[1-3])\.patch_embed\.(proj|norm)\.(weight|bias)", r"\1.downsample.\2.\3"),
        (rf"{_BLOCK}\.({SAME_IN_BLOCKS})\.(weight|bias)", r"\1.\2.\3"),
        (rf"{_BLOCK}\.attn\.reduction\.conv\.(weight|bias)", r"\1.attn.sr.\2"),
        (rf"{_BLOCK}\.attn\.reduction\.norm\.(weight|bias)", r"\1.attn.norm.\2"),
        (rf"{_BLOCK}\.mlp\.conv\.(weight|bias)", r"\1.mlp.dwconv.\2"),
        (r"(stages\.\d)\.norm\.(weight|bias)", r"\1.norm.\2"),
    )
)

_HEAD_TO_TIMM = NameMap(renames=((r"head\.fc\.(weight|bias)", r"head.\1"),))


def to_timm(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights under the names of timm's `pvt_v2_*`, for its `load_state_dict`.

    Args:
        model: A PVT v2 classifier, or a bare backbone, which gives timm's model without its head.

    Raises:
        ZigguratError: If the model is of another family.
    """
    backbone = model.backbone if isinstance(model, Classifier) else model
    if not isinstance(backbone, PVTv2):
        raise ZigguratError(
            f"timm has no model with the entries of a {type(backbone).__name__}; only PVT v2 "
            "can be converted"
        )
    names = _FEATURES_TO_TIMM
    if isinstance(model, Classifier):
        names = names.under("backbone.", "") + _HEAD_TO_TIMM
    weights = {}
    for name, value in model.state_dict().items():
        timm_name = names.own_name(name)
        assert timm_name is not None, name
        weights[timm_name] = value
    return weights
