"""Names of dense heads in files of MMDetection 2: RetinaNet, ATSS, GFL."""

from ziggurat.checkpoints.names import NameMap

_TOWERS = (
    (r"bbox_head\.(cls|reg)_convs\.(\d+)\.conv\.weight", r"head.\1_tower.convs.\2.conv.weight"),
    (r"bbox_head\.(cls|reg)_convs\.(\d+)\.gn\.(weight|bias)", r"head.\1_tower.convs.\2.norm.\3"),
    (r"bbox_head\.scales\.(\d+)\.scale", r"head.scales.\1"),
)

RETINANET = NameMap(
    renames=(
        (r"bbox_head\.(cls_convs|reg_convs)\.(\d+)\.conv\.(weight|bias)", r"head.\1.\2.\3"),
        (r"bbox_head\.retina_cls\.(weight|bias)", r"head.cls_logits.\1"),
        (r"bbox_head\.retina_reg\.(weight|bias)", r"head.box_deltas.\1"),
    )
)

ATSS = NameMap(
    renames=(
        *_TOWERS,
        (r"bbox_head\.atss_cls\.(weight|bias)", r"head.cls_logits.\1"),
        (r"bbox_head\.atss_reg\.(weight|bias)", r"head.box_deltas.\1"),
        (r"bbox_head\.atss_centerness\.(weight|bias)", r"head.centerness.\1"),
    )
)

GFL = NameMap(
    renames=(
        *_TOWERS,
        (r"bbox_head\.gfl_cls\.(weight|bias)", r"head.cls_logits.\1"),
        (r"bbox_head\.gfl_reg\.(weight|bias)", r"head.edges.\1"),
        (r"bbox_head\.integral\.project", r"head.distances"),
    ),
)
