"""Names of detectors that predict sets in files trained with MMDetection 2."""

from ziggurat.checkpoints.names import NameMap

_ENCODER = r"bbox_head\.transformer\.encoder\.layers\.(\d+)"
_DECODER = r"bbox_head\.transformer\.decoder\.layers\.(\d+)"
_ATTENTION = r"(in_proj_weight|in_proj_bias|out_proj\.weight|out_proj\.bias)"

DETR = NameMap(
    renames=(
        (r"bbox_head\.input_proj\.(weight|bias)", r"head.input_proj.\1"),
        # Files of MMDetection before 2.11 say self_attn, multihead_attn, ffn and decoder.norm.
        (
            rf"{_ENCODER}\.(?:attentions\.0|self_attn)\.attn\.{_ATTENTION}",
            r"head.encoder.\1.attention.\2",
        ),
        (
            rf"{_DECODER}\.(?:attentions\.0|self_attn)\.attn\.{_ATTENTION}",
            r"head.decoder.\1.self_attention.\2",
        ),
        (
            rf"{_DECODER}\.(?:attentions\.1|multihead_attn)\.attn\.{_ATTENTION}",
            r"head.decoder.\1.cross_attention.\2",
        ),
        *(
            rename
            for official, own in ((_ENCODER, "encoder"), (_DECODER, "decoder"))
            for rename in (
                (
                    rf"{official}\.(?:ffns\.0|ffn)\.layers\.0\.0\.(weight|bias)",
                    rf"head.{own}.\1.feed_forward.fc1.\2",
                ),
                (
                    rf"{official}\.(?:ffns\.0|ffn)\.layers\.1\.(weight|bias)",
                    rf"head.{own}.\1.feed_forward.fc2.\2",
                ),
                (rf"{official}\.norms\.(\d)\.(weight|bias)", rf"head.{own}.\1.norms.\2.\3"),
            )
        ),
        (
            r"bbox_head\.transformer\.decoder\.(?:post_norm|norm)\.(weight|bias)",
            r"head.norm.\1",
        ),
        (r"bbox_head\.fc_cls\.(weight|bias)", r"head.cls_logits.\1"),
        (r"bbox_head\.reg_ffn\.layers\.0\.0\.(weight|bias)", r"head.box_linears.0.\1"),
        (r"bbox_head\.reg_ffn\.layers\.1\.(weight|bias)", r"head.box_linears.1.\1"),
        (r"bbox_head\.fc_reg\.(weight|bias)", r"head.boxes.\1"),
        (r"bbox_head\.query_embedding\.weight", r"head.queries.weight"),
    )
)

_STAGE = r"roi_head\.bbox_head\.(\d+)"

SPARSE_RCNN = NameMap(
    renames=(
        (r"rpn_head\.init_proposal_bboxes\.weight", "head.proposal_boxes.weight"),
        (r"rpn_head\.init_proposal_features\.weight", "head.proposal_features.weight"),
        (rf"{_STAGE}\.attention\.attn\.{_ATTENTION}", r"head.stages.\1.attention.\2"),
        *(
            (rf"{_STAGE}\.{official}\.(weight|bias)", rf"head.stages.\1.{own}.\2")
            for official, own in (
                (r"attention_norm", "attention_norm"),
                (r"instance_interactive_conv\.dynamic_layer", "dynamic_conv.filters"),
                (r"instance_interactive_conv\.norm_in", "dynamic_conv.norm_in"),
                (r"instance_interactive_conv\.norm_out", "dynamic_conv.norm_out"),
                (r"instance_interactive_conv\.fc_layer", "dynamic_conv.proj"),
                (r"instance_interactive_conv\.fc_norm", "dynamic_conv.norm"),
                (r"instance_interactive_conv_norm", "dynamic_norm"),
                (r"ffn\.layers\.0\.0", "feed_forward.fc1"),
                (r"ffn\.layers\.1", "feed_forward.fc2"),
                (r"ffn_norm", "feed_forward_norm"),
                (r"fc_cls", "cls_logits"),
                (r"fc_reg", "box_deltas"),
            )
        ),
        (rf"{_STAGE}\.cls_fcs\.(\d)\.(weight|bias)", r"head.stages.\1.cls_tower.\2.\3"),
        (rf"{_STAGE}\.reg_fcs\.(\d)\.(weight|bias)", r"head.stages.\1.reg_tower.\2.\3"),
    )
)
