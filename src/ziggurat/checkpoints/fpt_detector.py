"""Names of the detectors that the published Feature Pyramid Transformer trains.

Its program stores a step, sizes, the optimizer's state and, under `model`, what is named here; and
it starts from models of Detectron as far as those have the same layers. In both, background is the
first class: here it is the last one of the box branch, and has neither a box nor a mask.
"""

from ziggurat.checkpoints import fpt, resnet
from ziggurat.checkpoints.names import WITHOUT_BATCH_COUNTS, BackgroundFirst, NameMap

Renames = tuple[tuple[str, str], ...]

WB = "(weight|bias)"

BOXES = NameMap(
    renames=(
        (rf"RPN\.FPN_RPN_conv\.{WB}", r"rpn.conv.\1"),
        (rf"RPN\.FPN_RPN_cls_score\.{WB}", r"rpn.objectness.\1"),
        (rf"RPN\.FPN_RPN_bbox_pred\.{WB}", r"rpn.box_deltas.\1"),
        # Four convolutions and a fully connected layer ...
        (r"Box_Head\.conv1_head\.(\d)\.0\.weight", r"pooling.layers.\1.conv.weight"),
        (rf"Box_Head\.conv1_head\.(\d)\.1\.{WB}", r"pooling.layers.\1.norm.\2"),
        *(
            rename
            for i in range(3)
            for rename in (
                (rf"Box_Head\.convs\.{3 * i}\.weight", f"box_head.convs.{i}.conv.weight"),
                (rf"Box_Head\.convs\.{3 * i + 1}\.{WB}", rf"box_head.convs.{i}.norm.\1"),
            )
        ),
        (rf"Box_Head\.fc\.{WB}", r"box_head.linears.0.\1"),
        # ... or two fully connected layers.
        (rf"Box_Head\.fc1\.(\d)\.0\.{WB}", r"pooling.layers.\1.linear.\2"),
        (rf"Box_Head\.fc1\.(\d)\.1\.{WB}", r"pooling.layers.\1.norm.\2"),
        (rf"Box_Head\.fc2\.0\.{WB}", r"box_head.linears.0.linear.\1"),
        (rf"Box_Head\.fc2\.1\.{WB}", r"box_head.linears.0.norm.\1"),
        (rf"Box_Outs\.cls_score\.{WB}", r"box_head.logits.\1"),
        (rf"Box_Outs\.bbox_pred\.{WB}", r"box_head.deltas.\1"),
    ),
    background_first=(
        (r"Box_Outs\.cls_score\..+", BackgroundFirst()),
        (r"Box_Outs\.bbox_pred\..+", BackgroundFirst(rows=4, is_kept=False)),
    ),
)
MASKS = NameMap(
    renames=(
        (r"Mask_Head\.mask_conv1\.(\d)\.0\.weight", r"pooling.layers.\1.conv.weight"),
        (rf"Mask_Head\.mask_conv1\.(\d)\.1\.{WB}", r"pooling.layers.\1.norm.\2"),
        *(
            rename
            for i in range(2)
            for rename in (
                (rf"Mask_Head\.conv_fcn\.{3 * i}\.weight", f"mask_head.shared.{i}.conv.weight"),
                (rf"Mask_Head\.conv_fcn\.{3 * i + 1}\.{WB}", rf"mask_head.shared.{i}.norm.\1"),
            )
        ),
        *(
            rename
            for official, own in (
                ("mask_conv4", "conv"),
                ("mask_conv4_fc", "whole_convs.0"),
                ("mask_conv5_fc", "whole_convs.1"),
            )
            for rename in (
                (rf"Mask_Head\.{official}\.0\.weight", f"mask_head.{own}.conv.weight"),
                (rf"Mask_Head\.{official}\.1\.{WB}", rf"mask_head.{own}.norm.\1"),
            )
        ),
        (rf"Mask_Head\.mask_fc\.0\.{WB}", r"mask_head.whole.\1"),
        (rf"Mask_Head\.upconv\.{WB}", r"mask_head.upsample.\1"),
        (rf"Mask_Outs\.classify\.{WB}", r"mask_head.logits.\1"),
    ),
    background_first=((r"Mask_Outs\.classify\..+", BackgroundFirst(is_kept=False)),),
)


def _blob(blob: str, own: str) -> Renames:
    return ((rf"{blob}_w", rf"{own}.weight"), (rf"{blob}_b", rf"{own}.bias"))


