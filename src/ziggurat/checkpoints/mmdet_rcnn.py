"""Names of region-based detectors in files trained with MMDetection 2."""

from ziggurat.checkpoints.names import NameMap

Renames = tuple[tuple[str, str], ...]


def _rpn(own: str) -> Renames:
    return (
        (r"rpn_head\.rpn_conv\.(weight|bias)", rf"{own}.conv.\1"),
        (r"rpn_head\.rpn_cls\.(weight|bias)", rf"{own}.objectness.\1"),
        (r"rpn_head\.rpn_reg\.(weight|bias)", rf"{own}.box_deltas.\1"),
    )


def _box_head(official: str, own: str) -> Renames:
    return (
        (rf"{official}\.shared_convs\.(\d+)\.conv\.weight", rf"{own}.convs.\1.conv.weight"),
        (rf"{official}\.shared_convs\.(\d+)\.bn\.(.+)", rf"{own}.convs.\1.norm.\2"),
        (rf"{official}\.shared_fcs\.(\d+)\.(weight|bias)", rf"{own}.linears.\1.\2"),
        (rf"{official}\.fc_cls\.(weight|bias)", rf"{own}.logits.\1"),
        (rf"{official}\.fc_reg\.(weight|bias)", rf"{own}.deltas.\1"),
    )


def _mask_head(official: str, own: str) -> Renames:
    return (
        (rf"{official}\.convs\.(\d+)\.conv\.(weight|bias)", rf"{own}.convs.\1.\2"),
        (rf"{official}\.upsample\.(weight|bias)", rf"{own}.upsample.\1"),
        (rf"{official}\.conv_logits\.(weight|bias)", rf"{own}.logits.\1"),
    )


FASTER_RCNN = NameMap(
    renames=_rpn("head.rpn") + _box_head(r"roi_head\.bbox_head", "head.box_head"),
)
MASK_RCNN = NameMap(
    renames=(
        *_rpn("head.boxes.rpn"),
        *_box_head(r"roi_head\.bbox_head", "head.boxes.box_head"),
        *_mask_head(r"roi_head\.mask_head", "head.mask_head"),
    )
)
CASCADE_MASK_RCNN = NameMap(
    renames=(
        *_rpn("head.rpn"),
        *(
            rename
            for stage in range(3)
            for rename in (
                *_box_head(rf"roi_head\.bbox_head\.{stage}", f"head.box_heads.{stage}"),
                *_mask_head(rf"roi_head\.mask_head\.{stage}", f"head.mask_heads.{stage}"),
            )
        ),
    )
)
