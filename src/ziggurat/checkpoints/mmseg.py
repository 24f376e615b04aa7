"""Names in the files of segmenters trained with MMSegmentation: PVT, P2T, GPViT, TopFormer.

PaddleSeg's TopFormer has the names of TopFormer's own repository, as its code says; no file of it
was at hand to check them.
"""

from ziggurat.checkpoints.names import WITHOUT_BATCH_COUNTS, NameMap

_CLASSIFIER = (r"decode_head\.conv_seg\.(weight|bias)", r"head.classifier.logits.\1")


def _conv_norm(official: str, own: str) -> tuple[tuple[str, str], ...]:
    """Name a convolution with its batch norm.

    Args:
        official: Pattern without groups of more than one kind: group 1 is a number, if any.
        own: Our name, which may use it.
    """
    rest = r"\2" if "(" in official else r"\1"
    return (
        (rf"{official}\.conv\.weight", f"{own}.conv.weight"),
        (rf"{official}\.bn\.(.+)", f"{own}.norm.{rest}"),
    )


SEMANTIC_FPN = NameMap(
    renames=(
        _CLASSIFIER,
        *(
            # Every second number is a doubling, which has no entries.
            rename
            for index in range(3)
            for rename in _conv_norm(
                rf"decode_head\.scale_heads\.(\d)\.{2 * index}",
                rf"head.chains.\1.convs.{index}",
            )
        ),
    )
)
UPERNET = NameMap(
    renames=(
        _CLASSIFIER,
        *_conv_norm(r"decode_head\.psp_modules\.(\d)\.1", r"head.pooling.pooled_convs.\1"),
        *_conv_norm(r"decode_head\.bottleneck", "head.pooling.bottleneck"),
        *_conv_norm(r"decode_head\.lateral_convs\.(\d)", r"head.lateral_convs.\1"),
        *_conv_norm(r"decode_head\.fpn_convs\.(\d)", r"head.output_convs.\1"),
        *_conv_norm(r"decode_head\.fpn_bottleneck", "head.bottleneck"),
    )
)
AUXILIARY_FCN = NameMap(
    renames=(
        (r"auxiliary_head\.conv_seg\.(weight|bias)", r"auxiliary_head.classifier.logits.\1"),
        *_conv_norm(r"auxiliary_head\.convs\.0", "auxiliary_head.conv"),
    )
)
SEGFORMER = NameMap(
    renames=(
        _CLASSIFIER,
        *_conv_norm(r"decode_head\.convs\.(\d)", r"head.projections.\1"),
        *_conv_norm(r"decode_head\.fusion_conv", "head.mixing"),
    )
)
TOPFORMER = NameMap(
    renames=(
        _CLASSIFIER,
        # PaddleSeg's files have the same names but for these statistics, and no batch counts.
        (r"decode_head\.linear_fuse\.bn\._mean", "head.mixing.norm.running_mean"),
        (r"decode_head\.linear_fuse\.bn\._variance", "head.mixing.norm.running_var"),
        (r"decode_head\.linear_fuse\.bn\.((?!_).+)", r"head.mixing.norm.\1"),
        (r"decode_head\.linear_fuse\.conv\.weight", "head.mixing.conv.weight"),
    )
) + WITHOUT_BATCH_COUNTS.under("", "head.")