def _normed_blob(blob: str, own: str) -> Renames:
    return (
        (rf"{blob}_w", rf"{own}.conv.weight"),
        (rf"{blob}_gn_s", rf"{own}.norm.weight"),
        (rf"{blob}_gn_b", rf"{own}.norm.bias"),
    )


SHARED_BLOBS = NameMap(
    renames=(
        *_blob("conv_rpn_fpn2", "rpn.conv"),
        *_blob("rpn_cls_logits_fpn2", "rpn.objectness"),
        *_blob("rpn_bbox_pred_fpn2", "rpn.box_deltas"),
        *_blob("cls_score", "box_head.logits"),
        *_blob("bbox_pred", "box_head.deltas"),
    ),
    background_first=(
        (r"cls_score_.", BackgroundFirst()),
        (r"bbox_pred_.", BackgroundFirst(rows=4, is_kept=False)),
    ),
    absent=((r"pooling\..+", "layers of single levels, which Detectron does not have"),),
)
BOX_BLOBS = SHARED_BLOBS + NameMap(
    renames=(
        *(
            rename
            for i in range(3)
            for rename in _normed_blob(rf"head_conv{i + 1}", rf"box_head.convs.{i}")
        ),
        *_blob("fc6", "box_head.linears.0"),
    ),
    ignored=((r"head_conv4_.+", "a fourth convolution, which here is one of each level"),),
)
BOX_BLOBS_2FC = SHARED_BLOBS + NameMap(
    ignored=((r"fc[67]_.+", "fully connected layers without norms, or of a single level"),),
    absent=((r"box_head\.linears\..+", "fully connected layers with norms"),),
)
MASK_BLOBS = NameMap(
    renames=(
        *(
            rename
            for i in range(2)
            for rename in _normed_blob(rf"_\[?mask\]?_fcn{i + 1}", rf"mask_head.shared.{i}")
        ),
        *_blob("conv5_mask", "mask_head.upsample"),
        *_blob("mask_fcn_logits", "mask_head.logits"),
    ),
    ignored=(
        (r"_\[?mask\]?_fcn[34]_.+", "further convolutions, which here are one of each branch"),
    ),
    background_first=((r"mask_fcn_logits_.", BackgroundFirst(is_kept=False)),),
    absent=(
        (r"pooling\..+", "layers of single levels, which Detectron does not have"),
        (
            r"mask_head\.(conv|whole|whole_convs\.\d)\..+",
            "the two branches of a mask, of which Detectron has one",
        ),
    ),
)
"""Blobs of Detectron's models with group norm; only some of the layers here have one."""

FASTER_RCNN = BOXES
MASK_RCNN = BOXES.under("", "boxes.") + MASKS
NO_MASKS = NameMap(
    ignored=((r"(_\[?mask|conv5_mask|mask_fcn).*", "masks, which the model does not predict"),)
)
FASTER_RCNN_BLOBS = (BOX_BLOBS_2FC + NO_MASKS, BOX_BLOBS + NO_MASKS)
"""Of two that know a file equally well the first is taken: a model of the second knows more."""
MASK_RCNN_BLOBS = (BOX_BLOBS.under("", "boxes.") + MASK_BLOBS,)

OTHER_PARTS = NameMap(
    ignored=(
        (rf"Conv_Body\.({fpt.SIMPLIFIED})\..+", fpt.NOT_OFFERED),
        (r"Conv_Body\..+", "part of a detector of which only the head is loaded"),
    )
)
OTHER_BLOBS = resnet.OPTIMIZER_AND_CLASSIFIER + NameMap(
    ignored=((r"fpn_.+", "a Feature Pyramid Network, which is not the neck here"),),
    absent=((r"neck\..+", "the neck, which Detectron does not have"),),
)


def whole(head: NameMap, head_blobs: tuple[NameMap, ...]) -> tuple[NameMap, ...]:
    """Return the layouts of a detector on a ResNet: of the published program, and of Detectron.

    Args:
        head: Names of its head in files of the published program.
        head_blobs: Names of its head in Detectron's, one table for each kind of it.
    """
    own = (
        resnet.FPT_BODY.under("Conv_Body.conv_body.", "backbone.")
        + fpt.ALL_PAIRS.under("Conv_Body.", "neck.transformer.")
        + head.under("", "head.")
        + WITHOUT_BATCH_COUNTS
    )
    others = resnet.BLOBS.under("", "backbone.") + OTHER_BLOBS
    return own, *(others + names.under("", "head.") for names in head_blobs)
