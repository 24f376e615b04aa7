"""Cards of detectors and segmenters with a Feature Pyramid Transformer.

Its authors published neither weights nor a number that their code can be held to: the released
configurations do not run. The paper gives gains over other pyramids.
"""

from ziggurat.cards.card import FPT_PAPER, ModelCard
from ziggurat.types import ImageSize, Task

GAIN = "{} more than without it, COCO test-dev, in the paper; not said for which backbone and head"
BOXES, MASKS = GAIN.format("8.5 box AP"), GAIN.format("8.5 box AP, 6.0 mask AP")
SEGMENTER_GAIN = "1.7 mIoU more than without it, ADE20K val, in the paper, on dilated ResNet-101"
CODE = f"github.com/dongzhang89/FPT; {FPT_PAPER}"


def _with_fpt(
    system: str, backbone: str, *recipes: str, gain: str = "", size: ImageSize = (800, 1280)
) -> ModelCard:
    name = f"{system}_fpt_{backbone.removesuffix('_adapter')}"
    tasks: dict[str, Task] = {
        "mask_rcnn": "instance_segmentation",
        "mask_rcnn_panet": "instance_segmentation",
        "semantic_fpn": "semantic_segmentation",
    }
    return ModelCard(
        name,
        tasks.get(system, "detection"),
        system,
        backbone,
        size,
        gain or "no number published with this backbone",
        CODE,
        tuple(f"{name}_{recipe}" for recipe in recipes),
        drop_path_rate=0.0 if backbone.startswith("resnet") else 0.1,
        neck="fpt",
    )


WITH_FPT = (
    _with_fpt("faster_rcnn", "resnet50", "120k_coco", gain=BOXES),
    _with_fpt("mask_rcnn", "resnet50", "180k_coco", "24k_cityscapes", "18k_voc2012", gain=MASKS),
    _with_fpt("mask_rcnn", "resnet101", "180k_coco", gain=MASKS),
    _with_fpt("mask_rcnn", "resnet152", "180k_coco"),  # a body of the code, not of the paper
    # As released: PANet's heads, and a body from Caffe.
    _with_fpt("faster_rcnn_panet", "resnet50_caffe", "120k_coco", gain=BOXES),
    _with_fpt("faster_rcnn_panet_2fc", "resnet50_caffe", "120k_coco", gain=BOXES),
    _with_fpt("mask_rcnn_panet", "resnet50_caffe", "180k_coco", gain=MASKS),
    _with_fpt("mask_rcnn", "pvt_v2_b2", "1x_coco"),
    _with_fpt("mask_rcnn", "p2t_small", "1x_coco"),
    _with_fpt("retinanet", "gpvit_l1_adapter", "1x_coco"),
    _with_fpt(
        "semantic_fpn",
        "pvt_v2_b2",
        "80k_ade20k",
        "80k_cityscapes",
        "40k_voc2012",
        gain=SEGMENTER_GAIN,
        size=(512, 512),
    ),
)
