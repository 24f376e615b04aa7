"""Names in the PVT v1 files of github.com/whai362/PVT, for classification and dense prediction.

Stages are counted from 1 in the official names and from 0 in ours.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ziggurat.backbones.pvt import resize_positions
from ziggurat.checkpoints.names import NameMap, Shape
from ziggurat.errors import ZigguratError


def resize_position_embedding(
    value: Float[Tensor, "1 N C"], shape: Shape
) -> Float[Tensor, "1 M C"]:
    """Interpolate a position embedding to our grid as the model itself does, bilinearly.

    Row 0 of the last stage belongs to the class token and is kept apart; there is one where the
    number of our rows is one more than a square.

    Args:
        value: Position embedding of a file.
        shape: Shape of ours.

    Raises:
        ZigguratError: If the file's embedding is not one of a square grid.
    """
    side = math.isqrt(shape[1])
    has_class_row = shape[1] - side**2
    first, patches = value[:, :has_class_row], value[:, has_class_row:]
    if math.isqrt(patches.shape[1]) ** 2 != patches.shape[1]:
        rows = " behind that of the class token" if has_class_row else ""
        raise ZigguratError(
            f"a position embedding has {patches.shape[1]} rows{rows}, expected those of a square "
            "grid; resize it to one before loading"
        )
    return torch.cat((first, resize_positions(patches.float(), (side, side))), dim=1)


def _stage(number: int) -> tuple[tuple[str, str], ...]:
    stage = f"stages.{number - 1}"
    block = rf"block{number}\.(\d+)"
    same = r"norm1|norm2|attn\.q|attn\.kv|attn\.proj|mlp\.fc1|mlp\.fc2"
    return (
        (rf"patch_embed{number}\.(proj|norm)\.(weight|bias)", rf"{stage}.patch_embed.\1.\2"),
        (rf"pos_embed{number}", rf"{stage}.pos_embed"),
        (rf"{block}\.({same})\.(weight|bias)", rf"{stage}.blocks.\1.\2.\3"),
        (rf"{block}\.attn\.sr\.(weight|bias)", rf"{stage}.blocks.\1.attn.reduction.conv.\2"),
        (rf"{block}\.attn\.norm\.(weight|bias)", rf"{stage}.blocks.\1.attn.reduction.norm.\2"),
    )


FEATURES = NameMap(
    renames=_stage(1) + _stage(2) + _stage(3) + _stage(4),
    resized=((r"stages\.\d\.pos_embed", resize_position_embedding),),
)

CLASS_TOKEN = NameMap(
    renames=((r"cls_token", r"stages.3.cls_token"), (r"norm\.(weight|bias)", r"norm.\1"))
)

HEAD = NameMap(renames=((r"head\.(weight|bias)", r"head.fc.\1"),))

UNUSED_HEAD = NameMap(
    ignored=(
        (
            r"cls_token|(norm|head)\.(weight|bias)",
            "class token, its norm and ImageNet classifier, not part of a backbone",
        ),
    )
)

CLASSIFIER = (FEATURES + CLASS_TOKEN).under("", "backbone.") + HEAD
BACKBONE = FEATURES + UNUSED_HEAD
