"""Heads that predict sets train on whatever a data set holds, and say the sizes they need."""

import pytest
import torch

import ziggurat
from ziggurat.checkpoints.matching import CLASS_ENTRIES
from ziggurat.checkpoints.mmdet_query import DETR, SPARSE_RCNN
from ziggurat.errors import ZigguratError
from ziggurat.heads.detr import DETRHead
from ziggurat.heads.sparse_rcnn import SparseRCNNHead
from ziggurat.ops.set_matching import match_one_to_one
from ziggurat.types import Detections

SIZES = [(60, 64), (64, 40)]


def objects(count: int, num_classes: int) -> Detections:
    generator = torch.Generator().manual_seed(count)
    corner = 30 * torch.rand(count, 2, generator=generator)
    side = 0.1 + 9 * torch.rand(count, 2, generator=generator)
    labels = torch.arange(count) % num_classes
    return Detections(torch.cat([corner, corner + side], dim=1), torch.ones(count), labels)


def detr(num_classes: int) -> tuple[DETRHead, list[torch.Tensor]]:
    head = DETRHead(12, 8, num_classes, channels=16, num_queries=5, num_layers=2, dropout=0.0)
    return head, [torch.randn(2, 12, 8, 8)]


def sparse_rcnn(num_classes: int) -> tuple[SparseRCNNHead, list[torch.Tensor]]:
    head = SparseRCNNHead(16, (4, 8), num_classes, num_proposals=5, num_stages=2)
    return head, [torch.randn(2, 16, 16, 16), torch.randn(2, 16, 8, 8)]


@pytest.mark.parametrize("build", [detr, sparse_rcnn])
@pytest.mark.parametrize(("count", "num_classes"), [(0, 3), (2, 1), (2, 1203), (1000, 3)])
def test_every_parameter_learns(build, count: int, num_classes: int) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    torch.manual_seed(0)
    head, levels = build(num_classes)
    raw = head(levels, SIZES)
    losses = head.loss(raw, [objects(count, num_classes), objects(0, num_classes)], SIZES)
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite() and total > 0
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    for found in head.decode(raw, SIZES):
        assert len(found) == 5
        assert (found.scores.diff() <= 0).all()
        assert (found.labels < num_classes).all()


def test_padding_is_not_seen_by_detr() -> None:
    head, (level,) = detr(3)
    head.eval()
    changed = level.clone()
    changed[1, :, :, 5:] = 100.0  # beyond the 40 pixels of the second image
    first, second = head([level], SIZES), head([changed], SIZES)
    torch.testing.assert_close(first.boxes_cxcywh, second.boxes_cxcywh)


def test_cheapest_pairs() -> None:
    cost = torch.tensor([[[1.0, 0.0], [0.0, 5.0], [9.0, 9.0]]])
    queries, matched = match_one_to_one(cost)
    assert queries.tolist() == [[0, 1]]
    assert matched.tolist() == [[1, 0]]


def test_costs_that_are_no_number_are_left_to_the_loss() -> None:
    queries, _ = match_one_to_one(torch.full((1, 2, 1), float("nan")))
    assert queries.shape == (1, 1)


@pytest.mark.parametrize("system", ["detr", "sparse_rcnn"])
def test_width_that_attention_cannot_share(system: str) -> None:
    with pytest.raises(ZigguratError, match="multiple of 8.*got 20"):
        ziggurat.create_model(system, backbone="pvt_v2_b0", head_channels=20)


def test_older_names_and_entries_of_classes() -> None:
    official = {
        "roi_head.bbox_head.5.fc_cls.weight": "head.stages.5.cls_logits.weight",
        "bbox_head.fc_cls.bias": "head.cls_logits.bias",
        "bbox_head.transformer.decoder.layers.0.multihead_attn.attn.in_proj_bias": (
            "head.decoder.0.cross_attention.in_proj_bias"
        ),
        "bbox_head.transformer.encoder.layers.1.ffn.layers.1.bias": (
            "head.encoder.1.feed_forward.fc2.bias"
        ),
        "bbox_head.transformer.decoder.norm.weight": "head.norm.weight",
    }
    names = DETR + SPARSE_RCNN
    for theirs, ours in official.items():
        assert names.own_name(theirs) == ours
        if "fc_cls" in theirs:
            assert ours.startswith(CLASS_ENTRIES)


def test_mixed_precision_does_not_round_boxes() -> None:
    head, levels = sparse_rcnn(3)
    regions: list[torch.Tensor] = []
    head.pooling.register_forward_pre_hook(lambda _, inputs: regions.extend(inputs[1]))
    other, maps = detr(3)
    with torch.autocast("cpu", torch.bfloat16):
        head([level.bfloat16() for level in levels], SIZES)
        boxes = other(maps, SIZES).boxes_cxcywh
    assert {tensor.dtype for tensor in (*regions, boxes)} == {torch.float32}
