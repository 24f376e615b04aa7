"""Names in the files of github.com/yuhuan-wu/P2T (ImageNet files, and backbones of its detectors).

Stages are counted from 1 in the official names and from 0 in ours.
"""

from ziggurat.checkpoints.names import NameMap


def _stage(number: int) -> tuple[tuple[str, str], ...]:
    stage = f"stages.{number - 1}"
    block = rf"block{number}\.(\d+)"
    same = r"norm1|norm2|attn\.proj|mlp\.fc1|mlp\.conv|mlp\.fc2"
    return (
        (rf"patch_embed{number}\.(proj|norm)\.(weight|bias)", rf"{stage}.patch_embed.\1.\2"),
        (rf"d_convs{number}\.(\d+)\.(weight|bias)", rf"{stage}.pool_convs.\1.\2"),
        (rf"{block}\.({same})\.(weight|bias)", rf"{stage}.blocks.\1.\2.\3"),
        (rf"{block}\.attn\.(q|kv)\.0\.(weight|bias)", rf"{stage}.blocks.\1.attn.\2.\3"),
        (rf"{block}\.attn\.norm\.(weight|bias)", rf"{stage}.blocks.\1.attn.pool_norm.\2"),
    )


FEATURES = NameMap(renames=_stage(1) + _stage(2) + _stage(3) + _stage(4))

HEAD = NameMap(renames=((r"head\.(weight|bias)", r"head.fc.\1"),))

UNUSED_HEAD = NameMap(
    ignored=(
        # Also in the backbones of official segmenters, which keep it without using it.
        (r"head\.(weight|bias)", "ImageNet classifier, not part of a backbone"),
    )
)

CLASSIFIER = FEATURES.under("", "backbone.") + HEAD
BACKBONE = FEATURES + UNUSED_HEAD
