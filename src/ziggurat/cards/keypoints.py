"""Cards of the detectors that find keypoints."""

from ziggurat.cards.card import ModelCard

KEYPOINT_DETECTORS = (
    ModelCard(
        "keypoint_rcnn_resnet50",
        "keypoint_detection",
        "keypoint_rcnn",
        "resnet50",
        (800, 1280),
        "53.6 box AP, 64.2 keypoint AP, persons of COCO minival2014",
        "github.com/facebookresearch/Detectron, MODEL_ZOO.md; He et al., arXiv:1703.06870",
        ("keypoint_rcnn_resnet50_1x_coco",),
        drop_path_rate=0.0,
    ),
)
