"""Names in the files of detectors trained with MMDetection 2 (as P2T's and PVT's were)."""

from ziggurat.checkpoints.names import NameMap

FPN = NameMap(
    renames=(
        (r"neck\.lateral_convs\.(\d+)\.conv\.(weight|bias)", r"neck.lateral_convs.\1.\2"),
        (r"neck\.fpn_convs\.(\d+)\.conv\.(weight|bias)", r"neck.output_convs.\1.\2"),
    )
)

NORMED_FPN = NameMap(
    renames=(
        (r"neck\.lateral_convs\.(\d+)\.conv\.weight", r"neck.lateral_convs.\1.conv.weight"),
        (r"neck\.lateral_convs\.(\d+)\.bn\.(.+)", r"neck.lateral_convs.\1.norm.\2"),
        (r"neck\.fpn_convs\.(\d+)\.conv\.weight", r"neck.output_convs.\1.conv.weight"),
        (r"neck\.fpn_convs\.(\d+)\.bn\.(.+)", r"neck.output_convs.\1.norm.\2"),
    )
)
"""The FPN of GPViT's detectors, with a batch norm in every convolution."""

OTHER_PARTS = NameMap(
    ignored=(
        (
            r"(neck|bbox_head|rpn_head|roi_head|decode_head|auxiliary_head)\..+",
            "part of a detector or segmenter of which only the backbone is loaded",
        ),
    )
)
"""For loading a bare backbone from the file of a whole system."""
